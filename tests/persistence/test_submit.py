"""Submitting: the store first, then the queue."""

import pytest

from allocator.domain.errors import InvalidJob, QueueUnavailable
from allocator.persistence import Store
from tests.persistence.builders import FakeQueue, a_job, finished, running, state_of


def test_a_submitted_job_reads_back(store: Store, queue: FakeQueue) -> None:
    """What was submitted is in the queue, and in the store with all that the caller said."""
    job = store.submit(queue, a_job(type="media", payload=["ä", {"n": 1}], priority=7, max_retries=2, delay=5.0))

    stored = store.job(job.id)

    assert [job.id] == [enqueued.id for enqueued in queue.enqueued]
    assert stored is not None
    assert (stored.state, stored.type, stored.priority, stored.max_retries) == ("queued", "media", 7, 2)
    assert stored.payload == ["ä", {"n": 1}]
    assert stored.queue == queue.identity
    assert stored.submitted_at == queue.clock.now()
    assert stored.due_at == queue.clock.now() + 5.0
    assert (stored.attempts, stored.result, stored.error) == ([], None, None)


def test_an_unknown_id_gives_nothing(store: Store) -> None:
    """A job that was never submitted is None, not an error."""
    assert store.job("nobody") is None


def test_a_job_survives_a_queue_that_fails_after_the_commit(store: Store, queue: FakeQueue) -> None:
    """What the store accepted and the queue did not is queued, and listed for the reconciler."""
    queue.broken = True

    with pytest.raises(QueueUnavailable):
        store.submit(queue, a_job(id="stranded", delay=30.0))

    (left,) = store.unfinished(queue.identity)
    again = store.still_unfinished([left.id])[0].job(queue.clock.now() + 10.0)
    assert (left.id, left.state) == ("stranded", "queued")
    assert (again.id, again.type, again.payload, again.delay) == ("stranded", "json", {"n": 0}, 20.0)


def test_a_known_id_keeps_its_record(store: Store, queue: FakeQueue) -> None:
    """The second submission of an id gives the first one's job, also within one list."""
    first, second = store.submit_many(queue, [a_job(id="one", payload=1), a_job(id="one", payload=2)])

    third = store.submit(queue, a_job(id="one", payload=3))

    assert [first.payload, second.payload, third.payload] == [1, 1, 1]
    assert [job.id for job in queue.enqueued] == ["one"]


def test_a_known_id_that_never_reached_the_queue_is_enqueued_by_the_second_submission(
    store: Store, queue: FakeQueue
) -> None:
    """Submitting again after a failure mends it."""
    queue.broken = True
    with pytest.raises(QueueUnavailable):
        store.submit(queue, a_job(id="one"))
    queue.broken = False

    store.submit(queue, a_job(id="one"))

    assert [job.id for job in queue.enqueued] == ["one"]


def test_a_finished_id_is_not_enqueued_again(store: Store, queue: FakeQueue) -> None:
    """Done is final: the id of a done job stays done."""
    done = finished(store, queue)
    queue.enqueued.clear()

    job = store.submit(queue, a_job(id=done, payload="other"))

    assert (job.id, job.payload) == (done, {"n": 0})
    assert queue.enqueued == []


def test_a_list_is_accepted_as_a_whole(store: Store, queue: FakeQueue) -> None:
    """One job that is refused leaves nothing behind; a long list with large payloads goes in."""
    with pytest.raises(InvalidJob):
        store.submit_many(queue, [a_job(), a_job(priority=5000)])
    refused = store.jobs()

    accepted = store.submit_many(queue, [a_job(payload="x" * 100_000) for _ in range(100)] + [a_job()] * 2000)

    assert refused == []
    assert len({job.id for job in accepted}) == 2100
    assert store.counts()["queued"] == 2100


def test_a_closed_queue_accepts_nothing_into_the_store(store: Store, queue: FakeQueue) -> None:
    """The queue's own refusal comes before the commit."""
    queue.closed = True

    with pytest.raises(RuntimeError, match="closed"):
        store.submit(queue, a_job())

    assert store.jobs() == []


def test_a_payload_of_a_mebibyte_comes_back(store: Store, queue: FakeQueue) -> None:
    """The largest payload survives submission, an attempt and its result."""
    payload = "\u00e4\x00" * (1024 * 1024 // 8 - 1)

    lease = running(store, queue, payload=payload)
    stored = store.job(lease.job.id)

    assert stored is not None
    assert stored.payload == payload
    assert state_of(store, lease.job.id) == "processing"
