"""What a program of the lab counts, in a small file that is mapped into it and read by whoever looks on."""

import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path

SUFFIX = ".tally"

SENT, REFUSED, DONE, RETRIED, JOB, STARTED_NS = range(6)
"""
SENT, REFUSED: jobs of the load, accepted and not. DONE, RETRIED: attempts of a worker, by how they ended. JOB: what it
is at, the job's number and one more; 0: nothing.
"""

NUMBERS = 6


def new_tally(folder: Path) -> memoryview:
    """Signed numbers, all 0, in a new file of this process; each has one thread that writes it."""
    path = folder / f"{os.getpid()}-{time.monotonic_ns()}{SUFFIX}"
    path.write_bytes(bytes(8 * NUMBERS))
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 0)).cast("q")


FAILING = "failing"


def new_share(folder: Path) -> "memoryview[float]":
    """A number in a file that all workers share: which share of their attempts is to fail from now on."""
    (folder / FAILING).write_bytes(bytes(8))
    return open_share(folder)


def open_share(folder: Path) -> "memoryview[float]":
    """The same number, in another process."""
    with (folder / FAILING).open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 0)).cast("d")


def tallies(folder: Path) -> Iterator[tuple[int, list[int]]]:
    """The process and the numbers of each file there."""
    for path in folder.glob(f"*{SUFFIX}"):
        # A file that was made this moment may be empty.
        numbers = memoryview(path.read_bytes().ljust(8 * NUMBERS, b"\0")).cast("q")
        yield int(path.name.partition("-")[0]), numbers.tolist()
