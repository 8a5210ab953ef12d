"""The states of a job in the store, and how an attempt can end."""

from enum import StrEnum


class JobState(StrEnum):
    """
    What the record says of a job. A job in backoff, or given back untried, is queued.

    queued to processing, dead, cancelled; processing to any; dead to queued or processing (put back by hand) or
    cancelled. Done and cancelled are final. The database itself refuses everything else.
    """

    QUEUED = "queued"
    PROCESSING = "processing"
    DONE = "done"
    DEAD = "dead"
    CANCELLED = "cancelled"


UNFINISHED = frozenset({JobState.QUEUED, JobState.PROCESSING})
ENDED = frozenset({JobState.DONE, JobState.DEAD, JobState.CANCELLED})


class Outcome(StrEnum):
    """
    How an attempt stands. Lost: its worker went silent, which is known when the next attempt begins.

    Failed is a retry or the last failure; which of them, the job's state tells.
    """

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    RELEASED = "released"
    CANCELLED = "cancelled"
    LOST = "lost"
