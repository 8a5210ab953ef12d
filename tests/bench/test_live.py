"""Wait times for the eye: counted by many, read by one, and near the truth."""

from pathlib import Path

import pytest

from allocator.bench.live import WaitCounter, Waits

NEAR = 1.09
"""A bucket is 9 % wide, and its upper end is told."""


def test_percentiles_are_told_of_all_who_count(tmp_path: Path) -> None:
    """From a microsecond to minutes, each at most 9 % too high and never too low."""
    looking = Waits(tmp_path)
    for wait_s in (0.001, 60.0):
        counter = WaitCounter(tmp_path)
        for _ in range(100):
            counter.add(wait_s)

    low, high = looking.percentiles_s(50, 99)

    assert low is not None
    assert high is not None
    assert 1 <= low / 0.001 <= NEAR
    assert 1 <= high / 60.0 <= NEAR


@pytest.mark.parametrize(("count", "told"), [(1, [False, False]), (2, [True, False]), (99, [True, False])])
def test_of_few_no_high_percentile_is_told(tmp_path: Path, count: int, told: list[bool]) -> None:
    """Of 99 jobs none can lie beyond the slowest in a hundred."""
    looking = Waits(tmp_path)
    counter = WaitCounter(tmp_path)

    for _ in range(count):
        counter.add(0.01)

    assert [value is not None for value in looking.percentiles_s(50, 99)] == told


def test_times_of_another_kind_are_kept_apart(tmp_path: Path) -> None:
    """By their suffix."""
    waits, sojourns = Waits(tmp_path), Waits(tmp_path, ".sojourns")
    counter = WaitCounter(tmp_path, ".sojourns")

    counter.add(0.01)
    counter.add(0.01)

    assert waits.percentiles_s(50) == [None]
    assert sojourns.percentiles_s(50) != [None]
