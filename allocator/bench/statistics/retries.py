"""Retries, backoff and dead letters against what was promised."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from allocator.bench.statistics.frames import durations_of_attempts, first_starts, flags, rows_of_jobs, seconds
from allocator.bench.statistics.percentiles import SHOWN, Latency, Values, latency
from allocator.domain.backoff import Backoff

CHARGED = ("failed", "lost")
"""Outcomes that count as a failed attempt; a release does not."""


@dataclass(frozen=True)
class Retries:
    """
    What became of failed attempts.

    Args:
        attempts_per_job: Attempts that a job took -> how many jobs did; released ones are counted too.
        pickup_error: Start minus due, of retries and of delayed jobs.
        pickup_error_by_attempt: The same, by the number of the attempt (1: delayed jobs).
        time_to_dead: Intended arrival until the last attempt of a dead job was settled.
        errors: Error -> attempts that ended in it.
    """

    attempts_per_job: dict[int, int]
    pickup_error: Latency
    pickup_error_by_attempt: dict[int, Latency]
    time_to_dead: Latency
    errors: dict[str, int]


@dataclass(frozen=True)
class StormEffect:
    """
    The first wait of jobs that were first due during a storm of retries, beside that of the others.

    Args:
        ratio: Percentile -> during over outside; only those that both sides have enough jobs for. Of one run: without
            an interval, it says what happened, not what will.
    """

    begin_s: float
    end_s: float
    during: Latency
    outside: Latency
    ratio: dict[str, float]


def retries(jobs: pd.DataFrame, attempts: pd.DataFrame, of_job: np.ndarray) -> Retries:
    """
    Count and time the attempts of a run. The warm-up is in it: a retry is late or not whenever it is due.

    Args:
        of_job: From `rows_of_jobs`.
    """
    number = attempts["attempt"].to_numpy(dtype=np.int64)
    error = pickup_errors(jobs, attempts, of_job)
    waited = ~np.isnan(error) | (number > 1)
    tried = np.bincount(of_job, minlength=len(jobs))
    counts = np.bincount(tried) if len(tried) else np.zeros(0, dtype=np.int64)
    dead = flags(jobs, "state", ["dead"])
    took = seconds(jobs, "settled_at") - seconds(jobs, "intended_at")
    return Retries(
        attempts_per_job={taken: int(count) for taken, count in enumerate(counts) if count},
        pickup_error=latency(error[waited]),
        pickup_error_by_attempt={int(n): latency(error[waited & (number == n)]) for n in np.unique(number[waited])},
        time_to_dead=latency(took[dead]),
        errors={str(name): int(count) for name, count in attempts["error"].value_counts().items()},
    )


def pickup_errors(jobs: pd.DataFrame, attempts: pd.DataFrame, of_job: np.ndarray) -> Values:
    """
    Start minus due of retries and of delayed jobs, in seconds; NaN for every other attempt and for what never started.

    Args:
        of_job: From `rows_of_jobs`.
    """
    was_delayed = np.nan_to_num(seconds(jobs, "delay_s"))[of_job] > 0
    waited = was_delayed | (attempts["attempt"].to_numpy(dtype=np.int64) > 1)
    return np.where(waited, durations_of_attempts(attempts)["wait_s"], np.nan)


def backoff_errors(jobs: pd.DataFrame, attempts: pd.DataFrame, backoff: Backoff) -> Values:
    """
    How far the delay after each failed attempt was from the one promised, in seconds, positive if it was longer.

    The delay runs from the end of the settling, as the client saw it, to the next due time; the server starts it
    somewhat earlier, so that a right delay looks shorter by up to the time of one call. With jitter every delay of its
    range is right. An expired lease has no delay, and is left out; so is what was given up.

    Returns:
        One value for each attempt with the outcome `failed` and a next due time, in the order of the frame.
    """
    charged = flags(attempts, "outcome", CHARGED)
    of_job = rows_of_jobs(jobs, attempts)
    order = np.lexsort((seconds(attempts, "leased_at"), attempts["attempt"].to_numpy(dtype=np.int64), of_job))
    failures = pd.Series(charged[order]).groupby(of_job[order]).cumsum().to_numpy(dtype=np.int64)
    count = np.empty_like(failures)
    count[order] = failures
    delays = seconds(attempts, "next_due_at") - seconds(attempts, "settled_at")
    chosen = flags(attempts, "outcome", ["failed"]) & ~np.isnan(delays)
    plain = Backoff(base=backoff.base, factor=backoff.factor, cap=backoff.cap)
    numbers, index = np.unique(count[chosen], return_inverse=True)
    most = np.array([plain.delay(int(n)) for n in numbers], dtype=np.float64)[index]
    return delays[chosen] - np.clip(delays[chosen], most * (1 - backoff.jitter), most)


def storm_effect(
    jobs: pd.DataFrame, attempts: pd.DataFrame, begin_s: float | None = None, end_s: float | None = None
) -> StormEffect | None:
    """
    What a storm of retries does to fresh jobs: how long they wait for their first start. The warm-up is left out.

    Args:
        begin_s, end_s: The storm; None: from the start of the first retry to that of the last.

    Returns:
        None where no retry started and no storm was named.
    """
    of_job = rows_of_jobs(jobs, attempts)
    number = attempts["attempt"].to_numpy(dtype=np.int64)
    retried = seconds(attempts, "started_at")[number > 1]
    retried = retried[~np.isnan(retried)]
    if begin_s is None or end_s is None:
        if not len(retried):
            return None
        begin_s = float(retried.min()) if begin_s is None else begin_s
        end_s = float(retried.max()) if end_s is None else end_s
    due, started = first_starts(jobs, attempts, of_job)
    inside, measured = (due >= begin_s) & (due <= end_s), ~jobs["warmup"].to_numpy(dtype=bool)
    wait = started - due
    during, outside = latency(wait[measured & inside]), latency(wait[measured & ~inside])
    ratio = {}
    for name in SHOWN:
        numerator, denominator = during.percentiles_s[name], outside.percentiles_s[name]
        if numerator is not None and denominator:
            ratio[name] = numerator / denominator
    return StormEffect(begin_s, end_s, during, outside, ratio)
