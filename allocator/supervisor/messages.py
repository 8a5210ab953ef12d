"""What supervisor and worker process say to each other: JSON, one message a frame."""

from typing import Any

import msgspec

from allocator.domain.job import Job


class Task(msgspec.Struct):
    """What the supervisor sends: a job with what its lease says, or a word about the present one."""

    job: Job | None = None
    attempt: int = 0
    token: str = ""
    due_at: float = 0.0
    leased_at: float = 0.0
    cancel: bool = False


class Reply(msgspec.Struct, omit_defaults=True):
    """
    What the child sends.

    Args:
        kind: ready; started, progress, beat; done, failed or dead; died, after which the process ends.
        result: JSON of what the processor returned, with `done`.
    """

    kind: str
    error: str = ""
    traceback: str | None = None
    result: Any = None
    done: float = 0.0
    total: float | None = None
    message: str = ""
