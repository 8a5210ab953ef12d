"""Percentiles of one run: values that were seen, and only as far out as the number of jobs allows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Values: TypeAlias = npt.NDArray[np.float64]

SHOWN: Mapping[str, float] = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
"""Name -> share of the values, as in every table."""

BEYOND = 10
"""So many values must be expected beyond a percentile before it is printed."""

ROUNDING = 1e-9
"""0.07 * 100 is a hair above 7 in floating point, and must not become the eighth value."""


@dataclass(frozen=True)
class Latency:
    """
    One row of a latency table. All in seconds.

    Args:
        count: Values that it is made of.
        missing: Values that are not known, such as the end of a job that never ended; they are in nothing else here.
        mean_s, max_s: None where there is no value.
        percentiles_s: Name as in SHOWN -> value; None where there are too few values for it.
    """

    count: int
    missing: int
    mean_s: float | None
    max_s: float | None
    percentiles_s: dict[str, float | None]


def least_count(probability: float) -> int:
    """How many values a percentile needs: 10 / (1 - probability), so 1,000 for p99."""
    return math.ceil(BEYOND / (1 - _checked(probability)) - ROUNDING)


def rank(probability: float, count: int) -> int:
    """Index, in ascending order, of the smallest of `count` values that a share of at least `probability` is up to."""
    return max(0, math.ceil(_checked(probability) * count - ROUNDING) - 1)


def percentile(values: Values, probability: float) -> float | None:
    """
    The smallest value that at least this share of the values does not exceed.

    That is the nearest rank, type 1 of Hyndman & Fan, Sample Quantiles in Statistical Packages (1996): a value that was
    seen, never one between two.

    Args:
        values: Without NaN, in any order.
        probability: At least 0 and below 1.

    Returns:
        In the unit of the values; None where there are fewer than `least_count(probability)`.
    """
    if len(values) < least_count(probability):
        return None
    at = rank(probability, len(values))
    return float(np.partition(values, at)[at])


def latency(values: Values) -> Latency:
    """The row of a table for durations in seconds; NaN is counted as missing."""
    known = np.sort(values[~np.isnan(values)])
    count = len(known)
    return Latency(
        count=count,
        missing=len(values) - count,
        mean_s=float(known.mean()) if count else None,
        max_s=float(known[-1]) if count else None,
        percentiles_s={
            name: float(known[rank(probability, count)]) if count >= least_count(probability) else None
            for name, probability in SHOWN.items()
        },
    )


def _checked(probability: float) -> float:
    if not 0 <= probability < 1:
        raise ValueError(f"probability must be at least 0 and below 1, not {probability!r}; p99 is 0.99")
    return probability
