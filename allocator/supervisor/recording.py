"""What the supervisor tells the job store, which hears of everything before the queue does."""

import logging
import threading
import time

from allocator.domain.errors import AllocatorError
from allocator.domain.lease import Lease
from allocator.persistence import Begun, Dispatcher, Progress, Store
from allocator.persistence import Ending as StoredEnding
from allocator.supervisor.ending import Ending
from allocator.supervisor.held import Held
from allocator.supervisor.trouble import unforeseen

log = logging.getLogger(__name__)

OUTCOMES = {"done": "done", "failed": "retry", "dead": "dead", "released": "released"}


class Recording:
    """
    A store, in the supervisor's terms.

    Attributes:
        down: Set while the store cannot commit: nothing is taken, and nothing acked.
    """

    def __init__(self, store: Store, queue: Dispatcher) -> None:
        self._store = store
        self._queue = queue
        self._progress: dict[str, Progress] = {}
        self._progress_lock = threading.Lock()
        self.down = threading.Event()

    def is_up(self) -> bool:
        """Whether the store answers; asks it only when it did not the last time."""
        if self.down.is_set():
            try:
                self._store.job("")
            except AllocatorError:
                return False
            self.down.clear()
        return True

    def begin(self, leases: list[Lease]) -> Begun:
        """See `Store.begin`."""
        try:
            return self._store.begin(leases, self._queue)
        except AllocatorError:
            self.down.set()
            raise

    def settle(self, endings: list[Ending]) -> set[str]:
        """Commit how attempts ended; gives the tokens of those that the store refused, which are lost."""
        try:
            self._flush({ending.held.lease.token for ending in endings})
            fenced = self._store.settle([_stored(ending) for ending in endings])
        except AllocatorError:
            self.down.set()
            raise
        self.down.clear()
        return {ending.lease.token for ending in fenced}

    def report(self, held: Held, done: float, total: float | None, message: str) -> None:
        """Keep the last word on how far an attempt is, until the next flush."""
        lease = held.lease
        progress = Progress(lease.job.id, lease.token, done, total, message, held.at(held.started))
        with self._progress_lock:
            self._progress[lease.token] = progress

    def flush(self) -> None:
        """Write what was reported. A store that is down loses progress and nothing else."""
        try:
            self._flush(None)
        except Exception as error:
            # Whatever it is: it must not end the thread that writes progress, nor a stop in the middle.
            log.warning("progress was not written: %s", error, exc_info=unforeseen(error))

    def _flush(self, tokens: set[str] | None) -> None:
        with self._progress_lock:
            if not self._progress:
                return
            chosen = list(self._progress) if tokens is None else [token for token in self._progress if token in tokens]
            updates = [self._progress.pop(token) for token in chosen]
        if updates:
            self._store.progress(updates)


def _stored(ending: Ending) -> StoredEnding:
    held = ending.held
    finished_at = held.at(ending.finished or time.monotonic())
    verb = ending.verb
    due_at = None if ending.delay_s is None or verb not in ("failed", "released") else finished_at + ending.delay_s
    return StoredEnding(
        held.lease,
        "cancelled" if held.lease.cancelled and verb != "done" else OUTCOMES[verb],
        finished_at,
        result=ending.result_json() if verb == "done" else None,
        error=ending.error or None,
        traceback=ending.traceback,
        due_at=due_at,
        started_at=held.at(held.started) if held.started else None,
        worker=held.worker or None,
    )
