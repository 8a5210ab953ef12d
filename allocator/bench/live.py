"""
Wait and other times while a run goes on: counted in small files that are mapped into those who count and who looks.

For the eye alone: a bucket is 9 % wide. The figures of a run come from its records.
"""

import math
import mmap
import os
import time
from collections import deque
from pathlib import Path

SUFFIX = ".waits"
BUCKETS = 256
PER_OCTAVE = 8
UNIT_S = 1e-6

WINDOW_S = 5.0
STEP_S = 0.5


class WaitCounter:
    """Counts wait times, or others that are told apart by `suffix`, in a new file in `folder`. For one thread."""

    def __init__(self, folder: Path, suffix: str = SUFFIX) -> None:
        path = folder / f"{os.getpid()}-{time.monotonic_ns()}{suffix}"
        path.write_bytes(bytes(8 * BUCKETS))
        with path.open("r+b") as file:
            self._counts = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")

    def add(self, wait_s: float) -> None:
        """One more, in seconds."""
        bucket = int(PER_OCTAVE * math.log2(1.0 + wait_s / UNIT_S))
        self._counts[min(bucket, BUCKETS - 1)] += 1


class Waits:
    """What everybody has counted in a folder, over the last seconds."""

    def __init__(self, folder: Path, suffix: str = SUFFIX) -> None:
        self._folder = folder
        self._suffix = suffix
        self._before: deque[tuple[float, list[int]]] = deque([(time.monotonic(), [0] * BUCKETS)])

    def p99_s(self) -> float | None:
        """Of the jobs done in the last 5 s, at most 9 % too high; None where they are fewer than a hundred."""
        return self.percentiles_s(99)[0]

    def percentiles_s(self, *percents: int) -> list[float | None]:
        """Each as `p99_s`: None where so few jobs are done that none of them can lie beyond it."""
        now, counts = time.monotonic(), self._counts()
        before = self._before
        while len(before) > 1 and before[1][0] <= now - WINDOW_S:
            before.popleft()
        recent = [count - old for count, old in zip(counts, before[0][1], strict=True)]
        if now - before[-1][0] >= STEP_S:
            before.append((now, counts))
        return [_percentile_s(recent, percent) for percent in percents]

    def _counts(self) -> list[int]:
        total = [0] * BUCKETS
        for path in self._folder.glob(f"*{self._suffix}"):
            # A file that was made this moment may be empty.
            counts = memoryview(path.read_bytes().ljust(8 * BUCKETS, b"\0")).cast("q")
            total = [one + other for one, other in zip(total, counts, strict=True)]
        return total


def _percentile_s(counts: list[int], percent: int) -> float | None:
    total = sum(counts)
    if total * (100 - percent) < 100:
        return None
    beyond = total - math.ceil(total * percent / 100)
    bucket = BUCKETS - 1
    while (beyond := beyond - counts[bucket]) >= 0:
        bucket -= 1
    return float(UNIT_S * (2.0 ** ((bucket + 1) / PER_OCTAVE) - 1.0))
