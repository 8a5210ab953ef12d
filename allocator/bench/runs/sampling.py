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
    """

    def __init__(self, queue: Queue, origin_ns: int) -> None:
        super().__init__(name="bench-sampler", daemon=True)
        self._queue = queue
        self._origin_ns = origin_ns
        self._rows: list[tuple[float, ...]] = []
        self._ending = threading.Event()
        self.latest: dict[str, int] = {}

    def run(self) -> None:
        while not self._ending.is_set():
            before = time.monotonic_ns()
            try:
                counts = self._queue.counts()
            except AllocatorError:
                pass
            else:
                at_s = ((before + time.monotonic_ns()) / 2 - self._origin_ns) / 1e9
                self._rows.append((at_s, *(counts[name] for name in COLUMNS)))
                self.latest = dict(counts)
            self._ending.wait(INTERVAL_S)

    def stop(self) -> pd.DataFrame:
        """End it; gives a row a sample: `at`, seconds since the run's origin, and a column for each state."""
        self._ending.set()
        self.join()
        return pd.DataFrame(self._rows, columns=["at", *COLUMNS]).astype(
            {"at": "float64", **dict.fromkeys(COLUMNS, "int64")}
        )
