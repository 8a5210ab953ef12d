"""
Curves over several runs: latency against load with its knee, throughput against workers.

They are never drawn beyond what was measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from allocator.bench.statistics.intervals import median_interval, ratio_interval
from allocator.bench.statistics.summary import Summary

LOW_LOAD = 0.2
LOW_LOAD_WITHIN = 0.1
"""A run from 10 % to 30 % of the workers' time stands for 20 %."""

KNEE = 2.0
"""The knee is where p99 is over so many times what it is at low load."""


@dataclass(frozen=True)
class Knee:
    """
    Where latency leaves the ground.

    Args:
        rate_per_s: The first rate beyond it; None where there is none.
        before_per_s: The last rate before it: the knee itself lies between the two.
    """

    rate_per_s: float | None
    before_per_s: float | None
    sentence: str


def load_latency(runs: Mapping[float, Summary], table: str = "sojourn") -> pd.DataFrame:
    """
    A row a rate, ascending.

    Args:
        runs: Offered rate in jobs a second -> what was measured at it.
        table: Whose percentiles.

    Returns:
        rate_per_s, utilisation (share of the workers' time), throughput_per_s, the percentiles as p50_s, p90_s, …,
        max_s, count, steady and saturated (both may be missing). Percentiles of a saturated run grow with its length.
    """
    rows = []
    for rate, summary in sorted(runs.items()):
        latencies = summary.tables[table]
        rows.append(
            {
                "rate_per_s": rate,
                "utilisation": summary.utilisation,
                "throughput_per_s": summary.throughput_per_s,
                **{f"{name}_s": value for name, value in latencies.percentiles_s.items()},
                "max_s": latencies.max_s,
                "count": latencies.count,
                "steady": summary.steadiness.steady,
                "saturated": summary.steadiness.saturated,
            }
        )
    frame = pd.DataFrame(rows)
    numbers = [column for column in frame.columns if column not in ("count", "steady", "saturated")]
    return frame.astype(dict.fromkeys(numbers, "float64") | {"steady": "boolean", "saturated": "boolean"})


def knee(curve: pd.DataFrame) -> Knee:
    """The first rate of a `load_latency` curve at which p99 is over twice what it is at 20 % load."""
    known = curve.dropna(subset=["p99_s", "utilisation"]).sort_values("rate_per_s")
    away = (known["utilisation"] - LOW_LOAD).abs()
    if known.empty or away.min() > LOW_LOAD_WITHIN:
        return Knee(None, None, "No knee can be told: nothing was measured near 20 % load with enough jobs for p99.")
    base = known.iloc[int(away.argmin())]
    above = known[known["rate_per_s"] > base["rate_per_s"]]
    beyond = above[above["p99_s"] > KNEE * base["p99_s"]]
    said = f"twice the p99 of {base['rate_per_s']:,.0f} jobs/s ({base['p99_s'] * 1e3:.3g} ms)"
    if beyond.empty:
        highest = float(known["rate_per_s"].iloc[-1])
        return Knee(None, highest, f"No knee up to {highest:,.0f} jobs/s: p99 stays within {said}.")
    rate = float(beyond["rate_per_s"].iloc[0])
    before = float(known.loc[known["rate_per_s"] < rate, "rate_per_s"].iloc[-1])
    sentence = f"p99 passes {said} between {before:,.0f} and {rate:,.0f} jobs/s."
    return Knee(rate, before, sentence)


def scaling(runs: Mapping[int, Sequence[float]], mode: Literal["sleep", "cpu"]) -> pd.DataFrame:
    """
    Throughput against workers. A row a number of workers, ascending.

    Args:
        runs: Workers -> throughput in jobs a second of each run, in the order of the schedules they share.
        mode: What the jobs did.

    Returns:
        mode, workers, runs, throughput_per_s (median over runs), low_per_s, high_per_s, speedup over the fewest workers
        measured, speedup_low, speedup_high, efficiency (speedup per worker added: 1 is linear), level (of both
        intervals; missing where there are too few runs, and low and high are the least and the most).
    """
    rows = []
    fewest = min(runs)
    for workers, figures in sorted(runs.items()):
        rate, gained = median_interval(figures), ratio_interval(runs[fewest], figures)
        rows.append(
            {
                "mode": mode,
                "workers": workers,
                "runs": rate.runs,
                "throughput_per_s": rate.value,
                "low_per_s": rate.low,
                "high_per_s": rate.high,
                "speedup": gained.value,
                "speedup_low": gained.low,
                "speedup_high": gained.high,
                "efficiency": gained.value * fewest / workers,
                "level": rate.level,
            }
        )
    return pd.DataFrame(rows).astype({"level": "float64"})
