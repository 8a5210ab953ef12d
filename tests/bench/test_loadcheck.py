"""The check of the bench's own instruments gives every figure; whether they are good depends on the machine."""

from pathlib import Path

from allocator.bench.loadcheck import measure


def test_every_figure_is_measured(tmp_path: Path) -> None:
    """On a queue in process, with counts too small for a claim."""
    rows = measure({"in process": "memory://loadcheck"}, 1, 0.005, tmp_path)

    assert [row.operation for row in rows] == [
        "one record",
        "read back 5,000 records",
        "jobs of 1 ms, with records",
        "jobs that do nothing, with records",
        "500 arrivals/s, p99 lateness",
        "5,000 arrivals/s, p99 lateness",
        "5,000 arrivals/s in lists up to 64, p99 lateness",
    ]
    assert all(row.value for row in rows)
    assert [row.reached is None for row in rows] == [False, True, False, False, False, False, False]
