"""The Redis queue in seven tests, on a real server: Redis itself where there is one, and Valkey."""

import pytest

from allocator import Job, ManualClock
from allocator.queue.redis import RedisQueue
from tests.contract.builders import Backend, Clients, take

pytestmark = pytest.mark.on_redis


@pytest.fixture
def queue(open_client: Clients) -> RedisQueue:
    """A fresh queue whose time is `clock`."""
    queue = open_client()
    assert isinstance(queue, RedisQueue)
    return queue


def test_connection(backend: Backend, open_client: Clients) -> None:
    """The URL of a server is enough."""
    with RedisQueue(backend.url, name=open_client.name) as queue:
        size, closed = queue.size(), queue.closed

    assert (size, closed) == (0, False)
    assert queue.closed


def test_enqueue(queue: RedisQueue, clock: ManualClock) -> None:
    """The job comes back as it was stored, with its id and the instant of acceptance."""
    stored = queue.enqueue(Job(type="json", payload={"n": 1}))

    assert stored.id
    assert ({"n": 1}, clock.now()) == (stored.payload, stored.enqueued_at)


def test_dequeue(queue: RedisQueue) -> None:
    """Higher priority first, then first in, first out; then nothing."""
    for priority, name in [(0, "b"), (5, "a"), (0, "c")]:
        queue.enqueue(Job(type="json", payload=name, priority=priority))

    leases = [queue.dequeue(timeout=0) for _ in range(4)]

    assert [lease.job.payload for lease in leases if lease is not None] == ["a", "b", "c"]
    assert leases[3] is None


def test_acknowledge(queue: RedisQueue, clock: ManualClock) -> None:
    """An acked job is done: it never comes again."""
    queue.enqueue(Job(type="json"))

    queue.ack(take(queue))
    clock.advance(3600.0)

    assert queue.dequeue(timeout=0) is None
    assert queue.counts()["done"] == 1


def test_retry_logic(queue: RedisQueue, clock: ManualClock) -> None:
    """A failed job is tried again after 1, 2 and 4 seconds, and not before."""
    queue.enqueue(Job(type="json", max_retries=3))

    for seconds in (1.0, 2.0, 4.0):
        queue.nack(take(queue), error="broken")
        clock.advance(seconds - 0.25)
        assert queue.dequeue(timeout=0) is None
        clock.advance(0.25)

    assert take(queue).attempt == 4


def test_dead_letter_queue(queue: RedisQueue) -> None:
    """A job whose retries are used up is kept, with its error, and can be put back."""
    stored = queue.enqueue(Job(type="json", max_retries=1))
    for error in ("first", "second"):
        queue.nack(take(queue), error=error, delay=0.0)

    (letter,) = queue.dead_letters()
    put_back = queue.requeue_dead(stored.id)

    assert (stored.id, "second") == (letter.job.id, letter.error)
    assert [attempt.error for attempt in letter.attempts] == ["first", "second"]
    assert put_back == 1
    assert (queue.dead_letters(), queue.size()) == ([], 1)


def test_size(queue: RedisQueue) -> None:
    """Jobs that wait are counted, also those that are not due yet; leased and done ones are not."""
    queue.enqueue_many([Job(type="json", delay=60.0 * (n % 2)) for n in range(6)])
    sizes = [queue.size()]

    lease = take(queue)
    sizes.append(queue.size())
    queue.ack(lease)
    sizes.append(queue.size())

    assert sizes == [6, 5, 5]
