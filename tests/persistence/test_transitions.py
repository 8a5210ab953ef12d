"""What the database itself refuses, whoever asks."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from allocator.persistence import Store
from tests.persistence.builders import FakeQueue, a_job, a_lease, an_ending, finished, running, state_of


def update(store: Store, job_id: str, change: str) -> None:
    """Change a row past every guard of the store."""
    with store.engine.begin() as connection:
        connection.execute(text(f"UPDATE jobs SET {change} WHERE id = :id"), {"id": job_id})


@pytest.mark.parametrize(
    "change",
    [
        "state = 'lost'",
        "state = 'processing'",
        "token = 'mine'",
        "state = 'dead'",
        "state = 'dead', ended_as = 'dead'",
        "state = 'dead', ended_as = 'cancelled', finished_at = 1",
        "ended_as = 'done'",
        "finished_at = 1",
        "state = 'done', ended_as = 'done', finished_at = 1",
    ],
)
def test_an_illegal_change_of_a_queued_job_fails(store: Store, queue: FakeQueue, change: str) -> None:
    """States that there are not, halves of a state, and done without having run."""
    job = store.submit(queue, a_job())

    with pytest.raises(IntegrityError):
        update(store, job.id, change)

    assert state_of(store, job.id) == "queued"


@pytest.mark.parametrize("outcome", ["done", "cancelled"])
@pytest.mark.parametrize(
    "change",
    [
        "state = 'queued', ended_as = NULL, finished_at = NULL",
        "state = 'dead', ended_as = 'dead'",
        "result = NULL",
        "finished_at = 0",
    ],
)
def test_done_and_cancelled_never_change(store: Store, queue: FakeQueue, outcome: str, change: str) -> None:
    """Not even by hand."""
    job_id = finished(store, queue, outcome)

    with pytest.raises(IntegrityError, match="final"):
        update(store, job_id, change)

    assert state_of(store, job_id) == outcome


def test_a_dead_job_is_not_made_done(store: Store, queue: FakeQueue) -> None:
    """It has to run first."""
    job_id = finished(store, queue, "dead")

    with pytest.raises(IntegrityError, match="only what is processing"):
        update(store, job_id, "state = 'done', ended_as = 'done'")


def test_done_stays_done_whatever_the_store_is_told(store: Store, queue: FakeQueue) -> None:
    """Settling again, cancelling, and copying back from the queue leave it alone."""
    lease = running(store, queue)
    (seen,) = store.unfinished(queue.identity)
    store.settle([an_ending(lease, result=b"1")])
    other = an_ending(lease, "dead")

    fenced = store.settle([other])
    cancelled = store.cancel(lease.job.id)
    copied = store.copy_back({lease.job.id: "dead"}, [seen])
    begun = store.begin([a_lease(lease.job, attempt=2)], queue)

    assert (fenced, cancelled, copied) == ([other], False, [])
    assert len(begun.finished) == 1
    job = store.job(lease.job.id)
    assert job is not None
    assert (job.state, job.result, len(job.attempts)) == ("done", 1, 1)
