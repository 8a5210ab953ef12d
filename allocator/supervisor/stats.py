"""What a supervisor tells about itself. Written by one thread, read by any, without locks."""

import time
from collections import Counter, deque
from dataclasses import dataclass

WINDOW_S = 5.0
SAMPLES = 1000
PACE_SAMPLES = 50
"""About how many of the last attempts the pace is made of."""


@dataclass(frozen=True)
class WorkerStats:
    """
    Args:
        state: idle, running, stuck (over its timeout) or gone.
        job_id, job_type, running_s: Of the job it is at; empty and 0 when idle.
        done_count: Attempts that it finished, whatever came of them.
    """

    name: str
    state: str
    job_id: str
    job_type: str
    running_s: float
    done_count: int


@dataclass(frozen=True)
class Stats:
    """
    Args:
        backlog: Jobs that wait in the queue, at most about a second old; None before the first look.
        buffered, running: Leased jobs that wait for a worker; that a worker is at.
        done, retried, dead, released, lost: Counts since the start.
        done_per_s: Over the last five seconds.
        wait_s, service_s: p50, p90 and p99 of the last thousand attempts; empty before the first.
        restarts: Workers that were replaced.
    """

    backlog: int | None
    buffered: int
    running: int
    done: int
    retried: int
    dead: int
    released: int
    lost: int
    done_per_s: float
    wait_s: dict[str, float]
    service_s: dict[str, float]
    restarts: int
    workers: tuple[WorkerStats, ...]


class Tally:
    """Counts and samples; only the settler writes."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.wait_s: deque[float] = deque(maxlen=SAMPLES)
        self.service_s: deque[float] = deque(maxlen=SAMPLES)
        self.pace_s = 0.0
        """How long an attempt takes its worker, of the last ones above all; 0 before the first."""
        self.attempt_count = 0
        self._done_at: deque[tuple[float, int]] = deque(maxlen=SAMPLES)

    def note_attempt(self, wait_s: float, service_s: float, held_up_s: float) -> None:
        """
        Of each that was begun, once it has ended.

        Args:
            held_up_s: How long its worker might not start it, for the ends of others were not told.
        """
        self.wait_s.append(wait_s)
        self.service_s.append(service_s)
        self.attempt_count += 1
        self.pace_s += (service_s + held_up_s - self.pace_s) / min(self.attempt_count, PACE_SAMPLES)

    def note_done(self) -> None:
        """After each group: how many were done by now."""
        self._done_at.append((time.monotonic(), self.counts["done"]))

    def done_per_s(self) -> float:
        """Over the window, or as far as the samples reach back."""
        now = time.monotonic()
        recent = [(at, count) for at, count in list(self._done_at) if at >= now - WINDOW_S]
        if len(recent) < 2:
            return 0.0
        return (recent[-1][1] - recent[0][1]) / max(now - recent[0][0], 1e-9)


def quantiles(samples: "deque[float]") -> dict[str, float]:
    """p50, p90 and p99 by the nearest rank; empty without samples."""
    ordered = sorted(samples)
    if not ordered:
        return {}
    last = len(ordered) - 1
    return {
        name: ordered[min(last, int(share * len(ordered)))]
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))
    }
