"""Between rows of the tables and what the store gives and takes."""

from collections.abc import Iterator
from typing import Any

from allocator.domain.deadletter import LEASE_EXPIRED, MAX_ERROR_BYTES, MAX_TRACEBACK_BYTES, trim_text
from allocator.domain.job import Job
from allocator.domain.lease import Lease
from allocator.persistence.judging import ATTEMPT_OUTCOMES, Known, ended_state
from allocator.persistence.records import Ending, Progress, StoredAttempt, StoredJob
from allocator.persistence.states import ENDED, JobState, Outcome
from allocator.persistence.tables import attempts, jobs

STORED = [
    *(jobs.c[name] for name in StoredJob.__struct_fields__ if name not in ("result_json", "attempts")),
    jobs.c.result.label("result_json"),
]
TRIED = [attempts.c[name] for name in StoredAttempt.__struct_fields__]

MAX_WORKER_BYTES = 200
MAX_MESSAGE_BYTES = 1024
MAX_CHUNK_ROWS = 1000
MAX_CHUNK_BYTES = 4 * 1024 * 1024


def stored_job(row: Any) -> StoredJob:
    """The job of a row of `STORED`, without attempts."""
    job = StoredJob(**row._mapping)
    job.state = JobState(job.state)
    return job


def new_row(identity: str, job: Job, record: bytes, submitted_at: float, due_at: float) -> tuple[Any, ...]:
    """A row for `Statements.insert`."""
    return (
        job.id,
        identity,
        clean(job.type, MAX_ERROR_BYTES),
        job.priority,
        job.max_retries,
        job.failed_count,
        submitted_at,
        due_at,
        record,
    )


def stored_attempt(row: Any) -> StoredAttempt:
    """The attempt of a row of `TRIED`."""
    attempt = StoredAttempt(*row)
    attempt.outcome = Outcome(attempt.outcome)
    return attempt


def running_attempt(job: StoredJob) -> list[StoredAttempt]:
    """The attempt that is the job's own row, if one runs."""
    if job.token is None or job.leased_at is None:
        return []
    return [
        StoredAttempt(
            number=job.attempt,
            token=job.token,
            worker=job.worker or "",
            outcome=Outcome.RUNNING,
            error=None,
            traceback=None,
            leased_at=job.leased_at,
            started_at=job.started_at,
            finished_at=None,
        )
    ]


def chunks(rows: list[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """New rows in parts that one statement can take: PostgreSQL reads a message of up to 1 GiB, as a whole."""
    chunk: list[tuple[Any, ...]] = []
    size = 0
    for row in rows:
        if chunk and (len(chunk) >= MAX_CHUNK_ROWS or size >= MAX_CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(row)
        size += len(row[-1])
    if chunk:
        yield chunk


def beginning_row(lease: Lease) -> tuple[Any, ...]:
    """A row for `Statements.begin`."""
    worker = clean(lease.worker, MAX_WORKER_BYTES)
    return lease.job.id, lease.token, lease.attempt, lease.attempt - 1, worker, lease.leased_at


def progress_row(update: Progress) -> tuple[Any, ...]:
    """A row for `Statements.progress`."""
    if update.message is not None:
        update = update._replace(message=trim_text(update.message, MAX_MESSAGE_BYTES))
    return update


def ending_rows(row: Known, ending: Ending) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """
    A row for `Statements.settle`, and one for `Statements.add_attempts`.

    Raises:
        ValueError: There is no such outcome.
    """
    lease = ending.lease
    state = ended_state(ending.outcome, row.cancel_asked)
    is_over = state in ENDED
    failed = ending.outcome in ("retry", "dead")
    error = None if ending.error is None else trim_text(ending.error, MAX_ERROR_BYTES)
    traceback = None if ending.traceback is None else trim_text(ending.traceback, MAX_TRACEBACK_BYTES)
    worker = clean(ending.worker or lease.worker, MAX_WORKER_BYTES)
    started_at = row.started_at if ending.started_at is None else ending.started_at
    due_at = ending.finished_at if ending.due_at is None else ending.due_at
    return (
        row.id,
        lease.token,
        state,
        state if is_over else None,
        lease.attempt if failed else lease.attempt - 1,
        worker,
        error,
        None if is_over else due_at,
        started_at,
        ending.result if state is JobState.DONE else None,
        ending.finished_at,
    ), (
        row.id,
        lease.token,
        lease.attempt,
        worker,
        ATTEMPT_OUTCOMES[ending.outcome],
        error,
        traceback,
        lease.leased_at,
        started_at,
        ending.finished_at,
    )


def usual_row(ending: Ending) -> tuple[Any, ...]:
    """
    A row for `Statements.settle_usual`: of a job that nobody has asked to cancel.

    Raises:
        ValueError: There is no such outcome.
    """
    lease = ending.lease
    known = Known(lease.job.id, "", lease.token, lease.attempt, None, False, lease.leased_at, None)
    settled, (_, _, number, _, outcome, _, traceback, leased_at, _, _) = ending_rows(known, ending)
    return (*settled, number, outcome, traceback, leased_at)


def lost_attempt(row: Known, at: float) -> list[tuple[Any, ...]]:
    """The row for `attempts` of an attempt that never ended, if there is one."""
    if row.token is None or row.leased_at is None:
        return []
    return [
        (
            row.id,
            row.token,
            row.attempt,
            row.worker or "",
            Outcome.LOST,
            LEASE_EXPIRED,
            None,
            row.leased_at,
            row.started_at,
            at,
        )
    ]


def clean(text: str, limit: int) -> str:
    """Text that a database takes. Nearly all of it is short ASCII, which needs no look at each byte."""
    return text if text.isascii() and len(text) <= limit and "\0" not in text else trim_text(text, limit)
