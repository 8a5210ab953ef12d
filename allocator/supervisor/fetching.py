"""The fetcher: takes from the queue only what should start soon."""

import logging
import threading
import time
from collections.abc import Callable

from allocator.domain.lease import Lease
from allocator.queue.base import MAX_TAKEN, Queue
from allocator.supervisor.buffer import Buffer
from allocator.supervisor.held import Held
from allocator.supervisor.stats import Tally
from allocator.supervisor.trouble import unforeseen

log = logging.getLogger(__name__)

START_WITHIN_S = 0.05
"""What is fetched should start within about this time; more would only sit here while others are idle."""

LATE_S = 1.0
"""What no worker came for within this time goes back, for others to take."""

LOOK_S = 0.2
"""Longest wait inside one dequeue, so that a stop need not wait longer."""

LOOK_AGAIN_S = START_WITHIN_S / 5
"""Until it is looked again whether there is room, and whether anything may be fetched."""

PAUSE_S = 1.0


class Fetcher(threading.Thread):
    """
    Keeps the buffer as full as it should be, and no fuller.

    A worker that has nothing to do calls `fetch` for itself; the thread fetches ahead while all of them are at work.
    """

    def __init__(
        self,
        queue: Queue,
        buffer: Buffer,
        tally: Tally,
        workers: int,
        accept: Callable[[list[Lease]], list[Held]],
        give_back: Callable[[list[Held]], None],
        may_fetch: Callable[[], bool],
    ) -> None:
        super().__init__(name="allocator-fetcher", daemon=True)
        self._queue = queue
        self._buffer = buffer
        self._tally = tally
        self._workers = workers
        self._accept = accept
        self._give_back = give_back
        self._may_fetch = may_fetch
        self._stopping = threading.Event()
        self._is_closed_told = False

    def stop(self, timeout_s: float) -> None:
        """
        Take nothing more; returns when the last dequeue has, or after so long.

        What a dequeue still brings later, once its server is back, goes back untried.
        """
        deadline = time.monotonic() + timeout_s
        self._stopping.set()
        self._buffer.stop_fetching(timeout_s)
        if self.is_alive():
            self.join(max(0.0, deadline - time.monotonic()))

    def run(self) -> None:
        buffer = self._buffer
        while buffer.begin_fetching():
            has_room = False
            try:
                has_room = self._room() > 0 and self._may_fetch()
                if has_room:
                    self._fetch()
            except Exception as error:
                self._pause(error)
            finally:
                buffer.end_fetching()
            if not has_room:
                late = buffer.take_older_than(time.monotonic() - LATE_S)
                if late:
                    self._give_back(late)
                # Not as its turn, which a worker may want meanwhile.
                self._stopping.wait(LOOK_AGAIN_S)

    def fetch(self) -> None:
        """Fill the buffer from the queue, after waiting there a little for the first job. One thread at a time."""
        try:
            if self._may_fetch():
                self._fetch()
            else:
                self._stopping.wait(LOOK_AGAIN_S)
        except Exception as error:
            self._pause(error)

    def _pause(self, error: Exception) -> None:
        # Whatever it is: otherwise nothing would ever be taken again, and nobody would be told.
        log.error("no jobs can be fetched; trying again in %g s: %s", PAUSE_S, error, exc_info=unforeseen(error))
        self._stopping.wait(PAUSE_S)

    def _fetch(self) -> None:
        if self._queue.closed:
            if not self._is_closed_told:
                self._is_closed_told = True
                log.warning("the queue %s was closed: nothing is fetched any more", self._queue.identity)
            self._stopping.wait()
            return
        leases = self._queue.dequeue_many(min(max(self._room(), 1), MAX_TAKEN), LOOK_S)
        if leases and self._stopping.is_set():
            # The store has not heard of them, and the settler may be gone.
            self._queue.settle(releases=leases)
        elif leases:
            jobs = self._accept(leases)
            if jobs and not self._buffer.put(jobs):
                self._give_back(jobs)

    def _room(self) -> int:
        """
        Idle workers, and what the others will begin within START_WITHIN_S at the pace of the last attempts.

        But no more than have ended so far: what the first few took says little of what settling them will take.
        """
        tally = self._tally
        soon = int(self._workers * START_WITHIN_S / max(tally.pace_s, 1e-6))
        return max(self._buffer.idle_count, min(soon, tally.attempt_count, MAX_TAKEN)) - len(self._buffer)
