"""
Point 9, waiting: a blocked dequeue is woken by what it waits for.

The poll that is the net below every wake-up is set to a minute here, so that a wake-up that is missing is not made
good by it: the thread would not end within its bound.
"""

from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import pytest

from allocator import Lease, ManualClock, Queue, open_queue
from allocator.queue import base
from allocator.queue.redis import connecting as redis_connecting
from tests.contract.builders import BOUND_S, Blocking, Clients, InThread, a_job, counts, ids, numbers, some_jobs, take

pytestmark = pytest.mark.usefixtures("no_net")


OpenReal = Callable[..., Queue]


@pytest.fixture
def open_real(open_client: Clients) -> OpenReal:
    """Opens objects on the backend's own time, whose leases expire so late that this cannot help either."""

    def open_real(**options: Any) -> Queue:
        return open_client(**{"clock": None, "lease_s": 600.0, **options})

    return open_real


@pytest.fixture
def no_net(monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll so rare that it cannot help, nor can the limit on a reply, which would end a wait much earlier."""
    monkeypatch.setattr(base, "POLL_S", 60.0)
    monkeypatch.setitem(redis_connecting.OPTIONS, "socket_timeout", 120.0)


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_an_enqueue_wakes_a_blocked_dequeue(open_real: OpenReal, timeout: float | None) -> None:
    """From another object, whether the wait has an end or not."""
    waiting, other = open_real(), open_real()
    blocked = Blocking(waiting, timeout).wait_until_blocked()

    stored = other.enqueue(a_job())

    assert [stored.id] == ids(blocked.leases())


def test_an_enqueue_through_the_same_object_wakes_it(open_real: OpenReal) -> None:
    """A thread that waits does not keep another from the queue."""
    queue = open_real()
    blocked = Blocking(queue).wait_until_blocked()

    stored = queue.enqueue(a_job())

    assert [stored.id] == ids(blocked.leases())


def test_a_list_wakes_a_blocked_dequeue(open_real: OpenReal) -> None:
    """And as many as were asked for come at once."""
    waiting, other = open_real(), open_real()
    blocked = Blocking(waiting, limit=10).wait_until_blocked()

    other.enqueue_many(some_jobs(4))

    assert numbers(blocked.leases()) == [0, 1, 2, 3]


def test_a_due_time_wakes_a_blocked_dequeue(open_real: OpenReal) -> None:
    """Nobody has to do anything at that moment."""
    queue = open_real()
    queue.enqueue(a_job(delay=0.3))

    (lease,) = Blocking(queue).wait_until_blocked().leases()

    assert lease.leased_at >= lease.due_at


def test_a_job_that_is_due_sooner_shortens_the_wait(open_real: OpenReal) -> None:
    """Who waits for a distant due time learns of an earlier one."""
    queue, other = open_real(), open_real()
    queue.enqueue(a_job(id="distant", delay=600.0))
    blocked = Blocking(queue).wait_until_blocked()

    other.enqueue(a_job(id="soon", delay=0.2))

    assert ids(blocked.leases()) == ["soon"]


def test_an_expiry_wakes_a_blocked_dequeue(open_real: OpenReal) -> None:
    """A job whose worker went silent is taken over without any further event."""
    silent, queue = open_real(lease_s=0.3), open_real()
    silent.enqueue(a_job())
    held = take(silent)

    (lease,) = Blocking(queue).wait_until_blocked().leases()

    assert (held.job.id, 2) == (lease.job.id, lease.attempt)
    assert lease.leased_at >= held.expires_at


def test_a_lease_given_while_others_wait_wakes_them_when_it_expires(open_real: OpenReal) -> None:
    """A waiter that began to wait when no lease was there learns of its expiry all the same."""
    queue, silent = open_real(), open_real(lease_s=0.3)
    silent.pause()
    silent.enqueue(a_job())
    silent.resume()
    held = take(silent)
    blocked = Blocking(queue).wait_until_blocked()

    (lease,) = blocked.leases()

    assert (held.job.id, 2) == (lease.job.id, lease.attempt)


def test_a_retry_wakes_a_blocked_dequeue(open_real: OpenReal) -> None:
    """When its backoff is over."""
    queue, other = open_real(), open_real()
    queue.enqueue(a_job())
    lease = take(queue)
    blocked = Blocking(other).wait_until_blocked()

    queue.nack(lease, "broken", delay=0.2)
    (again,) = blocked.leases()

    assert again.attempt == 2
    assert again.leased_at >= again.due_at


def test_a_release_wakes_a_blocked_dequeue(open_real: OpenReal) -> None:
    """What was given back is taken at once."""
    queue, other = open_real(), open_real()
    queue.enqueue(a_job())
    lease = take(queue)
    blocked = Blocking(other).wait_until_blocked()

    queue.release(lease)

    assert [lease.job.id] == ids(blocked.leases())


def test_a_letter_put_back_wakes_a_blocked_dequeue(open_real: OpenReal) -> None:
    """It is ready at once."""
    queue, other = open_real(), open_real()
    queue.enqueue(a_job(id="a"))
    queue.nack(take(queue), "broken", dead=True)
    blocked = Blocking(other).wait_until_blocked()

    queue.requeue_dead("a")

    assert ids(blocked.leases()) == ["a"]


def test_a_reap_wakes_a_blocked_dequeue(open_client: Clients, clock: ManualClock) -> None:
    """Whoever reaps, the job goes to who waits; here by a clock of which the waiting client knows nothing."""
    silent, reaping, waiting = (open_client(lease_s=600.0) for _ in range(3))
    silent.enqueue(a_job())
    take(silent)
    blocked = Blocking(waiting).wait_until_blocked()

    clock.advance(600.0)
    reaping.reap()

    assert [lease.attempt for lease in blocked.leases()] == [2]


def test_a_resume_wakes_a_blocked_dequeue(open_real: OpenReal) -> None:
    """Through any client; the jobs that were held back are there."""
    queue, other = open_real(), open_real()
    queue.enqueue(a_job())
    queue.pause()
    blocked = Blocking(queue).wait_until_blocked()

    other.resume()

    assert numbers(blocked.leases()) == [0]


def test_a_pause_does_not_end_a_wait(open_real: OpenReal) -> None:
    """A job that comes in a pause is held back, and comes with its end."""
    queue, other = open_real(), open_real()
    blocked = Blocking(queue).wait_until_blocked()
    other.pause()
    other.enqueue(a_job())

    before = other.counts()
    other.resume()

    assert counts(ready=1) == before
    assert numbers(blocked.leases()) == [0]


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_close_wakes_a_blocked_dequeue(open_real: OpenReal, timeout: float | None) -> None:
    """It returns with nothing."""
    queue = open_real()
    blocked = Blocking(queue, timeout).wait_until_blocked()

    queue.close()

    assert blocked.leases() == []


def test_close_wakes_every_thread_of_the_object(open_real: OpenReal) -> None:
    """And those of no other: what waits elsewhere goes on waiting, and gets the next job."""
    closing, other = open_real(), open_real()
    blocked = [Blocking(closing).wait_until_blocked() for _ in range(4)]
    elsewhere = Blocking(other).wait_until_blocked()

    closing.close()
    ended = [waiting.leases() for waiting in blocked]
    open_real().enqueue(a_job(id="next"))

    assert ended == [[]] * 4
    assert ids(elsewhere.leases()) == ["next"]


@pytest.mark.parametrize("objects", ["one", "many"])
def test_a_wake_up_is_passed_on(open_real: OpenReal, objects: str) -> None:
    """One list of N jobs is enough for N who wait, each of whom takes one."""
    shared = open_real()
    blocked = [Blocking(shared if objects == "one" else open_real()).wait_until_blocked() for _ in range(5)]

    open_real().enqueue_many(some_jobs(5))

    taken = [lease for waiting in blocked for lease in waiting.leases()]
    assert sorted(numbers(taken)) == [0, 1, 2, 3, 4]


def test_single_jobs_in_quick_succession_wake_everybody(open_real: OpenReal) -> None:
    """Wake-ups that fall together lose nobody."""
    blocked = [Blocking(open_real()).wait_until_blocked() for _ in range(5)]

    producer = open_real()
    for job in some_jobs(5):
        producer.enqueue(job)

    taken = [lease for waiting in blocked for lease in waiting.leases()]
    assert sorted(numbers(taken)) == [0, 1, 2, 3, 4]


def test_jobs_that_fall_due_together_wake_everybody(open_real: OpenReal) -> None:
    """So do due times."""
    blocked = [Blocking(open_real()).wait_until_blocked() for _ in range(4)]

    open_real().enqueue_many(some_jobs(4, delay=0.2))

    taken = [lease for waiting in blocked for lease in waiting.leases()]
    assert sorted(numbers(taken)) == [0, 1, 2, 3]


def test_one_job_goes_to_one_of_those_who_wait(open_real: OpenReal) -> None:
    """The others get nothing of it, and still wait for the next."""
    producer = open_real()
    waiting = [open_real() for _ in range(3)]
    taken: SimpleQueue[list[Lease]] = SimpleQueue()

    def take_one_batch(client: Queue) -> None:
        taken.put(client.dequeue_many(10, timeout=None))

    threads = [InThread(take_one_batch, client) for client in waiting]

    producer.enqueue(a_job(id="first"))
    first = taken.get(timeout=BOUND_S)
    producer.enqueue(a_job(id="second"))
    second = taken.get(timeout=BOUND_S)
    for client in waiting:
        client.close()
    third = taken.get(timeout=BOUND_S)
    for thread in threads:
        thread.result()

    assert (ids(first), ids(second), ids(third)) == (["first"], ["second"], [])


def test_a_timeout_ends_a_wait(open_real: OpenReal) -> None:
    """With nothing, whether the queue is empty or what it has is not due."""
    queue = open_real()

    empty = queue.dequeue(timeout=0.05)
    queue.enqueue(a_job(delay=600.0))
    not_due = queue.dequeue_many(5, timeout=0.05)

    assert (empty, not_due) == (None, [])


def test_an_empty_queue_is_not_waited_for_without_timeout(open_real: OpenReal) -> None:
    """Nought is a look, and no wait at all."""
    queue = open_real()
    waits: list[float] = []
    queue._wait = waits.append  # type: ignore[assignment, method-assign]

    taken = queue.dequeue(timeout=0)

    assert taken is None
    assert waits == []


def test_a_job_is_not_waited_for_when_it_is_there(open_real: OpenReal) -> None:
    """Whatever the timeout."""
    queue = open_real()
    waits: list[float] = []
    queue._wait = waits.append  # type: ignore[assignment, method-assign]
    queue.enqueue(a_job())

    lease = queue.dequeue(timeout=None)

    assert lease is not None
    assert waits == []


def test_a_ping_pong_of_two_clients_needs_no_net(open_client: Clients, open_real: OpenReal) -> None:
    """Two hundred wake-ups one after another, none of them missed."""
    ping, pong = open_real(), open_real(name=f"{open_client.name}.back")
    ping_there, pong_there = open_real(), open_real(name=pong.name)

    def answer() -> int:
        for n in range(100):
            lease = ping_there.dequeue(timeout=None)
            assert lease is not None
            ping_there.ack(lease)
            pong_there.enqueue(a_job(payload={"n": n}))
        return 100

    answering = InThread(answer)

    def ask() -> list[int]:
        heard = []
        for _ in range(100):
            ping.enqueue(a_job())
            lease = pong.dequeue(timeout=None)
            assert lease is not None
            pong.ack(lease)
            heard.append(lease.job.payload["n"])
        return heard

    heard = InThread(ask).result()

    assert list(range(100)) == heard
    assert answering.result() == 100


def test_a_clock_moved_by_hand_wakes_a_blocked_dequeue_in_process(clock: ManualClock) -> None:
    """Where the clock is in this process, advancing it is an event like any other."""
    queue = open_queue("memory://", clock=clock)
    queue.enqueue(a_job(id="due", delay=30.0))
    blocked = Blocking(queue).wait_until_blocked()

    clock.advance(30.0)

    assert ids(blocked.leases()) == ["due"]
    queue.close()
