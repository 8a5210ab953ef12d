"""
Intervals over runs. The run is the unit: the jobs of one run wait behind each other and say the same thing twice.

Which method is used was decided by its coverage (`calibration.py`, and the tests of it): on M/M/1 runs of 100
relaxation times or more, the intervals here cover what is true in 92 to 98 of 100 cases, of 5 and of 10 runs alike.
That is what "95 %" means on a page. With less than that there is no interval, only the range of what was seen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from allocator.bench.statistics.percentiles import Values, least_count, rank

LEVEL = 0.95
"""What the page may say of an interval."""

LEAST_RUNS = 5
"""Of fewer, even the lowest and the highest hold the median between them too seldom: of 4 in 7 of 8 cases."""

LEAST_RELAXATIONS = 100.0
"""
A shorter run has not forgotten how it began often enough: what should cover p99 in 95 % of cases does so in 82 % at 14
relaxation times, and in 89 to 92 % at 40.
"""

NOMINAL = 0.97
"""The level at which Student's t is read for a percentile. Read at 0.95 it covers 90 to 94 %, for p99 is skewed."""

RESAMPLES = 1999
SEED = 20_240_229
"""Fixed, so that the same rows give the same interval wherever they are analysed."""


@dataclass(frozen=True)
class Interval:
    """
    A figure with what is known of its uncertainty.

    Args:
        value: Over all runs.
        low, high: In the unit of the value, both within.
        runs: How many there were.
        level: 0.95; or None where no interval may be claimed: then low and high are the least and the most of the runs.
    """

    value: float
    low: float
    high: float
    runs: int
    level: float | None


def percentile_interval(
    runs: Sequence[Values], probability: float, relaxation_times: float | None = None
) -> Interval | None:
    """
    A percentile of all jobs of all runs, with the interval that the differences between the runs give.

    The rows of the runs are pooled: percentiles are never averaged, as the mean of p99s is biased. The error is the
    jackknife's over runs (Tukey 1958; Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11), of the
    logarithm, with Student's t of (runs - 1) degrees of freedom. Values that are not above zero have no logarithm; with
    such a percentile the error is that of the value itself.

    Args:
        runs: The values of each run, without NaN, warm-up cut off.
        probability: 0.99 for p99.
        relaxation_times: How many the shortest run lasted, see `relaxation_times`; None if the runs are known to be
            long enough.

    Returns:
        None where a run has fewer than 10 / (1 - probability) values.
    """
    if not runs or min(map(len, runs)) < least_count(probability):
        return None
    pooled = np.concatenate(runs)
    order = np.argsort(pooled, kind="stable")
    pooled = pooled[order]
    run_of = np.repeat(np.arange(len(runs)), [len(run) for run in runs])[order]
    value = float(pooled[rank(probability, len(pooled))])
    alone = [pooled[run_of == number] for number in range(len(runs))]
    singles = [float(run[rank(probability, len(run))]) for run in alone]
    too_short = relaxation_times is not None and relaxation_times < LEAST_RELAXATIONS
    if len(runs) < LEAST_RUNS or too_short:
        return Interval(value, min(singles), max(singles), len(runs), None)
    others = [pooled[run_of != number] for number in range(len(runs))]
    without = np.array([other[rank(probability, len(other))] for other in others])
    is_positive = value > 0 and bool((without > 0).all())
    scaled = np.log(without) if is_positive else without
    middle = np.log(value) if is_positive else value
    count = len(runs)
    error = float(np.sqrt((count - 1) / count * ((scaled - scaled.mean()) ** 2).sum()))
    reach = float(special.stdtrit(count - 1, (1 + NOMINAL) / 2)) * error
    low, high = (float(np.exp(end)) if is_positive else float(end) for end in (middle - reach, middle + reach))
    return Interval(value, low, high, count, LEVEL)


def median_interval(figures: Sequence[float]) -> Interval:
    """
    The median of a figure that each run gives once, such as its throughput.

    Percentile bootstrap over runs; of 5 runs it reaches from the least to the most, which hold the median between them
    in 15 of 16 cases whatever the distribution.
    """
    values = _checked("figures", figures)
    return _bootstrapped((values,), lambda sample, axis=-1: np.median(sample, axis=axis), values)


def ratio_interval(baseline: Sequence[float], candidate: Sequence[float]) -> Interval:
    """
    Median of the candidate's runs over median of the baseline's, runs of the same schedule being paired.

    Percentile bootstrap over pairs.

    Args:
        baseline: A figure of each run, above zero; `candidate` in the same order of schedules, zero allowed.
    """
    before, after = _checked("baseline", baseline), _checked("candidate", candidate)
    if len(before) != len(after):
        raise ValueError(f"{len(before)} runs of the baseline cannot be paired with {len(after)} of the candidate")
    if (before <= 0).any():
        number = int(np.argmax(before <= 0))
        raise ValueError(f"baseline, run {number + 1}: there is no ratio to {before[number]:g}; look at that run")

    def ratio(first: Any, second: Any, axis: int = -1) -> Any:
        return np.median(second, axis=axis) / np.median(first, axis=axis)

    return _bootstrapped((before, after), ratio, after / before)


def relaxation_times(duration_s: float, service_s: float, utilisation: float, workers: int = 1) -> float:
    """
    How often a queue forgets its past within a run: duration over the relaxation time.

    The relaxation time of M/M/1 is 1 / (mu (1 - sqrt(rho))^2) (Cohen, The Single Server Queue, 1982); `workers` servers
    are taken for one that is so many times as fast, which is what they are when there is work for all of them.

    Args:
        duration_s: Of the run without its warm-up.
        service_s: Mean service time.
        utilisation: Share of the workers' time in use; at 1 or above a queue never forgets, and the answer is 0.
    """
    if utilisation >= 1:
        return 0.0
    if service_s <= 0:
        return math.inf
    return duration_s * workers * (1 - math.sqrt(max(utilisation, 0.0))) ** 2 / service_s


def _bootstrapped(samples: tuple[Values, ...], statistic: Any, singles: Values) -> Interval:
    count = len(samples[0])
    value: float = statistic(*samples).item()
    low, high, level = float(singles.min()), float(singles.max()), None
    if count >= LEAST_RUNS:
        # A second to load, and needed by few.
        from scipy import stats

        found = stats.bootstrap(
            samples,
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=RESAMPLES,
            confidence_level=LEVEL,
            method="percentile",
            rng=np.random.default_rng(SEED),
        ).confidence_interval
        low, high, level = float(found.low), float(found.high), LEVEL
    return Interval(value, low, high, count, level)


def _checked(name: str, figures: Sequence[float]) -> Values:
    values = np.asarray(figures, dtype=np.float64)
    if not len(values):
        raise ValueError(f"{name}: there are no runs")
    if not np.isfinite(values).all() or (values < 0).any():
        number = int(np.argmax(~np.isfinite(values) | (values < 0)))
        raise ValueError(f"{name}, run {number + 1}: {values[number]} is no figure of a run; look at that run")
    return values
