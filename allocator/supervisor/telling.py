"""The teller: tells the queue how attempts ended, once the store has it."""

import logging
import queue as handing
import threading
import time
from collections.abc import Callable

from allocator.domain.lease import Lease, Nack, Release
from allocator.queue.base import Queue
from allocator.supervisor.ending import Ending
from allocator.supervisor.events import Listeners
from allocator.supervisor.held import Held
from allocator.supervisor.stats import Tally
from allocator.supervisor.trouble import unforeseen

log = logging.getLogger(__name__)

RETRY_S = 0.5

Group = tuple[list[Ending], frozenset[str]]
"""Endings, and the tokens of those that the store refused: their leases are lost."""


class Teller(threading.Thread):
    """
    Tells the queue, group by group; tries again until it gets through.

    As a thread it tells one group while the store commits the next. That puts nothing at risk: what the store has as
    done is acked unrun, should it come again.
    """

    def __init__(self, queue: Queue, tally: Tally, listeners: Listeners, settled: Callable[[list[Held]], None]) -> None:
        super().__init__(name="allocator-teller", daemon=True)
        self._queue = queue
        self._tally = tally
        self._listeners = listeners
        self._settled = settled
        # One group waits at most, so that a queue that is down soon stops the commits as well.
        self._handed: handing.Queue[Group | None] = handing.Queue(maxsize=1)
        self.stuck = threading.Event()
        """Set while the queue cannot be told."""

    def hand(self, group: Group) -> None:
        """Have a group told; waits while one waits already."""
        self._handed.put(group)

    def end(self) -> None:
        """Tell what was handed, then end."""
        self._handed.put(None)

    def run(self) -> None:
        while (group := self._handed.get()) is not None:
            self.tell(group)

    def tell(self, group: Group) -> None:
        """Tell the queue of a group, however long that takes."""
        endings, refused = group
        lost = None
        while lost is None:
            try:
                lost = self._tell_queue([ending for ending in endings if ending.held.lease.token not in refused])
            except Exception as error:
                # Whatever it is: without this nothing would ever be told again.
                self.stuck.set()
                text = "%d attempts ended, and the queue cannot be told; trying again: %s"
                log.error(text, len(endings), error, exc_info=unforeseen(error))
                time.sleep(RETRY_S)
        self.stuck.clear()
        self._record(endings, refused.union(lease.token for lease in lost))
        self._settled([ending.held for ending in endings])

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

    def _record(self, group: list[Ending], lost_tokens: frozenset[str]) -> None:
        tally, listeners = self._tally, self._listeners
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
                tally.note_attempt(wait_s, service_s, held.held_up_s)
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
