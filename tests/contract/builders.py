"""What the tests of a queue are built from. Each builder shows only what a case is about."""

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from allocator import Job, Lease, ManualClock, Queue, open_queue
from allocator.queue.base import erase
from allocator.queue.sessions import ConnectionLost

R = TypeVar("R")

BOUND_S = 20.0
"""Longest wait for a thread; only a broken queue gets there."""


@dataclass(frozen=True)
class Backend:
    """Which backend, and where: `inprocess`, `redis`, `valkey` or `postgres`."""

    kind: str
    url: str

    @property
    def is_server(self) -> bool:
        """Whether calls go through connections, which can break."""
        return self.kind != "inprocess"


class Clients:
    """Objects on one queue that nobody else uses; called, it opens one more."""

    def __init__(self, backend: Backend, clock: ManualClock) -> None:
        self.backend = backend
        self.name = f"test-{uuid.uuid4().hex[:16]}"
        self.url = backend.url or f"memory://{self.name}"
        self._clock = clock
        self._opened: list[Queue] = []

    def __call__(self, **options: Any) -> Queue:
        queue = open_queue(self.url, **{"name": self.name, "clock": self._clock, **options})
        self._opened.append(queue)
        return queue

    def erase(self) -> None:
        """Close what was opened, and delete its keys or rows and no others."""
        if not self._opened:
            # Another process may have used the name.
            self()
        for queue in self._opened:
            queue.close()
        for queue in {queue.name: queue for queue in self._opened}.values():
            erase(queue)


def a_job(**changes: Any) -> Job:
    """A job that any queue accepts."""
    return Job(**{"type": "json", "payload": {"n": 0}, **changes})


def some_jobs(count: int, **changes: Any) -> list[Job]:
    """Jobs that carry their numbers: 0, 1, …"""
    return [a_job(payload={"n": n}, **changes) for n in range(count)]


def numbers(leases: list[Lease]) -> list[int]:
    """The numbers of `some_jobs`, as leased."""
    return [lease.job.payload["n"] for lease in leases]


def ids(leases: list[Lease]) -> list[str]:
    """The ids of the jobs that were leased."""
    return [lease.job.id for lease in leases]


def take(queue: Queue) -> Lease:
    """The next lease; there must be one."""
    lease = queue.dequeue(timeout=0)
    assert lease is not None, f"nothing to take: {queue.counts()}"
    return lease


def take_all(queue: Queue, limit: int = 64) -> list[Lease]:
    """Every lease to be had now, in the order in which they came."""
    leases: list[Lease] = []
    while batch := queue.dequeue_many(limit, timeout=0):
        leases += batch
    return leases


def bury(queue: Queue, *jobs: Job, error: str = "broken") -> list[Job]:
    """Make dead letters of new jobs, in this order; the queue must have nothing else ready."""
    stored = []
    for job in jobs or (a_job(),):
        stored.append(queue.enqueue(job))
        queue.nack(take(queue), error, dead=True)
    return stored


def counts(**others: int) -> dict[str, int]:
    """All counts, zero unless said."""
    names = ("ready", "scheduled", "leased", "dead", "done", "cancelled", "purged")
    return dict.fromkeys(names, 0) | others


class InThread(threading.Thread, Generic[R]):
    """Runs a function in a thread; `result()` waits for it with a bound and raises what it raised."""

    def __init__(self, function: Callable[..., R], *arguments: Any) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._arguments = arguments
        self._result: R | None = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """See threading.Thread."""
        try:
            self._result = self._function(*self._arguments)
        except BaseException as error:
            self._error = error

    def result(self) -> R:
        """What the function returned."""
        self.join(BOUND_S)
        assert not self.is_alive(), f"the thread did not end within {BOUND_S:g} s"
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]


class Blocking:
    """A dequeue in a thread of its own, of which it is known when it has found nothing and begins to wait."""

    def __init__(self, queue: Queue, timeout: float | None = None, limit: int = 1) -> None:
        self._looked = threading.Event()
        self._thread = InThread(self._dequeue, queue, timeout, limit)

    def _dequeue(self, queue: Queue, timeout: float | None, limit: int) -> list[Lease]:
        # Uses up the wake-ups of what was enqueued and taken before: one that is left over would hide one that is
        # missing.
        if leases := queue.dequeue_many(limit, timeout=0.03):
            self._looked.set()
            return leases
        wait = type(queue)._wait

        def telling_wait(seconds: float) -> None:
            # Told just before the wait begins: whatever happens from then on must end it.
            self._looked.set()
            wait(queue, seconds)

        queue._wait = telling_wait  # type: ignore[method-assign]
        return queue.dequeue_many(limit, timeout)

    def wait_until_blocked(self) -> "Blocking":
        """Return once the dequeue has found nothing."""
        assert self._looked.wait(BOUND_S), "the dequeue never began to wait"
        return self

    def leases(self) -> list[Lease]:
        """What the dequeue returned in the end."""
        return self._thread.result()


class LostReplies:
    """
    Connections that break after the server has acted and before its reply is read.

    As a context manager: every call of this queue loses its reply so many times. Queues on a server only.
    """

    def __init__(self, queue: Queue, times: int = 1) -> None:
        self._queue = queue
        self._times = times
        self.lost_count = 0

    def __enter__(self) -> Self:
        sessions = self._queue._sessions  # type: ignore[attr-defined]
        call = sessions.call

        def losing_call(operation: Callable[[Any], Any], **options: Any) -> Any:
            left = self._times

            def losing_operation(session: Any) -> Any:
                nonlocal left
                reply = operation(session)
                if left:
                    left -= 1
                    self.lost_count += 1
                    raise ConnectionLost("the reply was lost")
                return reply

            return call(losing_operation, **options)

        sessions.call = losing_call
        return self

    def __exit__(self, *_: object) -> None:
        del self._queue._sessions.call  # type: ignore[attr-defined]


class CountedCalls:
    """Counts the round trips of a queue on a server, as a context manager."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self.count = 0

    def __enter__(self) -> Self:
        sessions = self._queue._sessions  # type: ignore[attr-defined]
        call = sessions.call

        def counted_call(operation: Callable[[Any], Any], **options: Any) -> Any:
            self.count += 1
            return call(operation, **options)

        sessions.call = counted_call
        return self

    def __exit__(self, *_: object) -> None:
        del self._queue._sessions.call  # type: ignore[attr-defined]
