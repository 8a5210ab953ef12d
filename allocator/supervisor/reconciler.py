"""The reconciler: puts back what the queue has lost, learns what it has given up, deletes what ended long ago."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from allocator.domain.job import check_seconds
from allocator.domain.states import State
from allocator.queue.base import Queue
from allocator.supervisor.trouble import unforeseen

if TYPE_CHECKING:
    from allocator.persistence import Store

log = logging.getLogger(__name__)

INTERVAL_S = 30.0
PAGE = 500

BATCH = 100
"""Jobs read and enqueued at a time; each may have a payload of a MiB."""

REST = 4.0
"""Times what a page took, before the next one: most of the time of store and server is for those who do the jobs."""

ON_ITS_WAY_S = 0.05
"""The store has a job a moment before the queue has it; what has not arrived after this is taken for lost."""

RETAIN_ROUND = 5_000
"""Jobs deleted before it is asked whether to stop: some seconds at most, and more than finding the first one costs."""

RETAIN_PAUSE_S = 0.05
"""Between rounds, so that those who wait to write to the store get their turn."""


def reconcile(store: "Store", queue: Queue, rest: Callable[[float], bool] | None = None) -> int:
    """
    Compare every unfinished job of this queue with the queue, once; returns how many were put back.

    Safe to run twice, from several processes, and beside workers: the queue is asked first and the store read again
    after it, so a job that ends in between is seen as ended; and an id that the queue knows is not enqueued again.

    Args:
        rest: Called with seconds to wait after a page of which nothing was missing; True ends it there. None: it is in
            a hurry.
    """
    put_back = 0
    after_id = ""
    waited = False
    while True:
        began = time.monotonic()
        page = store.unfinished(queue.identity, after_id, PAGE)
        if not page:
            return put_back
        states = queue.find([job.id for job in page])
        given_up = {job_id: state for job_id, state in states.items() if state in (State.DEAD, State.CANCELLED)}
        if given_up:
            changed = store.copy_back(given_up, page)
            if changed:
                log.info(
                    "%d jobs were given up by the queue %s, and are now in the store too", len(changed), queue.identity
                )
        missing = [job.id for job in page if job.id not in states]
        if missing and not waited:
            # Once: by then whatever was submitted before the first page has arrived.
            time.sleep(ON_ITS_WAY_S)
            waited = True
            arrived = queue.find(missing)
            missing = [job_id for job_id in missing if job_id not in arrived]
        if missing:
            put_back += _put_back(store, queue, missing)
        if len(page) < PAGE:
            # Those that were submitted since are for the next time: it would go on for as long as jobs come.
            return put_back
        after_id = page[-1].id
        if not missing and rest is not None and rest(REST * (time.monotonic() - began)):
            return put_back


def _put_back(store: "Store", queue: Queue, missing: list[str]) -> int:
    """Enqueue those that have not ended meanwhile; returns how many."""
    now = time.time() if queue.clock is None else queue.clock.now()
    count = 0
    for start in range(0, len(missing), BATCH):
        lost = [job.job(now) for job in store.still_unfinished(missing[start : start + BATCH])]
        queue.enqueue_many(lost)
        count += len(lost)
    if count:
        log.warning("the queue %s had lost %d jobs; they were put back", queue.identity, count)
    return count


@dataclass(frozen=True)
class Retention:
    """
    How long the store keeps jobs that have ended.

    It holds for the whole store, whichever queue a job was in: of several supervisors on one store, the one that keeps
    the least decides.

    Args:
        age_s: Those that ended longer ago than this are deleted; None: at any age they stay.
        count: Of each of done, dead and cancelled, all but this many that ended last are deleted; None: any number
            stays.
        every_s: Seconds between two looks for them, at least; it is looked after a comparison of store and queue.
    Raises:
        ValueError: An argument is out of range; the text names it.
    """

    age_s: float | None = 30 * 86400.0
    count: int | None = 1_000_000
    every_s: float = 3600.0

    def __post_init__(self) -> None:
        if self.age_s is not None:
            check_seconds("age_s", self.age_s)
        if self.count is not None and (
            isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < 0
        ):
            raise ValueError(f"count: must be an integer of at least 0, or None, not {self.count!r}")
        check_seconds("every_s", self.every_s)


DEFAULT_RETENTION = Retention()


class Reconciler(threading.Thread):
    """Reconciles at its start, and then every INTERVAL_S; in between it deletes what need not be kept any longer."""

    def __init__(
        self,
        store: "Store",
        queue: Queue,
        interval_s: float = INTERVAL_S,
        retention: Retention | None = DEFAULT_RETENTION,
    ) -> None:
        super().__init__(name="allocator-reconciler", daemon=True)
        self._store = store
        self._queue = queue
        self._interval_s = interval_s
        self._retention = retention
        self._retain_at = float("-inf")
        self._stopping = threading.Event()

    def stop(self, timeout_s: float) -> None:
        """End after the present round; waits so long for it."""
        self._stopping.set()
        if self.is_alive():
            self.join(timeout_s)

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                reconcile(self._store, self._queue, self._stopping.wait)
            except Exception as error:
                text = "store and queue could not be compared; trying again in %g s: %s"
                log.error(text, self._interval_s, error, exc_info=unforeseen(error))
            if self._retention is not None and time.monotonic() >= self._retain_at:
                self._retain(self._retention)
            self._stopping.wait(self._interval_s)

    def _retain(self, retention: Retention) -> None:
        """Delete in rounds until there is nothing more, a stop is asked for, or the next comparison is due."""
        pause_at = time.monotonic() + self._interval_s
        now = None if self._queue.clock is None else self._queue.clock.now()
        self._retain_at = time.monotonic() + retention.every_s
        deleted = 0
        try:
            while not self._stopping.is_set():
                count = self._store.retain(retention.age_s, retention.count, now, limit=RETAIN_ROUND)
                deleted += count
                if count < RETAIN_ROUND:
                    break
                if time.monotonic() >= pause_at:
                    self._retain_at = float("-inf")
                    break
                self._stopping.wait(RETAIN_PAUSE_S)
        except Exception as error:
            text = "what ended long ago could not be deleted; trying again in %g s: %s"
            log.error(text, retention.every_s, error, exc_info=unforeseen(error))
        if deleted:
            log.info("%d jobs that had ended were deleted from the store", deleted)
