"""Series of runs, made for real."""

from pathlib import Path

import pytest

from allocator.bench.errors import InvalidWorkload
from allocator.bench.runs.comparing import AGAIN, CANDIDATE, compare_arms, measure_arms
from allocator.bench.runs.series import at_rate, find_capacity
from tests.bench.runs.small import small


def test_a_workload_is_changed_to_another_rate_and_duration() -> None:
    """Its warm-up is shortened with it; arrivals without a rate are refused by name."""
    changed = at_rate(small(warmup_s=1.0), 250, duration_s=2.0)

    assert (changed.arrival.rate_per_s, changed.duration_s, changed.warmup_s) == (250, 2.0, 0.5)
    with pytest.raises(InvalidWorkload, match="closed has no rate") as refused:
        at_rate(small(arrival={"model": "closed", "clients": 2}, duration_s=None, jobs=5), 250)
    assert refused.value.field == "arrival.model"


def test_arms_are_interleaved_and_replay_the_same(tmp_path: Path) -> None:
    """Within a round; the baseline is measured twice, and each round has another plan."""
    order: list[str] = []

    made = measure_arms(
        small(duration_s=0.1, arrival={"model": "poisson", "rate_per_s": 100}),
        "memory",
        "memory",
        2,
        tmp_path,
        lambda arm, progress: order.append(arm) if progress.phase == "judging" else None,
    )

    hashes = [[run.about.plan_hash for run in arm] for arm in made.values()]
    said = [f"{arm}, round {number} of 2" for number, arms in ((1, 1), (2, -1)) for arm in [*made][::arms]]
    assert list(made) == ["memory", CANDIDATE, AGAIN]
    assert order == said
    assert hashes[0] == hashes[1] == hashes[2]
    assert hashes[0][0] != hashes[0][1]
    assert [comparison.verdict for comparison in compare_arms(made)] == ["undecided"]


@pytest.mark.full
def test_the_capacity_of_a_backend_is_found(tmp_path: Path) -> None:
    """Four workers do 800 jobs of 5 ms a second at the very most, and half of that with ease; longer runs agree."""
    workload = small(slo={"wait_s_p99": 0.1}, drain_s=5)

    found = find_capacity(workload, "memory", 200, 2000, probe_s=6.0, confirm_s=8.0, folder=tmp_path)

    capacity = found.capacity
    assert 400 <= capacity.low_per_s < 800
    assert capacity.high_per_s is not None
    assert capacity.low_per_s < capacity.high_per_s < 1000
    assert found.holds
    assert capacity.probes[1].reason.startswith("drain_s")
    assert len(found.runs) >= 5
