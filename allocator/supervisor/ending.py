"""How one attempt ended, as it goes from a worker to store and queue."""

from dataclasses import dataclass

from allocator.supervisor.held import Held


@dataclass(slots=True)
class Ending:
    """
    How one attempt ended.

    Args:
        verb: done, failed, dead or released.
        delay_s: Until the next attempt; None leaves it to the job's backoff.
        finished: On the monotonic clock of this process.
        recorded: Whether the store is to hear of it; not where the attempt never began there.
    """

    held: Held
    verb: str
    error: str = ""
    traceback: str | None = None
    delay_s: float | None = None
    result: object = None
    finished: float = 0.0
    recorded: bool = True
