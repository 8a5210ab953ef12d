"""What a session or a queue looks like now, twice a second, by a thread that does nothing else."""

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from allocator.bench.live import Waits
from allocator.domain.errors import AllocatorError
from allocator.lab import tallies
from allocator.lab.orders import SOJOURNS, WAITS
from allocator.queue.base import Queue

INTERVAL_S = 0.5
KEPT_S = 60.0
RATE_S = 1.0
"""Over which rates are taken: what changes shows within two looks."""

STALE_S = 2.0
"""After which what the queue last said is no longer how it stands."""


@dataclass(frozen=True)
class Reading:
    """
    One look. None: not known, or too few jobs to say.

    Args:
        at: Seconds, on CLOCK_MONOTONIC.
        arrival_per_s: Jobs that the queue has taken, in the last second.
        throughput_per_s: Jobs done, in the last second.
        backlog, dead: Jobs; None while the server does not answer.
        wait_s_p50, wait_s_p99, sojourn_s_p50, sojourn_s_p99: Of the jobs done in the last 5 s, at most 9 % too high.
        retries_per_s: Failed attempts that are tried again, in the last second.
        refused: Jobs so far that the queue did not take, or of which it did not say whether it did.
    """

    at: float
    arrival_per_s: float | None = None
    throughput_per_s: float | None = None
    backlog: int | None = None
    dead: int | None = None
    wait_s_p50: float | None = None
    wait_s_p99: float | None = None
    sojourn_s_p50: float | None = None
    sojourn_s_p99: float | None = None
    retries_per_s: float | None = None
    refused: int | None = None


class Counts(threading.Thread):
    """Asks a queue how many jobs are in which state, with patience of its own: a server may be paused."""

    def __init__(self, queue: Queue) -> None:
        super().__init__(name="lab-counts", daemon=True)
        self._queue = queue
        self._ending = threading.Event()
        self._latest: tuple[float, Mapping[str, int]] = (float("-inf"), {})

    @property
    def latest(self) -> Mapping[str, int]:
        """State -> jobs; empty while no answer comes."""
        at, counts = self._latest
        return counts if time.monotonic() - at < STALE_S else {}

    def run(self) -> None:
        while not self._ending.wait(INTERVAL_S):
            try:
                self._latest = (time.monotonic(), self._queue.counts())
            except AllocatorError:
                continue

    def stop(self) -> None:
        """Ask nothing more."""
        self._ending.set()


class Reader:
    """
    Looks at a queue, and at what the programs of a session count.

    Args:
        folder: Where they count; None: whoever works on the queue is not ours, and only what it says is known.
    Attributes:
        readings: Those of the last minute, the oldest first.
    """

    def __init__(self, queue: Queue, folder: Path | None = None) -> None:
        self._folder = folder
        self._counts = Counts(queue)
        self._counts.start()
        self._times = None if folder is None else (Waits(folder, WAITS), Waits(folder, SOJOURNS))
        self._before: deque[tuple[float, Mapping[str, int]]] = deque(maxlen=round(RATE_S / INTERVAL_S))
        self.readings: deque[Reading] = deque(maxlen=1 + round(KEPT_S / INTERVAL_S))

    @property
    def latest(self) -> Reading:
        """The last one; before there is any, one that knows nothing."""
        return self.readings[-1] if self.readings else Reading(0.0)

    def look(self) -> Reading:
        """How it stands now; for one thread, twice a second."""
        at, counts = time.monotonic(), self._counts.latest
        totals = {"done": counts["done"]} if self._folder is None and counts else {}
        waits: list[float | None] = [None, None]
        sojourns = waits
        if self._folder is not None and self._times is not None:
            totals = tally_totals(self._folder)
            waits, sojourns = (times.percentiles_s(50, 99) for times in self._times)
        if self.readings and at - self.latest.at > STALE_S:
            # Nobody looked for a while; lines and rates must not pass over it as if one had.
            self.readings.append(Reading(self.latest.at))
            self._before.clear()
        then, before = self._before[0] if self._before else (at, {})
        self._before.append((at, totals))

        def per_s(name: str) -> float | None:
            return (totals[name] - before[name]) / (at - then) if name in totals and name in before else None

        reading = Reading(
            at,
            arrival_per_s=per_s("sent"),
            throughput_per_s=per_s("done"),
            retries_per_s=per_s("retried"),
            refused=totals.get("refused"),
            backlog=counts["ready"] + counts["scheduled"] if counts else None,
            dead=counts.get("dead"),
            wait_s_p50=waits[0],
            wait_s_p99=waits[1],
            sojourn_s_p50=sojourns[0],
            sojourn_s_p99=sojourns[1],
        )
        self.readings.append(reading)
        return reading

    def stop(self) -> None:
        """Ask the queue nothing more."""
        self._counts.stop()


def tally_totals(folder: Path) -> dict[str, int]:
    """What all programs of a session have counted together, by name."""
    rows = [row for _, row in tallies.tallies(folder)]
    places = {"sent": tallies.SENT, "refused": tallies.REFUSED, "done": tallies.DONE, "retried": tallies.RETRIED}
    return {name: sum(row[place] for row in rows) for name, place in places.items()}
