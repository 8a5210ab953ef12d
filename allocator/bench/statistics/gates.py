"""
The gates of a run. They judge the generator, the recorder and the clocks, never the queue.

A failed gate makes the claims that use the run inconclusive, by its name.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np
import pandas as pd

from allocator.bench.statistics.frames import (
    durations_of_attempts,
    durations_of_jobs,
    flags,
    rows_of_jobs,
    seconds,
)
from allocator.bench.statistics.percentiles import SHOWN, Latency, Values, least_count, rank
from allocator.bench.statistics.steadiness import BATCHES, LEAST_SAMPLES, batch_means, time_average
from allocator.bench.statistics.summary import Summary

LATENESS_BOUND = 0.20
LAW_BOUND = 0.05
LAW_ERRORS = 3.0
DRIFT_BOUND_S = 0.001
ROUNDING_S = 1e-9
"""Of the difference of two instants, which are kept in seconds as floating-point numbers."""


class Status(StrEnum):
    """Of a gate."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class Gate:
    """
    One gate's result.

    Args:
        value, bound: As the sentence explains them; None where the gate does not apply, or has no such number.
    """

    name: str
    status: Status
    value: float | None
    bound: float | None
    sentence: str


@dataclass(frozen=True)
class Clocks:
    """
    What the recorder noted of the clocks.

    Args:
        boot_ids: Of the machine, as each recording process read it; CLOCK_MONOTONIC compares within one boot only.
        offset_start_s, offset_end_s: The server's clock less ours before and after the run; None: no server.
    """

    boot_ids: frozenset[str]
    offset_start_s: float | None = None
    offset_end_s: float | None = None


LATENESS = "the generator kept its schedule"
LITTLE = "Little's law"
UTILISATION = "utilisation law"
NEGATIVE = "no negative interval"
LARGEST = "the largest is at or above p99.9"
BOOT = "one boot"
DRIFT = "clocks did not drift apart"


def gates(
    jobs: pd.DataFrame,
    attempts: pd.DataFrame,
    backlog: pd.DataFrame,
    figures: Summary,
    clocks: Clocks | None = None,
    tolerance_s: float = 0.0,
    *,
    disturbed: bool = False,
) -> list[Gate]:
    """
    All gates of a run, in the order of their names above.

    Args:
        figures: The summary of the same rows.
        clocks: None where nothing was noted of them; their gates then do not apply.
        tolerance_s: See `negative_gate`.
        disturbed: Faults were made: what a server forgets or a killed worker holds obeys no law of steady systems.
    """
    begin_s, end_s = figures.begin_s or 0.0, figures.end_s or 0.0
    steady = False if disturbed else figures.steadiness.steady
    return [
        lateness_gate(jobs),
        little_gate(jobs, attempts, backlog, begin_s, end_s, steady),
        utilisation_gate(attempts, backlog, begin_s, end_s, steady),
        negative_gate(jobs, attempts, tolerance_s),
        largest_gate(figures.tables),
        *clock_gates(clocks or Clocks(frozenset())),
    ]


def lateness_gate(jobs: pd.DataFrame) -> Gate:
    """
    Whether timing from the intended and from the actual send give nearly the same p99 of what is done.

    The delay that a job asked for is taken off both. With fewer than 1,000 jobs p90 is judged, below 100 the median.
    """
    kept = flags(jobs, "state", ["done"]) & ~jobs["warmup"].to_numpy(dtype=bool)
    end = seconds(jobs, "settled_at") - np.nan_to_num(seconds(jobs, "delay_s"))
    intended, sent = end - seconds(jobs, "intended_at"), end - seconds(jobs, "enqueue_started_at")
    known = kept & ~np.isnan(intended) & ~np.isnan(sent)
    count = int(known.sum())
    name = next((name for name in ("p99", "p90", "p50") if count >= least_count(SHOWN[name])), None)
    if name is None:
        return _does_not_apply(LATENESS, f"{count} jobs were done after the warm-up, too few")
    at = rank(SHOWN[name], count)
    from_intended, from_sent = (float(np.sort(values[known])[at]) for values in (intended, sent))
    apart = abs(from_intended - from_sent)
    share = apart / from_sent if from_sent > 0 else (math.inf if apart else 0.0)
    return Gate(
        LATENESS,
        Status.PASSED if share <= LATENESS_BOUND else Status.FAILED,
        share,
        LATENESS_BOUND,
        f"{name} is {_ms(from_intended)} from the intended send and {_ms(from_sent)} from the actual one: "
        f"{share:.1%} apart, {LATENESS_BOUND:.0%} allowed.",
    )


