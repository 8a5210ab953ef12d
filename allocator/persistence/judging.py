"""Pure decisions: what a lease may do to a job, given what the store knows of it."""

from enum import Enum, auto
from typing import NamedTuple

from allocator.domain.lease import Lease
from allocator.persistence.states import JobState, Outcome


class Known(NamedTuple):
    """What the decisions need of a job's row."""

    id: str
    state: str
    token: str | None
    attempt: int
    worker: str | None
    cancel_asked: bool
    leased_at: float | None
    started_at: float | None


class Verdict(Enum):
    """What is to become of a lease that wants to begin."""

    RUN = auto()
    FINISHED = auto()
    CANCEL = auto()
    CANCELLED = auto()
    DEAD = auto()
    LOST = auto()


def judge(known: Known, lease: Lease) -> Verdict:
    """Whether `lease` may begin. CANCEL: not yet cancelled, but to be, now that nobody runs it."""
    if known.state == JobState.DONE:
        return Verdict.FINISHED
    if known.state == JobState.CANCELLED:
        return Verdict.CANCELLED
    if known.token == lease.token:
        # A begin whose reply was lost, made again.
        return Verdict.RUN
    if is_older(known, lease):
        return Verdict.LOST
    if known.state == JobState.DEAD and lease.attempt > max(1, known.attempt):
        # The store gave it up and the queue never heard of it. One that was put back counts from 1 again.
        return Verdict.DEAD
    return Verdict.CANCEL if known.cancel_asked else Verdict.RUN


def is_older(known: Known, lease: Lease) -> bool:
    """
    Whether the attempt that the store knows was leased after this one.

    Attempt numbers count too, so that jobs in their retries are not held up by a server whose clock was set back.
    """
    return known.leased_at is not None and lease.leased_at < known.leased_at and lease.attempt <= known.attempt


def ended_state(outcome: str, cancel_asked: bool) -> JobState:
    """The state of a job after an attempt with this outcome of an `Ending`."""
    match outcome:
        case "done":
            return JobState.DONE
        case "retry" | "released":
            return JobState.CANCELLED if cancel_asked else JobState.QUEUED
        case "dead":
            return JobState.CANCELLED if cancel_asked else JobState.DEAD
        case "cancelled":
            return JobState.CANCELLED
        case _:
            raise ValueError(f"outcome: must be done, retry, dead, released or cancelled, not {outcome!r}")


ATTEMPT_OUTCOMES = {
    "done": Outcome.DONE,
    "retry": Outcome.FAILED,
    "dead": Outcome.FAILED,
    "released": Outcome.RELEASED,
    "cancelled": Outcome.CANCELLED,
}
"""What an attempt is recorded as, by the outcome of its `Ending`."""


def newest_of_each(leases: list[Lease]) -> tuple[list[Lease], list[Lease]]:
    """The newest lease of each job, and those that it replaces. The same lease twice is one."""
    newest: dict[str, Lease] = {}
    replaced: list[Lease] = []
    for lease in leases:
        other = newest.get(lease.job.id)
        if other is None or other.leased_at <= lease.leased_at:
            newest[lease.job.id] = lease
            if other is not None and other.token != lease.token:
                replaced.append(other)
        elif other.token != lease.token:
            replaced.append(lease)
    return list(newest.values()), replaced
