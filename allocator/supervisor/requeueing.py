"""Putting dead letters back where there is a store."""

import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from allocator.domain.errors import AllocatorError
from allocator.domain.states import State
from allocator.queue.base import Queue

if TYPE_CHECKING:
    from allocator.persistence import Store, StoredJob

log = logging.getLogger(__name__)

PAGE = 500


def requeue_dead(
    queue: Queue,
    store: "Store",
    job_id: str | None = None,
    *,
    all: bool = False,
    type: str | None = None,
    error: str | None = None,
) -> int:
    """
    Put dead letters back, and have the store say at once that they wait; returns how many.

    Chosen as for `Queue.requeue_dead`, which raises what this raises. A store that cannot be written to does not stop
    it: it hears of a job when its next attempt begins.
    """
    count = queue.requeue_dead(job_id, all=all, type=type, error=error)
    try:
        left = count
        for page in _dead_in_the_store(store, queue, job_id, type) if count else ():
            left -= len(store.put_back(_not_dead_in(queue, page)))
            # The last to die come first, and mostly are those that were put back.
            if left <= 0:
                break
    except AllocatorError as trouble:
        log.warning("%d dead letters were put back, and the store still has them as dead: %s", count, trouble)
    return count


def _dead_in_the_store(
    store: "Store", queue: Queue, job_id: str | None, type: str | None
) -> Iterator[list["StoredJob"]]:
    if job_id is not None:
        job = store.job(job_id)
        yield [] if job is None else [job]
        return
    after: StoredJob | None = None
    while page := store.jobs("dead", type, queue.identity, PAGE, after):
        yield page
        after = page[-1]


def _not_dead_in(queue: Queue, page: Iterable["StoredJob"]) -> list["StoredJob"]:
    """Those that wait in the queue, or are worked on. Asked after the store, which knows of a later death by then."""
    jobs = {job.id: job for job in page}
    return [jobs[job_id] for job_id, state in queue.find(jobs).items() if state not in (State.DEAD, State.CANCELLED)]
