"""Leased jobs that wait for a worker, and whose turn it is to fetch more."""

import threading
from collections.abc import Callable, Iterable
from heapq import heappop, heappush

from allocator.supervisor.held import Held


class Buffer:
    """
    In queue order. Workers block in `take`; a closed buffer gives them None.

    Taking needs no lock while there is something to take: `heappop` is one call of C on numbers, and no other thread
    comes in between. A lock that is held for a moment, but for every job, would have each release wake another worker,
    which finds it taken again: on two cores that costs more than the job.

    One thread at a time fetches: a worker that has nothing to do, for what it takes itself need not wait until
    another thread has woken up; only while all of them are at work, a thread that fetches ahead (`begin_fetching`).
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Held]] = []
        self._count = 0
        self._lock = threading.Lock()
        self._filled = threading.Condition(self._lock)
        """There is something to take, or it is nobody's turn to fetch."""
        self._unattended = threading.Condition(self._lock)
        """It is nobody's turn to fetch, and no worker waits that could."""
        self._closed = self._fetching_ended = False
        self.fetching: threading.Thread | None = None
        """Whose turn it is."""
        self._is_worker_fetching = False
        self.idle_count = 0
        """Workers that wait in `take`, or fetch there."""

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
            # A worker that fetched takes one of them itself.
            self._filled.notify(len(self._heap) - self._is_worker_fetching)
            return True

    def take(self, fetch: Callable[[], None] | None = None) -> Held | None:
        """
        The next job; None once the buffer is closed.

        Args:
            fetch: Puts jobs, after waiting for some; called where there are none and nobody else fetches. It may come
                back without any, but must not raise. None: others fetch.
        """
        item = self._pop()
        if item is None:
            with self._lock:
                self.idle_count += 1
                while (item := self._pop()) is None and not self._closed:
                    if fetch is None or self.fetching is not None or self._fetching_ended:
                        self._filled.wait()
                    else:
                        self._fetch(fetch)
                self.idle_count -= 1
                self._pass_turn()
        return None if item is None else item[2]

    def _fetch(self, fetch: Callable[[], None]) -> None:
        """With the lock, which others may have meanwhile."""
        self.fetching, self._is_worker_fetching = threading.current_thread(), True
        self._lock.release()
        try:
            fetch()
        finally:
            self._lock.acquire()
            self._is_worker_fetching = False
            self._end_turn()

    def _end_turn(self) -> None:
        """With the lock."""
        self.fetching = None
        if self._fetching_ended:
            self._unattended.notify_all()

    def _pass_turn(self) -> None:
        """With the lock: if it is nobody's turn to fetch, let somebody know."""
        if self.fetching is None:
            (self._filled if self.idle_count else self._unattended).notify()

    def begin_fetching(self) -> bool:
        """
        Wait until no worker can fetch for itself; it is the caller's turn then, until `end_fetching`.

        Returns:
            Whether it is; it never is again after `stop_fetching`.
        """
        with self._lock:
            while not self._fetching_ended and (self.idle_count or self.fetching is not None):
                self._unattended.wait()
            if not self._fetching_ended:
                self.fetching = threading.current_thread()
            return not self._fetching_ended

    def end_fetching(self) -> None:
        """The turn that `begin_fetching` gave is over."""
        with self._lock:
            self._end_turn()
            self._pass_turn()

    def stop_fetching(self, timeout_s: float) -> None:
        """Nobody's turn comes any more; returns when the present one is over, or after so long."""
        with self._lock:
            self._fetching_ended = True
            self._unattended.notify_all()
            self._unattended.wait_for(lambda: self.fetching is None, timeout_s)

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
