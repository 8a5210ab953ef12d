"""What the tests of the store are built from. Each builder shows only what a case is about."""

from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

from allocator.domain.clock import ManualClock
from allocator.domain.errors import QueueUnavailable
from allocator.domain.job import Job
from allocator.domain.lease import Lease
from allocator.persistence import Ending, Store

NOW = 1_700_000_000.0

Opener = Callable[..., Store]

_numbers = count(1)


class FakeQueue:
    """Takes jobs and keeps them in a list, or refuses them all."""

    def __init__(self, identity: str = "memory:test:default") -> None:
        self.identity = identity
        self.clock = ManualClock(NOW)
        self.closed = False
        self.broken = False
        self.enqueued: list[Job] = []

    def enqueue_many(self, jobs: Iterable[Job]) -> list[Job]:
        """As a queue does, without giving an id twice."""
        if self.closed:
            raise RuntimeError("closed")
        if self.broken:
            raise QueueUnavailable("the server is gone")
        known = {job.id for job in self.enqueued}
        accepted = list(jobs)
        self.enqueued += [job for job in accepted if job.id not in known]
        return accepted


def a_job(**changes: Any) -> Job:
    """A job that any queue accepts."""
    return Job(**{"type": "json", "payload": {"n": 0}, **changes})


def a_lease(job: Job, attempt: int = 1, at: float = NOW, **changes: Any) -> Lease:
    """A new lease of a job, given at `at`."""
    fields = {"token": f"token-{next(_numbers)}", "expires_at": at + 15, "due_at": at, "worker": "here:1"}
    return Lease(job=job, attempt=attempt, leased_at=at, **{**fields, **changes})


def an_ending(lease: Lease, outcome: str = "done", **changes: Any) -> Ending:
    """How an attempt ended, a second after its lease was given."""
    return Ending(lease, outcome, **{"finished_at": lease.leased_at + 1, **changes})


def running(store: Store, queue: FakeQueue, **changes: Any) -> Lease:
    """The lease of a new job, begun."""
    lease = a_lease(store.submit(queue, a_job(**changes)))
    assert store.begin([lease], queue).runnable == [lease]
    return lease


def finished(store: Store, queue: FakeQueue, outcome: str = "done", at: float = NOW, **changes: Any) -> str:
    """The id of a new job whose first attempt ended at `at`."""
    lease = running(store, queue, **changes)
    assert store.settle([an_ending(lease, outcome, finished_at=at)]) == []
    return lease.job.id


def state_of(store: Store, job_id: str) -> str:
    """The state of a job that the store must know."""
    job = store.job(job_id)
    assert job is not None, f"no job {job_id}"
    return job.state