def little_gate(
    jobs: pd.DataFrame,
    attempts: pd.DataFrame,
    backlog: pd.DataFrame,
    begin_s: float,
    end_s: float,
    steady: bool | None,
) -> Gate:
    """
    Jobs in the system, from their enqueue until they were settled, against the sampled ready, scheduled, leased.

    The queue lets go of a job at some instant between the end of its last attempt and the reply that the recorder
    notes: where jobs are short, the time between is much of their time there. So the samples must lie between the two.
    """
    was_there = ~flags(jobs, "state", ["unknown"])
    entered = np.where(was_there, seconds(jobs, "enqueued_at"), np.nan)
    unsettled = flags(jobs, "state", ["waiting", "leased"])
    left = np.where(unsettled, np.nan, seconds(jobs, "settled_at"))
    of_job = rows_of_jobs(jobs, attempts)
    ended = left.copy()
    # What ended in another way than by an attempt, as by a cancel, left when that was done.
    last = seconds(attempts, "settled_at") == left[of_job]
    ended[of_job[last]] = _ended(attempts)[last]
    sampled = sum((seconds(backlog, column) for column in ("ready", "scheduled", "leased")), np.zeros(len(backlog)))
    samples = seconds(backlog, "at"), sampled
    return _law(LITTLE, "jobs in the system", (entered, ended), (entered, left), samples, begin_s, end_s, steady)


def utilisation_gate(
    attempts: pd.DataFrame, backlog: pd.DataFrame, begin_s: float, end_s: float, steady: bool | None
) -> Gate:
    """
    Leases held, from the dequeue until they were settled, against the sampled leased.

    As in Little's law, the samples must lie between the end of the attempt and the reply.
    """
    leased, heard = seconds(attempts, "leased_at"), seconds(attempts, "settled_at")
    sampled = seconds(backlog, "at"), seconds(backlog, "leased")
    return _law(
        UTILISATION, "leases held", (leased, _ended(attempts)), (leased, heard), sampled, begin_s, end_s, steady
    )


def _ended(attempts: pd.DataFrame) -> Values:
    """When each attempt had come to its end; unknown where nobody heard so, for it may still be under way."""
    heard = seconds(attempts, "settled_at")
    return np.where(np.isnan(heard), np.nan, np.fmin(seconds(attempts, "finished_at"), heard))


def negative_gate(jobs: pd.DataFrame, attempts: pd.DataFrame, tolerance_s: float = 0.0) -> Gate:
    """
    Whether any duration runs backwards.

    Args:
        tolerance_s: As well as the server's clock is known; what is within that is no fault of a clock.
    """
    tolerance_s += ROUNDING_S
    durations = {f"jobs.{name}": values for name, values in durations_of_jobs(jobs).items()}
    durations |= {f"attempts.{name}": values for name, values in durations_of_attempts(attempts).items()}
    leased = seconds(attempts, "leased_at")
    durations["attempts.leased_at - due_at"] = leased - seconds(attempts, "due_at")
    durations["attempts.started_at - leased_at"] = seconds(attempts, "started_at") - leased
    count, least, which = 0, 0.0, ""
    for name, values in durations.items():
        count += int((values < -tolerance_s).sum())
        smallest = float(np.fmin.reduce(values, initial=np.inf))
        if smallest < least:
            frame = jobs if name.startswith("jobs.") else attempts
            least, which = smallest, f"{name} of job {frame['job'].iloc[int(np.nanargmin(values))]}"
    if not count:
        sentence = f"None of {sum(map(len, durations.values())):,} durations is below {-tolerance_s:g} s."
        return Gate(NEGATIVE, Status.PASSED, least, -tolerance_s, sentence)
    sentence = f"{count:,} durations are negative; the least is {which}: {least:.6f} s."
    return Gate(NEGATIVE, Status.FAILED, least, -tolerance_s, sentence)


