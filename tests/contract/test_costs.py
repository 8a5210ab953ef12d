"""Point 9, the part that can be counted: round trips and looks, never seconds."""

from collections.abc import Callable
from typing import Any

import pytest

from allocator import Backoff, Queue
from allocator.queue import base
from tests.contract.builders import Clients, CountedCalls, a_job, some_jobs


@pytest.mark.on_servers
def test_each_call_is_one_round_trip(queue: Queue) -> None:
    """However many jobs it is about, and whatever becomes of them."""
    queue.enqueue_many(some_jobs(400))
    leases = queue.dequeue_many(300, timeout=0)
    bury_one = queue.dequeue_many(1, timeout=0)[0]

    acts: dict[str, Callable[[], Any]] = {
        "enqueue": lambda: queue.enqueue(a_job()),
        "enqueue_many": lambda: queue.enqueue_many(some_jobs(500, backoff=Backoff(jitter=0.5))),
        "dequeue": lambda: queue.dequeue(timeout=0),
        "dequeue_many": lambda: queue.dequeue_many(50, timeout=0),
        "ack": lambda: queue.ack(leases[0]),
        "nack": lambda: queue.nack(leases[1], "broken", "trace"),
        "bury": lambda: queue.nack(bury_one, "broken", dead=True),
        "release": lambda: queue.release(leases[2], delay=1.0),
        "extend": lambda: queue.extend(leases[3]),
        "extend_many": lambda: queue.extend_many(leases[3:]),
        "settle": lambda: queue.settle(leases[3:100], [(lease, "x") for lease in leases[100:200]], leases[200:]),
        "cancel": lambda: queue.cancel(leases[2].job.id),
        "counts": queue.counts,
        "size": queue.size,
        "find": lambda: queue.find([lease.job.id for lease in leases]),
        "page": lambda: queue.dead_letters(limit=1),
        "requeue_dead": lambda: queue.requeue_dead(bury_one.job.id),
    }
    trips = {}
    for name, act in acts.items():
        with CountedCalls(queue) as calls:
            act()
        trips[name] = calls.count

    assert dict.fromkeys(acts, 1) == trips


@pytest.mark.on_servers
def test_what_is_refused_or_empty_costs_no_round_trip(queue: Queue) -> None:
    """It is told in the caller."""
    with CountedCalls(queue) as calls:
        queue.enqueue_many([])
        queue.settle()
        queue.extend_many([])
        queue.find([])
        with pytest.raises(ValueError, match="type"):
            queue.enqueue(a_job(type=""))
        queue.close()
        queue.dequeue(timeout=None)

    assert calls.count == 0


LATE_WAKE_UPS = 5
"""On a busy machine one may come long after its cause, and be followed up for a moment; one by one they cease."""


def settle_in(queue: Queue) -> None:
    """A new connection may look for a moment what it has missed."""
    queue.dequeue_many(10, timeout=0.3)


def test_an_idle_dequeue_does_not_poll(open_client: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks, waits for its whole timeout, and looks once more; a wake-up left over may cost one look."""
    monkeypatch.setattr(base, "POLL_S", 60.0)
    queue = open_client(clock=None)
    looks = 0
    look = queue._take

    def counted_take(limit: int) -> Any:
        nonlocal looks
        looks += 1
        return look(limit)

    queue._take = counted_take  # type: ignore[method-assign]

    for _ in range(LATE_WAKE_UPS):
        settle_in(queue)
        looks = 0
        assert queue.dequeue_many(10, timeout=0.5) == []
        if looks <= 3:
            break

    assert 2 <= looks <= 3


def test_a_paused_dequeue_does_not_poll(open_client: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that must not be taken do not keep anybody busy."""
    monkeypatch.setattr(base, "POLL_S", 60.0)
    queue = open_client(clock=None)
    queue.enqueue_many(some_jobs(3))
    queue.pause()
    settle_in(queue)
    looks = 0
    look = queue._take

    def counted_take(limit: int) -> Any:
        nonlocal looks
        looks += 1
        return look(limit)

    queue._take = counted_take  # type: ignore[method-assign]

    taken = queue.dequeue_many(10, timeout=0.5)

    assert taken == []
    assert 2 <= looks <= 6
