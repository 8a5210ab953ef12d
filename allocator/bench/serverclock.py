"""The clock of a queue's server on the clock of this machine, by what the queue itself says of the time."""

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from allocator.bench.scratch import scratch_queue
from allocator.domain.job import Job

ASKED = 30


@dataclass(frozen=True)
class Offset:
    """
    The server's clock minus CLOCK_MONOTONIC.

    Args:
        at_ns: When it was found, on CLOCK_MONOTONIC.
        offset_s: What to subtract from an instant of the server.
        error_s: It is right to within so much: half the shortest round trip, or less where several agree.
    """

    at_ns: int
    offset_s: float
    error_s: float


def find_offset(url: str) -> Offset:
    """
    Ask the server for the time, through a queue made for it: a job's acceptance lies between its call and the reply.

    The bounds of ASKED calls are intersected, as in K. Marzullo's algorithm with sources that are all right.

    Raises:
        QueueUnavailable: The server does not answer.
    """
    low_s, high_s = -np.inf, np.inf
    with scratch_queue(url, "clock") as queue:
        for _ in range(ASKED):
            before = time.monotonic()
            accepted_at = queue.enqueue(Job(type="clock")).enqueued_at
            after = time.monotonic()
            assert accepted_at is not None
            low_s, high_s = max(low_s, accepted_at - after), min(high_s, accepted_at - before)
    # Where the clock was set meanwhile the bounds cross; the error says by how much.
    return Offset(time.monotonic_ns(), float(low_s + high_s) / 2, float(abs(high_s - low_s)) / 2)


@dataclass(frozen=True)
class ServerClock:
    """Converts by the offsets at the start and at the end of a run, in a straight line between them."""

    start: Offset
    end: Offset

    @property
    def drift_s(self) -> float:
        """By how much the server's clock moved against ours in the run; beyond both errors it is real."""
        return self.end.offset_s - self.start.offset_s

    def to_monotonic(self, at: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Seconds since the epoch on the server's clock -> seconds of CLOCK_MONOTONIC; NaN stays NaN."""
        rough = at - self.start.offset_s
        span_s = (self.end.at_ns - self.start.at_ns) / 1e9
        share = (rough - self.start.at_ns / 1e9) / span_s if span_s > 0 else np.zeros_like(rough)
        return at - (self.start.offset_s + share * self.drift_s)
