"""Curves over rates and over workers."""

import numpy as np
import pandas as pd
import pytest

from allocator.bench.statistics.curves import knee, load_latency, scaling
from allocator.bench.statistics.summary import summary
from tests.bench.statistics.runs import one_server


def a_curve(p99_s: list[float | None], utilisation: list[float]) -> pd.DataFrame:
    """A point every 100 jobs a second."""
    rates = [100.0 * number for number in range(1, len(p99_s) + 1)]
    return pd.DataFrame({"rate_per_s": rates, "utilisation": utilisation, "p99_s": p99_s}).astype("float64")


def test_the_knee_is_the_first_rate_over_twice_the_p99_of_low_load() -> None:
    """Twice is not over twice; the knee lies between two rates that were measured."""
    found = knee(a_curve([0.010, 0.012, 0.020, 0.021, 0.5], [0.2, 0.4, 0.6, 0.8, 0.95]))

    assert (found.before_per_s, found.rate_per_s) == (300.0, 400.0)
    assert "between 300 and 400 jobs/s" in found.sentence


def test_a_curve_without_a_knee_ends_where_it_was_measured() -> None:
    """Nothing is said of higher rates."""
    found = knee(a_curve([0.010, 0.011], [0.2, 0.4]))

    assert (found.before_per_s, found.rate_per_s) == (200.0, None)
    assert "No knee up to 200 jobs/s" in found.sentence


@pytest.mark.parametrize(
    "curve",
    [
        pytest.param(a_curve([0.01, 0.05], [0.5, 0.9]), id="nothing near 20 % load"),
        pytest.param(a_curve([None, 0.05], [0.2, 0.9]), id="too few jobs at 20 % load"),
    ],
)
def test_a_knee_takes_a_measurement_at_low_load(curve: pd.DataFrame) -> None:
    """Without one it cannot be told."""
    found = knee(curve)

    assert (found.before_per_s, found.rate_per_s) == (None, None)


def test_latency_rises_with_load_as_theory_has_it() -> None:
    """M/M/1 at five rates: p99 is -ln(0.01) / (mu - lambda), so the knee is past half of the capacity."""
    runs = {}
    for load in (0.8, 0.2, 0.4, 0.7, 1.2):
        rows = one_server(np.random.default_rng(2), 12_000, load)
        runs[100 * load] = summary(rows.jobs, rows.attempts, rows.backlog)

    curve = load_latency(runs)

    assert curve["rate_per_s"].tolist() == [20.0, 40.0, 70.0, 80.0, 120.0]
    for row in curve.iloc[:3].itertuples():
        assert row.p99_s == pytest.approx(-np.log(0.01) / (100 - row.rate_per_s), rel=0.2)
    assert curve["saturated"].tolist() == [False, False, False, False, True]
    assert knee(curve).rate_per_s == 70.0


def test_scaling_is_told_as_speedup_over_the_fewest_workers() -> None:
    """Paired by schedule; efficiency 1 is linear."""
    once = [100.0, 110.0, 90.0, 105.0, 95.0]

    table = scaling({4: [3 * figure for figure in once], 1: once, 2: [2 * figure for figure in once]}, "sleep")

    assert table["workers"].tolist() == [1, 2, 4]
    assert table["speedup"].tolist() == pytest.approx([1.0, 2.0, 3.0])
    assert table["efficiency"].tolist() == pytest.approx([1.0, 1.0, 0.75])
    assert table["speedup_low"].tolist() == pytest.approx([1.0, 2.0, 3.0])
    assert table["level"].tolist() == [0.95] * 3


def test_scaling_of_few_runs_has_no_level() -> None:
    """Low and high are then the least and the most."""
    table = scaling({1: [90.0, 110.0], 2: [180.0, 200.0]}, "cpu")

    assert table["level"].isna().all()
    assert table.loc[0, ["low_per_s", "high_per_s"]].tolist() == [90.0, 110.0]
