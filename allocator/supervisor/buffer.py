"""Leased jobs that wait for a worker."""

import threading
from collections.abc import Iterable
from heapq import heappop, heappush

from allocator.supervisor.held import Held


class Buffer:
    """
    In queue order. Workers block in `take`; a closed buffer gives them None.

    Taking needs no lock while there is something to take: `heappop` is one call of C on numbers, and no other thread
    comes in between. A lock that is held for a moment, but for every job, would have each release wake another worker,
    which finds it taken again: on two cores that costs more than the job.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Held]] = []
        self._count = 0
        self._lock = threading.Lock()
        self._filled = threading.Condition(self._lock)
        self._closed = False
        self.idle_count = 0
        """Workers that wait in `take`."""
        self.low = threading.Event()
        """Set when a worker has to wait: the fetcher may look how much room there is."""

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, jobs: Iterable[Held]) -> bool:
        """
        Add jobs, which come in queue order; among equals of priority those that came before go first.

        Returns:
            Whether they were added; a closed buffer takes nothing.
        """
        with self._lock:
            if self._closed:
                return False
            for held in jobs:
                self._count += 1
                heappush(self._heap, (-held.lease.job.priority, self._count, held))
            self._filled.notify(len(self._heap))
            return True

    def take(self) -> Held | None:
        """The next job; None once the buffer is closed."""
        item = self._pop()
        if item is None:
            with self._lock:
                while (item := self._pop()) is None:
                    if self._closed:
                        return None
                    self.idle_count += 1
                    self.low.set()
                    try:
                        self._filled.wait()
                    finally:
                        self.idle_count -= 1
        return item[2]

    def _pop(self) -> tuple[int, int, Held] | None:
        try:
            return heappop(self._heap)
        except IndexError:
            return None

    def take_older_than(self, fetched: float) -> list[Held]:
        """Take out what was fetched before an instant of the monotonic clock: no worker came for it."""
        with self._lock:
            if all(item[2].fetched >= fetched for item in list(self._heap)):
                return []
            taken = self._take_all()
            young = [item for item in taken if item[2].fetched >= fetched]
            for item in young:
                heappush(self._heap, item)
            self._filled.notify(len(young))
            return [held for _, _, held in taken if held.fetched < fetched]

    def _take_all(self) -> list[tuple[int, int, Held]]:
        """In order, and one by one: workers take from the same heap meanwhile."""
        return list(iter(self._pop, None))

    def held(self) -> list[Held]:
        """What is in it now."""
        with self._lock:
            return [held for _, _, held in list(self._heap)]

    def close(self) -> list[Held]:
        """Take out everything, and let the workers go."""
        with self._lock:
            self._closed = True
            left = self._take_all()
            self._filled.notify_all()
        return [held for _, _, held in left]
