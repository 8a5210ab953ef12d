"""The exclusive, expiring right to try a job, and the ways to give it back."""

from typing import NamedTuple

import msgspec

from allocator.domain.job import Job


class Lease(msgspec.Struct, gc=False):
    """
    The right to one attempt at a job. All instants are seconds since the epoch on the queue's clock.

    Args:
        job: Decoded afresh for this lease. Its payload is yours to change; id and retries are what settling goes by.
        attempt: 1, 2, …; counts from 1 again after a dead letter was put back.
        token: Unique to this lease. What fences a late worker.
        expires_at: The lease is lost from this instant on. `extend` moves it, in place.
        due_at: When the job became due: the start of its wait time.
        leased_at: When this lease was given.
        worker: Who holds it, as recorded with a failed attempt.
        cancelled: Someone asked for the job to be cancelled; set by `extend`, in place.
        lost_before: An earlier lease of the job was lost, perhaps since the job killed its worker; so it came alone.
    """

    job: Job
    attempt: int
    token: str
    expires_at: float
    due_at: float
    leased_at: float
    worker: str = ""
    cancelled: bool = False
    lost_before: bool = False


class Nack(NamedTuple):
    """A failed attempt, for `settle`. A plain tuple `(lease, error)` does as well."""

    lease: Lease
    error: str
    traceback: str | None = None
    delay: float | None = None
    dead: bool = False


class Release(NamedTuple):
    """A lease given back untried, for `settle`. A bare lease does as well."""

    lease: Lease
    delay: float = 0.0
