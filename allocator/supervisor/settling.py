"""The settler: groups how attempts ended, has the store commit each group, and then the queue told."""

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from allocator.domain.backoff import Backoff
from allocator.queue.base import Queue
from allocator.supervisor.ending import Ending
from allocator.supervisor.events import Listeners
from allocator.supervisor.held import Held
from allocator.supervisor.stats import Tally
from allocator.supervisor.telling import RETRY_S, Teller
from allocator.supervisor.trouble import unforeseen

log = logging.getLogger(__name__)

GROUP, GROUP_S = 64, 0.005
"""
A group is settled when it has so many, or its first has waited so long.

It never has more, however many wait: what ended and was not yet told runs again after a kill -9.
"""


class Recording(Protocol):
    """What hears of endings before the queue does, and may refuse some: gives their tokens."""

    def settle(self, endings: list[Ending]) -> set[str]: ...


class Settler(threading.Thread):
    """Takes endings from any thread; settles them in groups; tries again until it gets through."""

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
        self._backoffs = backoffs
        self._settled = settled
        self._teller = Teller(queue, tally, listeners, self._told)
        self._pending: deque[Ending] = deque()
        self._filled = threading.Condition()
        self._wanted = sys.maxsize
        """How many pending ones the settler waits for."""
        self._taken_count = 0
        """Of those that were pending. Changed by the settler alone."""
        self._safe_count = 0
        """Of those: what no kill repeats, for the store has it or, without one, the queue. Changed by who told them."""
        self._told_count = 0
        """The queue. Changed by the teller alone."""
        self._freed = threading.Condition()
        self._letting_go = False
        self._stopping = False
        self._stuck = False

    def put(self, ending: Ending) -> None:
        """Tell an ending."""
        # Without a lock, as in the buffer: an append is one step.
        self._pending.append(ending)
        if len(self._pending) >= self._wanted:
            with self._filled:
                # Once is enough, however many more come until it has woken up.
                self._wanted = sys.maxsize
                self._filled.notify()

    def wait_for_room(self) -> float:
        """
        Return once another job may be started: while a group and more has ended and is not safe, none may.

        What has ended and is known here alone runs again after a kill -9.

        Returns:
            How long that took, in seconds.
        """
        if self._has_room():
            return 0.0
        began = time.monotonic()
        with self._freed:
            self._freed.wait_for(self._has_room)
        return time.monotonic() - began

    def let_go(self) -> None:
        """Let nobody wait for room any more: nothing else is started."""
        with self._freed:
            self._letting_go = True
            self._freed.notify_all()

    def _has_room(self) -> bool:
        return len(self._pending) + self._taken_count - self._safe_count < GROUP or self._letting_go

    def stop(self, timeout_s: float) -> None:
        """Settle what is there, then end; waits so long for it. What is not through by then is still tried."""
        deadline = time.monotonic() + timeout_s
        with self._filled:
            self._stopping = True
            self._filled.notify()
        for thread in (self, self._teller):
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))
        if (self.is_alive() or self._teller.is_alive()) and (count := self.untold()):
            log.error("how %d attempts ended could not be told in time; their leases may expire", count)

    def untold(self) -> int:
        """Attempts that have ended, and the queue does not know yet."""
        return len(self._pending) + self._taken_count - self._told_count

    @property
    def stuck(self) -> bool:
        """Whether the ends of attempts cannot be told for now."""
        return self._stuck or self._teller.stuck.is_set()

    def run(self) -> None:
        if self._recording is None:
            for group in self._groups():
                self._teller.tell((group, frozenset()))
            return
        self._teller.start()
        for group in self._groups():
            refused = self._commit(group, self._recording)
            self._free(len(group))
            self._teller.hand((group, refused))
        self._teller.end()

    def _groups(self) -> Iterator[list[Ending]]:
        """Until a stop is asked for and nothing is left."""
        while True:
            with self._filled:
                self._wait_for(1)
                if not self._pending:
                    return
                self._wait_for(GROUP, GROUP_S)
            count = min(len(self._pending), GROUP)
            # First, for what is in neither count would pass for told.
            self._taken_count += count
            group = [self._pending.popleft() for _ in range(count)]
            for ending in group:
                ending.held.ended = True
                if ending.verb == "failed":
                    self._judge(ending)
            yield group

    def _wait_for(self, count: int, timeout_s: float | None = None) -> None:
        """Until so many are pending, a stop is asked for, or so long has passed; with the lock."""

        def are_there() -> bool:
            # Said again at each look: who puts takes it back as it wakes this thread, and may come so late with that
            # that there is nothing any more. What is put from here on finds it; what was put before is counted.
            self._wanted = count
            return len(self._pending) >= count or self._stopping

        self._filled.wait_for(are_there, timeout_s)
        self._wanted = sys.maxsize

    def _judge(self, ending: Ending) -> None:
        """Whether a failed attempt was the last, and when the next is due: once, for store and queue alike."""
        lease = ending.held.lease
        job = lease.job
        if lease.attempt > job.max_retries:
            ending.verb = "dead"
        elif ending.delay_s is None:
            backoff = job.backoff or self._backoffs.get(job.type) or self._queue.backoff
            ending.delay_s = backoff.delay(lease.attempt, key=job.id)

    def _commit(self, group: list[Ending], recording: Recording) -> frozenset[str]:
        """Have the store commit it, however long that takes; gives the tokens of those that it refused."""
        recorded = [ending for ending in group if ending.begun is not False]
        while recorded:
            try:
                refused = recording.settle(recorded)
            except Exception as error:
                # Whatever it is: without this thread nothing would ever be told again.
                self._stuck = True
                text = "%d attempts ended, and the store cannot be told; trying again: %s"
                log.error(text, len(group), error, exc_info=unforeseen(error))
                time.sleep(RETRY_S)
            else:
                self._stuck = False
                # What never began there is no lease that was lost.
                return frozenset(refused.difference(e.held.lease.token for e in recorded if e.begun is None))
        return frozenset()

    def _told(self, jobs: list[Held]) -> None:
        self._told_count += len(jobs)
        if self._recording is None:
            self._free(len(jobs))
        self._settled(jobs)

    def _free(self, count: int) -> None:
        with self._freed:
            self._safe_count += count
            self._freed.notify_all()
