"""Dead letters that are put back by hand: the store says at once that they wait again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from allocator import Job, ManualClock, Queue
from allocator.persistence import JobState, Store, open_store
from allocator.supervisor.reconciler import reconcile
from allocator.supervisor.requeueing import requeue_dead
from tests.contract.builders import a_job, counts, take
from tests.persistence.builders import an_ending, state_of


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A database of its own."""
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as opened:
        yield opened


def die(queue: Queue, store: Store, error: str = "broken") -> None:
    """Have the next job given up, by the supervisor's steps."""
    lease = take(queue)
    store.begin([lease], queue)
    store.settle([an_ending(lease, "dead", error=error)])
    queue.nack(lease, error, dead=True)


def dead(queue: Queue, store: Store, error: str = "broken", **fields: object) -> Job:
    """A new job, given up in queue and store."""
    job = store.submit(queue, a_job(**fields))
    die(queue, store, error)
    return job


def test_one_that_is_put_back_waits_in_the_store_too(queue: Queue, store: Store) -> None:
    """With a fresh retry budget, should the queue lose it; then it runs as any other."""
    job, other = dead(queue, store), dead(queue, store)

    count = requeue_dead(queue, store, job.id)
    stored = store.job(job.id)
    reconciled = reconcile(store, queue)

    assert (count, reconciled) == (1, 0)
    assert stored is not None
    assert (stored.state, stored.failed_count, stored.finished_at) == (JobState.QUEUED, 0, None)
    assert (stored.error, len(stored.attempts)) == ("broken", 1)
    assert state_of(store, other.id) == "dead"
    lease = take(queue)
    assert store.begin([lease], queue).runnable == [lease]
    assert requeue_dead(queue, store, job.id) == 0
    assert state_of(store, job.id) == "processing"


def test_all_that_fit_are_put_back(queue: Queue, store: Store) -> None:
    """By type and by what the error contains; those that do not fit stay dead in both."""
    wanted = [dead(queue, store, "timeout 1", type="film"), dead(queue, store, "timeout 2", type="film")]
    others = [dead(queue, store, "broken", type="film"), dead(queue, store, "timeout 3")]

    count = requeue_dead(queue, store, all=True, type="film", error="timeout")

    assert count == 2
    assert [state_of(store, job.id) for job in wanted] == ["queued", "queued"]
    assert [state_of(store, job.id) for job in others] == ["dead", "dead"]
    assert queue.counts() == counts(ready=2, dead=2)


def test_one_that_died_again_meanwhile_stays_dead(queue: Queue, store: Store, clock: ManualClock) -> None:
    """What was read before it was put back is not held against what happened since."""
    job = dead(queue, store)
    before = store.jobs("dead", queue=queue.identity)
    queue.requeue_dead(job.id)
    clock.advance(10)
    die(queue, store, "broken again")

    assert store.put_back(before) == []

    assert state_of(store, job.id) == "dead"


def test_a_store_that_cannot_be_written_does_not_hold_up_the_queue(queue: Queue, store: Store) -> None:
    """The letter is back all the same; the store hears of it when its next attempt begins."""
    job = dead(queue, store)
    store.close()

    assert requeue_dead(queue, store, job.id) == 1

    assert queue.counts() == counts(ready=1)
