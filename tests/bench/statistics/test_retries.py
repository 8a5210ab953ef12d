"""Retries, backoff and dead letters against what was promised."""

import numpy as np
import pytest

from allocator import Backoff
from allocator.bench.statistics.frames import rows_of_jobs
from allocator.bench.statistics.retries import Retries, backoff_errors, retries, storm_effect
from tests.bench.statistics.runs import Rows, by_hand, one_server


def three_jobs() -> Rows:
    """One failed twice and was done, one died of its only retry, one was delayed by 2 s."""
    return by_hand(
        [
            {"job": "a", "settled_at": 3.3},
            {"job": "b", "state": "dead", "intended_at": 0.5, "settled_at": 1.75},
            {"job": "c", "delay_s": 2.0, "settled_at": 2.3},
        ],
        [
            _attempt("a", 1, due=0.0, end=0.1, outcome="failed", error="E: one", next_due=1.1),
            _attempt("b", 1, due=0.5, end=0.6, outcome="failed", error="E: two", next_due=1.6),
            _attempt("a", 2, due=1.1, end=1.2, outcome="failed", error="E: one", next_due=3.2),
            _attempt("c", 1, due=2.0, end=2.3),
            _attempt("b", 2, due=1.6, end=1.75, outcome="failed", error="E: two"),
            _attempt("a", 3, due=3.2, end=3.3),
        ],
    )


def _attempt(
    job: str,
    number: int,
    *,
    due: float,
    end: float,
    outcome: str = "done",
    error: str | None = None,
    next_due: float = np.nan,
) -> dict[str, object]:
    return {
        "job": job,
        "attempt": number,
        "due_at": due,
        "started_at": due + 0.01 * number,
        "finished_at": end,
        "settled_at": end,
        "outcome": outcome,
        "error": error,
        "next_due_at": next_due,
    }


def of(rows: Rows) -> Retries:
    return retries(rows.jobs, rows.attempts, rows_of_jobs(rows.jobs, rows.attempts))


def test_attempts_and_errors_are_counted() -> None:
    """Job by job and error by error."""
    found = of(three_jobs())

    assert found.attempts_per_job == {1: 1, 2: 1, 3: 1}
    assert found.errors == {"E: one": 2, "E: two": 2}


def test_a_job_that_was_never_tried_counts_as_no_attempt() -> None:
    """It is a job all the same."""
    assert of(by_hand([{"job": "a"}, {"job": "b"}], [_attempt("a", 1, due=0.0, end=1.0)])).attempts_per_job == {
        0: 1,
        1: 1,
    }


def test_the_pickup_error_is_that_of_retries_and_delayed_jobs() -> None:
    """Start minus due, by attempt; the first attempt of a job without delay has none."""
    found = of(three_jobs())

    assert found.pickup_error.count == 4
    assert {number: (table.count, table.max_s) for number, table in found.pickup_error_by_attempt.items()} == {
        1: (1, pytest.approx(0.01)),
        2: (2, pytest.approx(0.02)),
        3: (1, pytest.approx(0.03)),
    }


def test_a_retry_that_never_started_is_missing_and_told() -> None:
    """Not dropped."""
    rows = three_jobs()
    rows.attempts.loc[5, "started_at"] = np.nan

    found = of(rows)

    assert (found.pickup_error.count, found.pickup_error.missing) == (3, 1)
    assert found.pickup_error_by_attempt[3].missing == 1


def test_the_time_to_a_dead_letter_counts_from_the_intended_arrival() -> None:
    """Backoff included."""
    found = of(three_jobs()).time_to_dead

    assert (found.count, found.max_s) == (1, 1.25)


def test_delays_are_held_against_one_two_four() -> None:
    """1 s after the first failure, 2 s after the second; whatever the order of the rows."""
    rows = three_jobs()
    rows.attempts.loc[2, "next_due_at"] = 3.25

    found = backoff_errors(rows.jobs, rows.attempts, Backoff())

    assert found == pytest.approx([0.0, 0.0, 0.05])


def test_an_expired_lease_is_charged_and_a_release_is_not() -> None:
    """So that the failure after one lost and one released attempt is the second."""
    rows = by_hand(
        [{"job": "a"}],
        [
            _attempt("a", 1, due=0.0, end=0.0, outcome="lost", next_due=0.0),
            _attempt("a", 2, due=0.0, end=0.0, outcome="released", next_due=1.0),
            _attempt("a", 2, due=1.0, end=1.0, outcome="failed", next_due=3.0),
        ],
    )

    assert backoff_errors(rows.jobs, rows.attempts, Backoff()).tolist() == [0.0]


@pytest.mark.parametrize(("delay_s", "error_s"), [(0.4, -0.1), (0.5, 0.0), (0.8, 0.0), (1.0, 0.0), (1.25, 0.25)])
def test_with_jitter_every_delay_of_its_range_is_right(delay_s: float, error_s: float) -> None:
    """Half of a second may be taken off, none may be added."""
    rows = by_hand([{"job": "a"}], [_attempt("a", 1, due=0.0, end=0.0, outcome="failed", next_due=delay_s)])

    assert backoff_errors(rows.jobs, rows.attempts, Backoff(jitter=0.5)) == pytest.approx([error_s])


def test_a_storm_shows_in_the_wait_of_fresh_jobs() -> None:
    """Jobs that were due while retries ran wait three times as long."""
    rows = one_server(np.random.default_rng(1), 400, 0.5)
    rows.attempts["due_at"] = rows.jobs["intended_at"] = np.arange(400) / 10
    rows.attempts["started_at"] = rows.attempts["due_at"] + np.where(rows.attempts["due_at"].between(20, 30), 0.3, 0.1)

    found = storm_effect(rows.jobs, rows.attempts, 20.0, 30.0)

    assert found is not None
    assert (found.during.count, found.outside.count) == (101, 259)
    assert found.ratio == {"p50": pytest.approx(3.0), "p90": pytest.approx(3.0)}


def test_a_storm_lasts_from_the_first_retry_to_the_last() -> None:
    """Unless it is named; without a retry there is none."""
    rows = three_jobs()

    found = storm_effect(rows.jobs, rows.attempts)

    assert found is not None
    assert (found.begin_s, found.end_s) == (pytest.approx(1.12), pytest.approx(3.23))
    assert storm_effect(rows.jobs, rows.attempts[rows.attempts["attempt"] == 1]) is None
