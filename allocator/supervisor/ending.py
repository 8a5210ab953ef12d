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
        begun: Whether it began in the store, which then is to hear of its end; None where the store may have it,
            since its reply was lost.
    """

    held: Held
    verb: str
    error: str = ""
    traceback: str | None = None
    delay_s: float | None = None
    result: object = None
    finished: float = 0.0
    begun: bool | None = True
