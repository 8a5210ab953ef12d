"""The rate that a system holds, found by bisection. The answer is an interval: it holds the one end, not the other."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from allocator.bench.statistics.summary import Summary

MOST_PROBES = 8
BELOW, ABOVE = 0.95, 1.1
"""Of the answer's ends: what must pass, and what must fail, in longer runs."""

NARROW = 1.05
"""An interval whose ends are within this factor is not searched further."""


@dataclass(frozen=True)
class Probe:
    """
    One run at one rate.

    Args:
        passed: Whether the system held the rate.
        generator_kept: Whether the schedule was kept; if not, the probe says nothing about the system.
        reason: Why it did not pass; empty if it did.
        wait_p99_s: None where there are too few jobs.
    """

    rate_per_s: float
    passed: bool
    generator_kept: bool = True
    reason: str = ""
    wait_p99_s: float | None = None


Measure = Callable[[float], Probe]
"""Measures at a rate in jobs a second."""


@dataclass(frozen=True)
class Capacity:
    """
    The answer.

    Args:
        low_per_s: The highest rate that passed; 0 where none did.
        high_per_s: The lowest rate that did not; None where all passed.
        confirmed: Whether longer runs agreed; None where they could not be made.
        probes, confirmations: In the order in which they were measured.
    """

    low_per_s: float
    high_per_s: float | None
    confirmed: bool | None
    sentence: str
    probes: list[Probe] = field(default_factory=list)
    confirmations: list[Probe] = field(default_factory=list)


def search(low_per_s: float, high_per_s: float, probe: Measure, confirm: Measure | None = None) -> Capacity:
    """
    Find the capacity between two rates in at most 8 probes, then confirm it.

    Halves the interval on the scale of ratios. 0.95 of its low end must then pass, and 1.1 of its high end must fail.
    The low end is tried once more where it fails, since nothing would be searched after it.

    Args:
        low_per_s: Expected to pass.
        high_per_s: Expected to fail.
        confirm: A longer probe; None: the same.
    """
    if not 0 < low_per_s < high_per_s or not math.isfinite(high_per_s):
        raise ValueError(f"low_per_s must be above 0 and below high_per_s, not {low_per_s:g} and {high_per_s:g}")
    probes = [probe(low_per_s)]
    if not probes[0].passed:
        probes.append(probe(low_per_s))
    if not probes[-1].passed:
        return _answer(0.0, low_per_s, None, probes, [])
    probes.append(probe(high_per_s))
    if probes[-1].passed:
        return _answer(high_per_s, None, None, probes, [])
    low, high = low_per_s, high_per_s
    while len(probes) < MOST_PROBES and high / low > NARROW:
        found = probe(math.sqrt(low * high))
        probes.append(found)
        low, high = (found.rate_per_s, high) if found.passed else (low, found.rate_per_s)
    confirm = confirm or probe
    confirmations = [confirm(BELOW * low), confirm(ABOVE * high)]
    agreed = confirmations[0].passed and not confirmations[1].passed
    return _answer(low, high, agreed, probes, confirmations)


def judge(rate_per_s: float, summary: Summary, slo_wait_p99_s: float, generator_kept: bool) -> Probe:
    """
    Whether a run held its rate: p99 of the wait within the objective, no growing backlog, nothing lost, schedule kept.

    What cannot be told does not pass, and says so.
    """
    wait, reasons = summary.tables["wait"].percentiles_s["p99"], []
    if not generator_kept:
        reasons.append("the generator did not keep its schedule")
    if wait is None:
        reasons.append(f"{summary.tables['wait'].count} waits are too few for p99")
    elif wait > slo_wait_p99_s:
        reasons.append(f"p99 of the wait is {wait * 1e3:.3g} ms, over {slo_wait_p99_s * 1e3:.3g} ms")
    if summary.steadiness.steady is None:
        reasons.append("too few samples of the backlog to tell whether it grows")
    elif (summary.steadiness.slope_low_per_s or 0.0) > 0:
        reasons.append("the backlog grows")
    if summary.unsettled:
        reasons.append(f"{summary.unsettled} accepted jobs have no end")
    return Probe(rate_per_s, not reasons, generator_kept, "; ".join(reasons), wait)


def _answer(
    low: float, high: float | None, confirmed: bool | None, probes: list[Probe], confirmations: list[Probe]
) -> Capacity:
    if high is None:
        sentence = f"At least {low:,.0f} jobs/s: the highest rate that was tried passed."
    elif not low:
        sentence = f"Below {high:,.0f} jobs/s: the lowest rate that was tried failed twice ({probes[-1].reason})."
    else:
        sentence = f"Between {low:,.0f} and {high:,.0f} jobs/s, in {len(probes)} probes."
    if confirmed is False:
        below, above = confirmations
        sentence += " Not confirmed:"
        if not below.passed:
            sentence += f" {below.rate_per_s:,.0f} jobs/s failed in a longer run ({below.reason})."
        if above.passed:
            sentence += f" {above.rate_per_s:,.0f} jobs/s passed in a longer run."
    elif confirmed:
        sentence += " Confirmed by longer runs."
    failed = [found for found in probes if not found.passed and found.rate_per_s == high]
    if failed and not failed[0].generator_kept:
        sentence += " The upper end is the load generator's, not the queue's."
    return Capacity(low, high, confirmed, sentence, probes, confirmations)
