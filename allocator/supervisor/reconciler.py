"""The reconciler: puts back what the queue has lost, and learns what it has given up."""

import logging
import threading
import time

from allocator.domain.states import State
from allocator.persistence import Store
from allocator.queue.base import Queue

log = logging.getLogger(__name__)

INTERVAL_S = 30.0
PAGE = 500


def reconcile(store: Store, queue: Queue) -> int:
    """
    Compare every unfinished job of this queue with the queue, once; returns how many were put back.

    Safe to run twice, from several processes, and beside workers: the queue is asked first and the store read again
    after it, so a job that ends in between is seen as ended; and an id that the queue knows is not enqueued again.
    """
    put_back = 0
    after_id = ""
    while page := store.unfinished(queue.identity, after_id, PAGE):
        after_id = page[-1].id
        states = queue.find([job.id for job in page])
        given_up = {job_id: state for job_id, state in states.items() if state in (State.DEAD, State.CANCELLED)}
        if given_up:
            changed = store.copy_back(given_up, page)
            if changed:
                log.info(
                    "%d jobs were given up by the queue %s, and are now in the store too", len(changed), queue.identity
                )
        missing = [job.id for job in page if job.id not in states]
        if not missing:
            continue
        now = time.time() if queue.clock is None else queue.clock.now()
        lost = [job.job(now) for job in store.still_unfinished(missing)]
        if lost:
            queue.enqueue_many(lost)
            put_back += len(lost)
            log.warning("the queue %s had lost %d jobs; they were put back", queue.identity, len(lost))
    return put_back


class Reconciler(threading.Thread):
    """Reconciles at its start, and then every INTERVAL_S."""

    def __init__(self, store: Store, queue: Queue, interval_s: float = INTERVAL_S) -> None:
        super().__init__(name="allocator-reconciler", daemon=True)
        self._store = store
        self._queue = queue
        self._interval_s = interval_s
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End after the present round."""
        self._stopping.set()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                reconcile(self._store, self._queue)
            except Exception:
                log.exception("store and queue could not be compared; trying again in %g s", self._interval_s)
            self._stopping.wait(self._interval_s)