def largest_gate(tables: Mapping[str, Latency]) -> Gate:
    """Whether each table is in order: percentiles rise, and the maximum is not below the last of them."""
    judged = 0
    for name, table in tables.items():
        ladder = [value for value in (*table.percentiles_s.values(), table.max_s) if value is not None]
        judged += len(ladder) > 1
        if any(lower > upper for lower, upper in pairwise(ladder)):
            steps = ", ".join(f"{value:.6f}" for value in ladder)
            return Gate(LARGEST, Status.FAILED, ladder[-1], max(ladder), f"{name} does not rise: {steps} s.")
    if not judged:
        return _does_not_apply(LARGEST, "no table has a percentile")
    return Gate(LARGEST, Status.PASSED, None, None, f"In each of {judged} tables percentiles rise up to the maximum.")


def clock_gates(clocks: Clocks, bound_s: float = DRIFT_BOUND_S) -> list[Gate]:
    """Whether all instants come from one boot of one machine, and the server's clock went as ours did."""
    boots = len(clocks.boot_ids)
    if boots:
        status = Status.PASSED if boots == 1 else Status.FAILED
        boot = Gate(BOOT, status, float(boots), 1.0, f"Boots named by the recordings: {boots}; 1 allowed.")
    else:
        boot = _does_not_apply(BOOT, "no recording names its boot")
    if clocks.offset_start_s is None or clocks.offset_end_s is None:
        return [boot, _does_not_apply(DRIFT, "there is no clock but ours")]
    drift = abs(clocks.offset_end_s - clocks.offset_start_s)
    status = Status.PASSED if drift <= bound_s else Status.FAILED
    sentence = f"The server's clock moved by {_ms(drift)} against ours during the run, {_ms(bound_s)} allowed."
    return [boot, Gate(DRIFT, status, drift, bound_s, sentence)]


def _law(
    name: str,
    what: str,
    least: tuple[Values, Values],
    most: tuple[Values, Values],
    samples: tuple[Values, Values],
    begin_s: float,
    end_s: float,
    steady: bool | None,
) -> Gate:
    """
    Samples against exact integrals of the fewest and the most that the events allow.

    The error is that of their difference over ten pieces of time: where both rise and fall together, sampling explains
    little, and a recorder that loses events has nowhere to hide.

    Args:
        least, most: Begins and ends; every interval of the first lies within its own of the second.
    """
    at, values = samples
    inside = (at >= begin_s) & (at <= end_s) & ~np.isnan(values)
    if not steady:
        return _does_not_apply(name, "the run was not steady, or it was disturbed by faults")
    if inside.sum() < LEAST_SAMPLES:
        return _does_not_apply(name, f"{inside.sum()} samples of the backlog, {LEAST_SAMPLES} are needed")
    _, sampled = batch_means(at[inside], values[inside], begin_s, end_s)
    if len(sampled) < BATCHES:
        return _does_not_apply(name, "the backlog was not sampled throughout")
    edges = np.linspace(begin_s, end_s, BATCHES + 1)
    fewest, largest = time_average(*least, edges), time_average(*most, edges)
    # The bound that the samples are beyond; between the two they are right.
    seen = float(sampled.mean())
    exact = fewest if seen < fewest.mean() else largest if seen > largest.mean() else sampled
    apart = sampled - exact
    error = float(apart.std(ddof=1)) / math.sqrt(BATCHES)
    mean, difference = float(exact.mean()), float(apart.mean())
    share = abs(difference) / mean if mean > 0 else (math.inf if difference else 0.0)
    errors = abs(difference) / error if error > 0 else (math.inf if difference else 0.0)
    failed = share > LAW_BOUND and errors > LAW_ERRORS
    low, high = float(fewest.mean()), float(largest.mean())
    known = f"{high:.3f}" if f"{low:.3f}" == f"{high:.3f}" else f"{low:.3f} to {high:.3f}"
    return Gate(
        name,
        Status.FAILED if failed else Status.PASSED,
        share,
        LAW_BOUND,
        f"{what.capitalize()}: {known} on average from the events, {seen:.3f} from the samples; "
        f"{share:.1%} apart, which is {errors:.1f} standard errors. "
        f"It fails beyond {LAW_BOUND:.0%} and {LAW_ERRORS:g} of them.",
    )


def _does_not_apply(name: str, why: str) -> Gate:
    return Gate(name, Status.NOT_APPLICABLE, None, None, f"Not applicable: {why}.")


def _ms(seconds_: float) -> str:
    return f"{seconds_ * 1e3:.3g} ms"
