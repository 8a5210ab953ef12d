"""Rows of a run, from records that were written by hand: what a killed worker leaves is told for what it is."""

from pathlib import Path

import numpy as np
import pytest

from allocator.bench.plan import plan
from allocator.bench.recorder import Event, Outcome, Recorder
from allocator.bench.records import read_records
from allocator.bench.runs.rows import Rows, rows, told_by_queue
from allocator.bench.serverclock import Offset, ServerClock
from tests.bench.runs.small import small

NO_OFFSET = ServerClock(Offset(0, 0.0, 0.0), Offset(0, 0.0, 0.0))


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    """Of job 0, which was sent, and whose first attempt failed: another one is due in a second."""
    recorder = Recorder(tmp_path)
    recorder.record(Event.ENQUEUE_STARTED, 0)
    recorder.record(Event.ENQUEUED, 0, outcome=Outcome.ACCEPTED)
    an_attempt(recorder, 1, Outcome.FAILED, settled=True, delay_s=1.0)
    return recorder


def an_attempt(
    recorder: Recorder, number: int, outcome: Outcome, *, settled: bool, delay_s: float = float("nan")
) -> None:
    """A body that began and came to an end, and whether the queue's word on it was heard."""
    error = recorder.text("no") if outcome is Outcome.FAILED else 0
    recorder.record(Event.STARTED, 0, number, f"t{number}", due_at=number, leased_at=number)
    recorder.record(Event.FINISHED, 0, number, f"t{number}", outcome=outcome, error=error)
    if settled:
        recorder.record(
            Event.SETTLED, 0, number, f"t{number}", outcome=outcome, due_at=number, leased_at=number, delay_s=delay_s,
            error=error,
        )  # fmt: skip


def rows_of(recorder: Recorder) -> Rows:
    """Of a run of one job."""
    recorder.close()
    return rows(plan(small(duration_s=None, jobs=1)), read_records(recorder.path.parent), 0, NO_OFFSET, "r-")


def test_an_end_that_nobody_recorded_is_not_that_of_an_earlier_attempt(recorder: Recorder) -> None:
    """The worker was killed once the queue had taken its word; when that was is not known, and is no short sojourn."""
    an_attempt(recorder, 2, Outcome.DONE, settled=False)

    job = told_by_queue(rows_of(recorder), {}).jobs.iloc[0]

    assert (job["state"], job["attempts"]) == ("done", 2)
    assert np.isnan(job["settled_at"])
    assert np.isnan(job["sojourn_s"])


def test_a_job_that_was_given_up_after_retries_is_dead_by_the_records_alone(recorder: Recorder) -> None:
    """No queue needs to be asked, which may be gone by then."""
    an_attempt(recorder, 2, Outcome.FAILED, settled=True)

    found = rows_of(recorder)

    assert found.jobs["state"].tolist() == ["dead"]
    assert found.jobs["settled_at"].iloc[0] == found.attempts["settled_at"].iloc[1]
