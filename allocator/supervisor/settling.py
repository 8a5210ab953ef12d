"""The settler: tells store and queue how attempts ended, many in one round trip."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from allocator.domain.backoff import Backoff
from allocator.domain.lease import Lease, Nack, Release
from allocator.queue.base import Queue
from allocator.supervisor.events import Listeners
from allocator.supervisor.held import Held
from allocator.supervisor.stats import Tally
from allocator.supervisor.trouble import unforeseen

log = logging.getLogger(__name__)

GROUP, GROUP_S = 64, 0.005
"""
A group is settled when it has so many, or its first has waited so long.

It never has more, however many wait: what ended and was not yet told runs again after a kill -9.
"""

RETRY_S = 0.5


@dataclass(slots=True)
class Ending:
    """
    How one attempt ended.

    Args:
        verb: done, failed, dead or released.
        delay_s: Until the next attempt; None leaves it to the job's backoff.
        finished: On the monotonic clock of this process.
        recorded: Whether the store is to hear of it; not where the attempt never began there.
    """

    held: Held
    verb: str
    error: str = ""
    traceback: str | None = None
    delay_s: float | None = None
    result: object = None
    finished: float = 0.0
    recorded: bool = True


class Recording(Protocol):
    """What hears of endings before the queue does, and may refuse some: gives their tokens."""

    def settle(self, endings: list[Ending]) -> set[str]: ...


class Settler(threading.Thread):
    """Takes endings from any thread; settles them in groups; tries again until it gets through or is abandoned."""

    def __init__(
        self,
        queue: Queue,
        recording: Recording | None,
        tally: Tally,
        listeners: Listeners,
        backoffs: Mapping[str, Backoff],
        settled: Callable[[list[Held]], None],
    ) -> None:
        super().__init__(name="allocator-settler", daemon=True)
        self._queue = queue
        self._recording = recording
        self._tally = tally
        self._backoffs = backoffs
        self._listeners = listeners
        self._settled = settled
        self._pending: list[Ending] = []
        self._lock = threading.Lock()
        self._filled = threading.Condition(self._lock)
        self._telling = 0
        self._stopping = False
        self.stuck = threading.Event()
        """Set while the ends of attempts cannot be told."""

    def put(self, ending: Ending) -> None:
        """Tell an ending."""
        with self._lock:
            self._pending.append(ending)
            count = len(self._pending)
            if count == 1 or count == GROUP:
                self._filled.notify()

    def stop(self, timeout_s: float) -> None:
        """Settle what is there, then end; waits so long for it. What is not through by then is still tried."""
        with self._lock:
            self._stopping = True
            self._filled.notify()
        if self.is_alive():
            self.join(timeout_s)
        if self.is_alive() and (count := self.untold()):
            log.error("how %d attempts ended could not be told in time; their leases may expire", count)

    def untold(self) -> int:
        """Attempts that have ended, and the queue does not know yet."""
        with self._lock:
            return len(self._pending) + self._telling

    def run(self) -> None:
        while True:
            with self._lock:
                while not self._pending and not self._stopping:
                    self._filled.wait()
                if not self._pending:
                    return
                if len(self._pending) < GROUP and not self._stopping:
                    self._filled.wait(GROUP_S)
                group = self._pending[:GROUP]
                del self._pending[:GROUP]
                self._telling = len(group)
            self._settle_until_through(group)
            self._telling = 0

    def _settle_until_through(self, group: list[Ending]) -> None:
        lost = None
        for ending in group:
            ending.held.ended = True
            if ending.verb == "failed":
                self._judge(ending)
        while lost is None:
            try:
                lost = self._settle(group)
            except Exception as error:
                # Whatever it is: without this thread nothing would ever be told again.
                self.stuck.set()
                text = "%d attempts ended, and store and queue cannot be told; trying again: %s"
                log.error(text, len(group), error, exc_info=unforeseen(error))
                time.sleep(RETRY_S)
        self.stuck.clear()
        self._record(group, lost)
        self._settled([ending.held for ending in group])

    def _judge(self, ending: Ending) -> None:
        """Whether a failed attempt was the last, and when the next is due: once, for store and queue alike."""
        lease = ending.held.lease
        job = lease.job
        if lease.attempt > job.max_retries:
            ending.verb = "dead"
        elif ending.delay_s is None:
            backoff = job.backoff or self._backoffs.get(job.type) or self._queue.backoff
            ending.delay_s = backoff.delay(lease.attempt, key=job.id)

    def _settle(self, group: list[Ending]) -> list[Lease]:
        refused: set[str] = set()
        if self._recording is not None:
            recorded = [ending for ending in group if ending.recorded]
            refused = self._recording.settle(recorded) if recorded else refused
        lost = [ending.held.lease for ending in group if ending.held.lease.token in refused]
        return lost + self._tell_queue([ending for ending in group if ending.held.lease.token not in refused])

    def _tell_queue(self, group: list[Ending]) -> list[Lease]:
        acks: list[Lease] = []
        nacks: list[Nack] = []
        releases: list[Release] = []
        for ending in group:
            lease = ending.held.lease
            if ending.verb == "done":
                acks.append(lease)
            elif ending.verb == "released":
                releases.append(Release(lease, ending.delay_s or 0.0))
            else:
                nacks.append(Nack(lease, ending.error, ending.traceback, ending.delay_s, ending.verb == "dead"))
        return self._queue.settle(acks, nacks, releases)

    def _record(self, group: list[Ending], lost: list[Lease]) -> None:
        tally, listeners = self._tally, self._listeners
        lost_tokens = {lease.token for lease in lost}
        for ending in group:
            held = ending.held
            lease = held.lease
            if lease.token in lost_tokens:
                held.lost = True
                tally.counts["lost"] += 1
                listeners.tell("on_lost", lease)
                continue
            wait_s = service_s = 0.0
            if held.started:
                wait_s = max(0.0, lease.leased_at - lease.due_at) + held.started - held.fetched
                service_s = ending.finished - held.started
                tally.wait_s.append(wait_s)
                tally.service_s.append(service_s)
                if listeners:
                    listeners.tell("on_attempt", lease, wait_s, service_s)
            if ending.verb == "done":
                tally.counts["done"] += 1
                if listeners:
                    listeners.tell("on_done", lease, wait_s, service_s)
            elif ending.verb == "released":
                tally.counts["released"] += 1
                listeners.tell("on_released", lease)
            elif ending.verb == "dead":
                tally.counts["dead"] += 1
                listeners.tell("on_dead", lease, ending.error)
            else:
                tally.counts["retried"] += 1
                listeners.tell("on_retry", lease, ending.error, ending.delay_s)
        tally.note_done()
