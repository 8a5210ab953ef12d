"""Every figure of a run, from its rows."""

import json

import numpy as np
import pytest

from allocator.bench.statistics.summary import summary
from tests.bench.statistics.runs import Rows, by_hand, one_server


def five_jobs() -> Rows:
    """Two workers, a process each. Five measured jobs: begun cold, two plain, dead, unacknowledged; one of warm-up."""
    rows = by_hand(
        [
            {"job": "w", "warmup": True, "intended_at": -1.0, "enqueued_at": -1.0, "settled_at": -0.5},
            {"job": "cold", "intended_at": 0.0, "enqueued_at": 0.01, "settled_at": 2.0},
            {"job": "a", "intended_at": 1.0, "enqueued_at": 1.5, "settled_at": 3.0},
            {"job": "b", "intended_at": 2.0, "enqueued_at": 2.5, "settled_at": 4.5},
            {"job": "d", "intended_at": 3.0, "enqueued_at": 3.5, "settled_at": 4.0, "state": "dead"},
            {"job": "u", "intended_at": 4.0, "enqueued_at": np.nan, "state": "unknown"},
        ],
        [
            {"job": "w", "process": 1, "due_at": -1.0, "started_at": -0.75, "finished_at": -0.5, "settled_at": -0.5},
            {"job": "cold", "process": 2, "due_at": 0.0, "started_at": 1.0, "finished_at": 2.0, "settled_at": 2.0},
            {"job": "a", "process": 1, "due_at": 1.5, "started_at": 2.0, "finished_at": 2.75, "settled_at": 3.0},
            {"job": "b", "process": 1, "due_at": 2.5, "outcome": "released"},
            {"job": "b", "process": 2, "due_at": 3.5, "started_at": 3.5, "finished_at": 4.25, "settled_at": 4.5},
            {"job": "d", "process": 1, "due_at": 3.5, "started_at": 3.5, "finished_at": 4.0, "settled_at": 4.0},
        ],
    )
    rows.jobs["enqueue_started_at"] = rows.jobs["intended_at"]
    rows.jobs.loc[2, "enqueue_started_at"] = 1.25
    rows.attempts.loc[5, "outcome"] = "failed"
    return rows


def test_the_counts_of_hand_computed_rows() -> None:
    """Nothing is dropped: what is in no table is counted."""
    rows = five_jobs()

    found = summary(rows.jobs, rows.attempts, rows.backlog)

    assert (found.jobs, found.warmup_jobs, found.accepted, found.unsettled, found.cold_starts) == (6, 1, 5, 0, 2)
    assert found.states == {"dead": 1, "done": 4, "unknown": 1}
    assert found.outcomes == {"done": 4, "failed": 1, "released": 1}


def test_the_rates_of_hand_computed_rows() -> None:
    """Measured from 0 to 4 s: five jobs offered, two done within, three by 4.5 s; two workers busy for 3.0 of 8 s."""
    rows = five_jobs()

    found = summary(rows.jobs, rows.attempts, rows.backlog)

    assert (found.begin_s, found.end_s, found.workers) == (0.0, 4.0, 2)
    assert (found.offered_per_s, found.throughput_per_s) == (5 / 4, 2 / 4)
    assert found.drain_per_s == pytest.approx(3 / 4.5)
    assert found.utilisation == pytest.approx((1.0 + 0.75 + 0.5 + 0.5) / 8)


def test_the_tables_of_hand_computed_rows() -> None:
    """Warm-up in none, cold starts apart, the wait of a released job from when it was first due."""
    rows = five_jobs()

    tables = summary(rows.jobs, rows.attempts, rows.backlog).tables

    assert (tables["lateness"].count, tables["lateness"].max_s) == (5, 0.25)
    assert (tables["enqueue"].count, tables["enqueue"].missing, tables["enqueue"].max_s) == (4, 1, 0.5)
    assert (tables["wait"].count, tables["wait"].missing, tables["wait"].max_s) == (3, 1, 1.0)
    assert (tables["service"].count, tables["service"].max_s) == (3, 0.75)
    assert (tables["sojourn"].count, tables["sojourn"].max_s) == (2, 2.5)
    assert (tables["cold_start"].count, tables["cold_start"].max_s) == (2, 1.0)


def test_known_percentiles_come_out_of_a_simulated_run() -> None:
    """M/M/1 at 0.5: p99 of the sojourn time is 9.21 service times, of 10 ms each."""
    rows = one_server(np.random.default_rng(9), 30_000, 0.5)

    found = summary(rows.jobs, rows.attempts, rows.backlog)

    assert found.tables["sojourn"].percentiles_s["p99"] == pytest.approx(0.0921, rel=0.1)
    assert found.utilisation == pytest.approx(0.5, rel=0.03)
    assert found.throughput_per_s == pytest.approx(50.0, rel=0.03)


def test_the_order_of_the_attempts_does_not_matter() -> None:
    """Recorders of several processes are read one after the other."""
    rows = one_server(np.random.default_rng(1), 3000, 0.7)
    shuffled = rows.attempts.sample(frac=1.0, random_state=1)

    assert summary(rows.jobs, shuffled, rows.backlog) == summary(rows.jobs, rows.attempts, rows.backlog)


def test_it_survives_json() -> None:
    """What `verify` recomputes is compared with what was stored."""
    rows = five_jobs()

    plain = summary(rows.jobs, rows.attempts, rows.backlog).to_dict()

    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_a_run_of_nothing_has_figures_that_are_not_to_be_had() -> None:
    """None, and not zero."""
    rows = by_hand([{"job": "a", "state": "waiting"}], [])

    found = summary(rows.jobs, rows.attempts, rows.backlog)

    assert (found.throughput_per_s, found.drain_per_s, found.utilisation) == (None, None, None)
    assert (found.unsettled, found.steadiness.steady) == (1, None)


def test_rows_of_something_else_are_refused() -> None:
    """The error names the frame and what it lacks, or the job that is strange to it."""
    rows = five_jobs()

    with pytest.raises(ValueError, match="attempts: no column due_at, started_at"):
        summary(rows.jobs, rows.attempts.drop(columns=["due_at", "started_at"]), rows.backlog)
    with pytest.raises(ValueError, match="attempts: job w is not among the jobs"):
        summary(rows.jobs[1:], rows.attempts, rows.backlog)
    with pytest.raises(ValueError, match="jobs: job cold is there twice"):
        summary(rows.jobs.iloc[[0, 1, 1, 2, 3, 4, 5]], rows.attempts, rows.backlog)
