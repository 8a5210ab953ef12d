"""What the processes of a load generator share: small files that are mapped into each of them."""

import mmap
from pathlib import Path

START_NS, STOP = 0, 1
_HEAD = 8

READY, STARTED, ACCEPTED, REFUSED, UNKNOWN, LATEST_NS, CPU_NS, ENDED = range(8)
"""The counters of a producer. LATEST_NS: the greatest lateness so far. CPU_NS: what it has used since it was ready."""

_ROW = 8


class Control:
    """
    Signed 64-bit numbers: START_NS and STOP, which the parent sets, then a row of counters of each producer.

    Args:
        producers: With it a new file is made; without, the one that is there is opened.
    """

    def __init__(self, path: Path, producers: int | None = None) -> None:
        if producers is not None:
            path.write_bytes(bytes(8 * (_HEAD + _ROW * producers)))
        with path.open("r+b") as file:
            self._numbers = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")

    @property
    def start_ns(self) -> int:
        """The instant of CLOCK_MONOTONIC that is 0 in the schedule; 0 before it is known."""
        return self._numbers[START_NS]

    @start_ns.setter
    def start_ns(self, at_ns: int) -> None:
        self._numbers[START_NS] = at_ns

    def is_stopped(self) -> bool:
        """Whether nothing more is to be sent."""
        return self._numbers[STOP] != 0

    def stop(self) -> None:
        """Let nothing more be sent."""
        self._numbers[STOP] = 1

    def row(self, producer: int) -> memoryview:
        """The counters of a producer, which it alone writes."""
        start = _HEAD + _ROW * producer
        return self._numbers[start : start + _ROW]


class Ended:
    """
    A byte for each job of a run, set once the job has ended.

    Args:
        jobs: With it a new file is made; without, the one that is there is opened.
    """

    def __init__(self, path: Path, jobs: int | None = None) -> None:
        if jobs is not None:
            path.write_bytes(bytes(max(1, jobs)))
        with path.open("r+b") as file:
            self._bytes = mmap.mmap(file.fileno(), 0)

    def mark(self, number: int) -> None:
        """The job has ended."""
        self._bytes[number] = 1

    def has(self, number: int) -> bool:
        """Whether it has."""
        return self._bytes[number] != 0
