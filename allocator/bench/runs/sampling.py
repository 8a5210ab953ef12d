"""The backlog of a run, asked for all the while, by a client that does nothing else."""

import threading
import time

import pandas as pd

from allocator.domain.errors import AllocatorError
from allocator.queue.base import Queue

INTERVAL_S = 0.1
COLUMNS = ("ready", "scheduled", "leased", "dead")


class Sampler(threading.Thread):
    """
    Asks a queue how many jobs are in which state, ten times a second.

    A sample counts for the middle of its call. While the server is away there are none.

    Attributes:
        latest: State -> jobs, as last seen.
        origin_ns: Of the run, on CLOCK_MONOTONIC.
        error: Why it ended before its time, if it did.
    """

    def __init__(self, queue: Queue, origin_ns: int) -> None:
        super().__init__(name="bench-sampler", daemon=True)
        self._queue = queue
        self.origin_ns = origin_ns
        self._rows: list[tuple[float, ...]] = []
        self._ending = threading.Event()
        self._asked = threading.Condition()
        self._asked_ns = 0
        self.latest: dict[str, int] = {}
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._sample()
        except Exception as error:
            self.error = error

    def _sample(self) -> None:
        while not self._ending.is_set():
            before = time.monotonic_ns()
            try:
                counts = self._queue.counts()
            except AllocatorError:
                pass
            else:
                at_s = ((before + time.monotonic_ns()) / 2 - self.origin_ns) / 1e9
                self._rows.append((at_s, *(counts[name] for name in COLUMNS)))
                self.latest = dict(counts)
                with self._asked:
                    self._asked_ns = before
                    self._asked.notify_all()
            self._ending.wait(INTERVAL_S)

    def is_empty_since(self, at_ns: int, within_s: float = 0.5) -> bool:
        """Whether nothing waits or is leased, as asked after this instant; False where no answer comes in time."""
        with self._asked:
            self._asked.wait_for(lambda: self._asked_ns >= at_ns, within_s)
            if self._asked_ns < at_ns:
                return False
        return not sum(self.latest[name] for name in ("ready", "scheduled", "leased"))

    def stop(self) -> pd.DataFrame:
        """End it; gives a row a sample: `at`, seconds since the run's origin, and a column for each state."""
        self._ending.set()
        self.join()
        return pd.DataFrame(self._rows, columns=["at", *COLUMNS]).astype(
            {"at": "float64", **dict.fromkeys(COLUMNS, "int64")}
        )
