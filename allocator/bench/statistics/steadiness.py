"""Whether a run was steady: only then do its percentiles say something about the system and not about its length."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

# Not scipy.stats, which alone takes a second to load, in every program that makes or reads a run.
from scipy import special

from allocator.bench.statistics.frames import seconds
from allocator.bench.statistics.percentiles import Values

BATCHES = 10
"""The samples are averaged in so many pieces, since neighbours in time say nearly the same."""

LEAST_SAMPLES = 2 * BATCHES

LEVEL = 0.99
"""Of the intervals below: two tests, and batches that are not quite independent, must seldom blame a steady run."""

SATURATED_SHARE = 0.01
"""A backlog that grows by over this share of the arrivals is one that the system cannot keep up with."""


@dataclass(frozen=True)
class Steadiness:
    """
    The backlog (ready and scheduled) over the measured part of a run.

    Args:
        steady: None where there are too few samples to tell.
        saturated: Grows for good: percentiles grow with the length of the run.
        slope_per_s: Jobs a second, with its interval of 99 %.
        halves: Mean backlog of the first and of the second half.
        sentence: For a page.
    """

    steady: bool | None
    saturated: bool | None
    slope_per_s: float | None
    slope_low_per_s: float | None
    slope_high_per_s: float | None
    halves: tuple[float, float] | None
    sentence: str


def steadiness(backlog: pd.DataFrame, begin_s: float, end_s: float, arrivals_per_s: float) -> Steadiness:
    """
    Judge the samples between two instants: the slope's interval must hold 0, and the halves must agree within noise.

    Slope and halves are those of means over ten equal pieces of time (batch means: Law, Simulation Modeling and
    Analysis, 2015, chapter 9).

    Args:
        begin_s, end_s: The measured part, warm-up left out.
        arrivals_per_s: Offered in that part.
    """
    at = seconds(backlog, "at")
    waiting = seconds(backlog, "ready") + seconds(backlog, "scheduled")
    inside = (at >= begin_s) & (at <= end_s) & ~np.isnan(waiting)
    if inside.sum() < LEAST_SAMPLES or end_s <= begin_s:
        sentence = f"Cannot be told: {inside.sum()} samples of the backlog, {LEAST_SAMPLES} are needed."
        return Steadiness(None, None, None, None, None, None, sentence)
    middles, means = batch_means(at[inside], waiting[inside], begin_s, end_s)
    if len(means) < BATCHES:
        sentence = f"Cannot be told: the backlog was not sampled in {BATCHES - len(means)} of {BATCHES} tenths."
        return Steadiness(None, None, None, None, None, None, sentence)
    # Seen from the first, so that the slope of means that are all the same is exactly 0.
    (slope, _), covariance = np.polyfit(middles, means - means[0], 1, cov=True)
    student = float(special.stdtrit(BATCHES - 2, (1 + LEVEL) / 2))
    slope, reach = float(slope), student * math.sqrt(covariance[0, 0])
    half = BATCHES // 2
    first, second = means[:half], means[half:]
    noise = math.sqrt((first.var(ddof=1) + second.var(ddof=1)) / half)
    agree = abs(second.mean() - first.mean()) <= student * noise
    is_level = slope - reach <= 0 <= slope + reach
    saturated = slope - reach > 0 and slope > SATURATED_SHARE * arrivals_per_s
    steady = is_level and bool(agree)
    said = f"the backlog changes by {slope:+.3g} jobs/s ({slope - reach:+.3g} to {slope + reach:+.3g})"
    word = "Saturated" if saturated else "Steady" if steady else "Not steady"
    return Steadiness(
        steady=steady,
        saturated=saturated,
        slope_per_s=slope,
        slope_low_per_s=slope - reach,
        slope_high_per_s=slope + reach,
        halves=(float(first.mean()), float(second.mean())),
        sentence=f"{word}: {said}; its halves average {first.mean():.1f} and {second.mean():.1f}.",
    )


def batch_means(at: Values, values: Values, begin_s: float, end_s: float) -> tuple[Values, Values]:
    """Middle and mean of each tenth of the time that has a value."""
    edges = np.linspace(begin_s, end_s, BATCHES + 1)
    batch = np.clip(np.searchsorted(edges, at, side="right") - 1, 0, BATCHES - 1)
    counts = np.bincount(batch, minlength=BATCHES)
    sums = np.bincount(batch, weights=values, minlength=BATCHES)
    filled = counts > 0
    middles: Values = (edges[:-1] + edges[1:])[filled] / 2
    return middles, sums[filled] / counts[filled]


def time_average(begins: Values, ends: Values, edges: Values) -> Values:
    """
    How many intervals are open on average, in each span between two edges: an exact integral of event times.

    Args:
        begins, ends: NaN as an end: never closed; NaN as a begin: left out.
        edges: Ascending. Shape (n,).

    Returns:
        Shape (n - 1,).
    """
    known = ~np.isnan(begins)
    begins, ends = begins[known], np.where(np.isnan(ends[known]), np.inf, ends[known])
    opened, closed = _area(begins, edges), _area(ends[np.isfinite(ends)], edges)
    result: Values = np.diff(opened - closed) / np.diff(edges)
    return result


def utilisation(attempts: pd.DataFrame, begin_s: float, end_s: float, workers: int) -> float | None:
    """Share of the workers' time between two instants that went into running jobs; None without time or workers."""
    if end_s <= begin_s or workers < 1:
        return None
    edges = np.array([begin_s, end_s])
    busy = time_average(seconds(attempts, "started_at"), seconds(attempts, "finished_at"), edges)
    return float(busy[0]) / workers


def _area(events: Values, edges: Values) -> Values:
    """Integral, up to each edge, of the number of events so far."""
    ordered = np.sort(events)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    count = np.searchsorted(ordered, edges, side="right")
    area: Values = count * edges - sums[count]
    return area
