"""A job that was given up, and why."""

import msgspec

from allocator.domain.job import Job

LEASE_EXPIRED = "lease expired"
"""The error of an attempt whose worker went silent."""

MAX_ATTEMPTS_KEPT_EACH_END = 20
MAX_ERROR_BYTES = 4 * 1024
MAX_TRACEBACK_BYTES = 16 * 1024


class Attempt(msgspec.Struct, omit_defaults=True):
    """
    One failed try. Instants are seconds since the epoch on the queue's clock.

    Args:
        number: As `Lease.attempt` was.
        error: What the worker said, or "lease expired".
        traceback: At most 16 KiB; the end is kept, where Python names the error.
        worker: Who held the lease.
        leased_at: When the lease was given.
        failed_at: When the failure was recorded.
    """

    number: int
    error: str
    traceback: str | None
    worker: str
    leased_at: float
    failed_at: float


class DeadLetter(msgspec.Struct):
    """
    A job that was given up and is kept for a person to look at.

    Args:
        job: As it was enqueued. Where the record itself was damaged: only the id is true, and type is "damaged".
        error: Why it was given up.
        attempts: The first and the last 20 failed ones, in order, from before a `requeue_dead` too.
        attempt_count: How many failed in all; more than `len(attempts)` where the middle was left out.
        dead_at: Seconds since the epoch on the queue's clock.
        position: Among the dead letters, from 1, growing; what `after` goes by.
    """

    job: Job
    error: str
    attempts: list[Attempt]
    attempt_count: int
    dead_at: float
    position: int = 0


DAMAGED_TYPE = "damaged"


def damaged_job(job_id: str) -> Job:
    """What stands for a job whose record cannot be read."""
    return Job(type=DAMAGED_TYPE, id=job_id)


def trim_text(text: str, limit: int) -> str:
    """At most `limit` bytes of UTF-8 from the end of `text`, and nothing that a database refuses to store."""
    # Exception texts come from anywhere: lone surrogates of file names and NUL must not break the nack.
    raw = text.encode("utf-8", "backslashreplace").replace(b"\0", b"\\0")
    if len(raw) > limit:
        mark = b"[cut] "
        raw = mark + raw[len(mark) - limit :]
    return raw.decode("utf-8", "ignore")
