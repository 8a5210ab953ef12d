"""The in-process queue in seven tests, each of one thing that a queue is for."""

import pytest

from allocator import Job, ManualClock, QueueClosed
from allocator.queue.inprocess import InProcessQueue


@pytest.fixture
def clock() -> ManualClock:
    """Time stands still until it is moved."""
    return ManualClock()


@pytest.fixture
def queue(clock: ManualClock) -> InProcessQueue:
    """A queue of its own."""
    return InProcessQueue(clock=clock)


def test_basic_enqueue_dequeue(queue: InProcessQueue) -> None:
    """What goes in comes out, once."""
    stored = queue.enqueue(Job(type="json", payload={"n": 1}))

    lease = queue.dequeue(timeout=0)
    nothing = queue.dequeue(timeout=0)

    assert lease is not None
    assert (stored.id, "json", {"n": 1}) == (lease.job.id, lease.job.type, lease.job.payload)
    assert nothing is None


def test_priority_ordering(queue: InProcessQueue) -> None:
    """Higher priority first; within one, first in, first out."""
    for priority, name in [(0, "c"), (5, "a"), (-5, "e"), (5, "b"), (0, "d")]:
        queue.enqueue(Job(type="json", payload=name, priority=priority))

    leases = queue.dequeue_many(limit=10, timeout=0)

    assert [lease.job.payload for lease in leases] == ["a", "b", "c", "d", "e"]


def test_acknowledgement(queue: InProcessQueue, clock: ManualClock) -> None:
    """An acked job is done: it never comes again."""
    queue.enqueue(Job(type="json"))
    lease = queue.dequeue(timeout=0)
    assert lease is not None

    queue.ack(lease)
    clock.advance(3600.0)

    assert queue.dequeue(timeout=0) is None
    assert (queue.counts()["done"], queue.counts()["leased"]) == (1, 0)


def test_retry_with_backoff(queue: InProcessQueue, clock: ManualClock) -> None:
    """A failed job is tried again after 1, 2 and 4 seconds."""
    queue.enqueue(Job(type="json", max_retries=3))
    waited = []

    for _ in range(3):
        lease = queue.dequeue(timeout=0)
        assert lease is not None
        queue.nack(lease, error="broken")
        failed_at = clock.now()
        while (again := queue.dequeue(timeout=0)) is None:
            clock.advance(0.5)
        waited.append(clock.now() - failed_at)
        queue.release(again)

    assert waited == [1.0, 2.0, 4.0]


def test_dead_letter_queue(queue: InProcessQueue) -> None:
    """A job whose retries are used up is kept, with its error, and can be put back."""
    stored = queue.enqueue(Job(type="json", max_retries=1))
    for error in ("first", "second"):
        lease = queue.dequeue(timeout=0)
        assert lease is not None
        queue.nack(lease, error=error, delay=0.0)

    (letter,) = queue.dead_letters()
    put_back = queue.requeue_dead(stored.id)

    assert (stored.id, "second") == (letter.job.id, letter.error)
    assert [attempt.error for attempt in letter.attempts] == ["first", "second"]
    assert put_back == 1
    assert (queue.dead_letters(), queue.size()) == ([], 1)


def test_retry_delay_respected(queue: InProcessQueue, clock: ManualClock) -> None:
    """A job in backoff is not handed out early, not even by a little."""
    queue.enqueue(Job(type="json"))
    lease = queue.dequeue(timeout=0)
    assert lease is not None
    queue.nack(lease, error="broken")

    clock.advance(0.75)
    early = queue.dequeue(timeout=0)
    clock.advance(0.25)
    late = queue.dequeue(timeout=0)

    assert early is None
    assert late is not None
    assert late.attempt == 2


def test_closure(queue: InProcessQueue) -> None:
    """A closed queue gives nothing, at once, and accepts nothing."""
    queue.enqueue(Job(type="json"))

    queue.close()

    assert queue.closed
    assert queue.dequeue(timeout=None) is None
    with pytest.raises(QueueClosed):
        queue.enqueue(Job(type="json"))
