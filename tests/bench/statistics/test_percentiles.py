"""Percentiles of a run are values that were seen, and end where the jobs are too few."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.bench.result import quantile
from allocator.bench.statistics.percentiles import SHOWN, latency, least_count, percentile, rank


@pytest.mark.parametrize(("probability", "count"), [(0.5, 20), (0.9, 100), (0.95, 200), (0.99, 1000), (0.999, 10_000)])
def test_a_percentile_takes_ten_values_beyond_it(probability: float, count: int) -> None:
    """One job fewer, and it is not given."""
    values = np.arange(count, dtype=np.float64)

    assert least_count(probability) == count
    assert percentile(values, probability) is not None
    assert percentile(values[1:], probability) is None


def test_it_is_the_smallest_value_that_the_share_does_not_exceed() -> None:
    """Of 1 to 1,000 the 99th percentile is 990: ten are above it."""
    values = np.random.default_rng(1).permutation(np.arange(1.0, 1001.0))

    assert percentile(values, 0.99) == 990.0
    assert percentile(values, 0.5) == 500.0


def test_the_benchmarks_of_the_parts_count_as_the_bench_does() -> None:
    """p99 of a hundred values is the ninety-ninth, not the greatest."""
    values = [float(value) for value in range(1, 101)]

    assert [quantile(values, probability) for probability in (0.5, 0.99)] == [50.0, 99.0]
    assert percentile(np.array(values), 0.5) == 50.0


def test_rounding_does_not_move_the_rank() -> None:
    """0.07 * 100 is above 7 in floating point and 0.29 * 100 below 29; of 100 values p7 is the seventh all the same."""
    assert [rank(hundredth / 100, 100) for hundredth in range(1, 100)] == list(range(99))


@given(st.lists(st.floats(-1e6, 1e6), min_size=20, max_size=300), st.sampled_from([0.0, 0.1, 0.25, 0.5]))
def test_it_was_seen_and_splits_the_values(seen: list[float], probability: float) -> None:
    """At least the share is up to it, and less than the share below it."""
    values = np.array(seen)

    found = percentile(values, probability)

    assert found in seen
    assert (values <= found).mean() >= probability - 1e-9
    assert (values < found).mean() <= probability + 1e-9


def test_a_table_counts_what_is_missing() -> None:
    """NaN is in no figure, and is told."""
    row = latency(np.array([3.0, np.nan, 1.0, np.nan, 2.0]))

    assert (row.count, row.missing, row.mean_s, row.max_s) == (3, 2, 2.0, 3.0)
    assert row.percentiles_s == dict.fromkeys(SHOWN)


def test_a_table_of_nothing_has_no_figures() -> None:
    """And is no error: a run may have no retry."""
    row = latency(np.array([]))

    assert (row.count, row.mean_s, row.max_s) == (0, None, None)


def test_a_percentile_given_in_hundredths_is_refused() -> None:
    """The error says how p99 is written."""
    with pytest.raises(ValueError, match=r"not 99; p99 is 0\.99"):
        percentile(np.ones(10), 99)
