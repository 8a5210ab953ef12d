"""What goes into the store and what comes out of it. All instants are seconds since the epoch on the queue's clock."""

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import msgspec

from allocator.domain.clock import Clock
from allocator.domain.job import Job, decode_record
from allocator.domain.lease import Lease
from allocator.persistence.states import ENDED, JobState, Outcome


class Dispatcher(Protocol):
    """As much of a queue as the store needs in order to submit."""

    @property
    def identity(self) -> str:
        """Names the queue for good: backend, server, name. No password."""
        ...

    @property
    def clock(self) -> Clock | None:
        """The clock that was given; None where the server has its own."""
        ...

    @property
    def closed(self) -> bool:
        """Whether it accepts nothing any more."""
        ...

    def enqueue_many(self, jobs: Iterable[Job]) -> list[Job]:
        """Accept all of the jobs or none; known ids come back unchanged."""
        ...


class Begun(NamedTuple):
    """
    What `begin` found: each lease is in one of these.

    Args:
        runnable: Written as processing with this lease's token. Run them.
        finished: Done before. Ack them without running.
        cancelled: Cancelled in the store. Cancel in the queue, then release; or ack.
        dead: Given up in the store, and not put back since: the queue never heard of it. Nack them with dead=True.
        lost: A later lease of the same job has begun. Drop them.
    """

    runnable: list[Lease]
    finished: list[Lease]
    cancelled: list[Lease]
    dead: list[Lease]
    lost: list[Lease]


class Ending(msgspec.Struct, gc=False):
    """
    How one attempt ended.

    Args:
        lease: As it was given to `begin`.
        outcome: done, retry, dead, released or cancelled. Where the store was asked to cancel the job, all but done
            become cancelled.
        finished_at: When.
        result: Strict JSON, encoded; for done.
        error: For retry and dead. At most 4 KiB are kept.
        traceback: At most 16 KiB are kept.
        due_at: When the job may be tried again; for retry and released. At once by default.
        started_at: When the processor was called; None if it never was.
        worker: Overrides the lease's.
    """

    lease: Lease
    outcome: str
    finished_at: float
    result: bytes | None = None
    error: str | None = None
    traceback: str | None = None
    due_at: float | None = None
    started_at: float | None = None
    worker: str | None = None


class Progress(NamedTuple):
    """How far an attempt is. Changes nothing once the token is not the job's any more."""

    job_id: str
    token: str
    done: float | None
    total: float | None = None
    message: str | None = None
    started_at: float | None = None


class StoredAttempt(msgspec.Struct):
    """One try. `number` counts from 1 again after a dead letter was put back."""

    number: int
    token: str
    worker: str
    outcome: Outcome
    error: str | None
    traceback: str | None
    leased_at: float
    started_at: float | None
    finished_at: float | None


class StoredJob(msgspec.Struct):
    """
    A job as the store has it.

    Args:
        queue: The identity of its queue.
        token: Of the lease that is being worked on; None unless processing.
        attempt: Number of the last attempt that was begun; 0 before the first.
        failed_count: Attempts that failed since it was accepted or last put back.
        worker: Of the last attempt, and so are `leased_at` and `started_at`.
        cancel_asked: It is to be cancelled once its present attempt has ended in anything but done.
        error: Of the last attempt that failed.
        record: The job as strict JSON, as the queue has it.
        result_json: What the processor gave, encoded.
        attempts: Oldest first, a running one last. Empty in pages; `Store.job` fills it.
    """

    id: str
    queue: str
    type: str
    priority: int
    max_retries: int
    state: JobState
    token: str | None
    attempt: int
    failed_count: int
    worker: str | None
    cancel_asked: bool
    progress_done: float | None
    progress_total: float | None
    progress_message: str | None
    error: str | None
    submitted_at: float
    due_at: float
    leased_at: float | None
    started_at: float | None
    finished_at: float | None
    record: bytes
    result_json: bytes | None
    attempts: list[StoredAttempt] = []

    @property
    def ended(self) -> bool:
        """Whether it is done, dead or cancelled."""
        return self.state in ENDED

    @property
    def payload(self) -> Any:
        """The payload, decoded afresh."""
        return decode_record(self.record).payload

    @property
    def result(self) -> Any:
        """What the processor gave, decoded afresh; None before it did."""
        return None if self.result_json is None else msgspec.json.decode(self.result_json)

    def job(self, now: float) -> Job:
        """The job as it is to be enqueued again: its id, its failed attempts, and the delay that remains at `now`."""
        job = decode_record(self.record)
        job.id = self.id
        job.failed_count = self.failed_count
        job.delay = max(0.0, self.due_at - now)
        return job
