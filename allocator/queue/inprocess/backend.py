"""
The in-process backend: dictionaries, deques and a heap under one lock, in `broker.py`.

The guarantees hold for threads; nothing survives the process. `memory://` is a queue of its own for each object;
`memory://NAME` is one for all objects of this process that use that name and the same queue name.
"""

import math
import threading
from collections.abc import Sequence
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from allocator.domain.clock import Clock, SystemClock
from allocator.domain.deadletter import DeadLetter
from allocator.domain.job import Job, prepare
from allocator.domain.lease import Lease
from allocator.domain.states import State
from allocator.queue.base import Queue, Settlement
from allocator.queue.inprocess.broker import SCHEDULED, Broker

_shared: dict[tuple[str, str], Broker] = {}
_shared_lock = threading.Lock()


class InProcessQueue(Queue):
    """
    A queue inside this process, for threads.

    Args:
        url: `memory://` for a queue of its own, `memory://NAME` to share one between objects.
        clock: Tells the time; the monotonic clock by default.
        options: As for `Queue`.
    """

    def __init__(self, url: str = "memory://", *, clock: Clock | None = None, **options: Any) -> None:
        super().__init__(url, clock=clock, **options)
        parts = urlsplit(url)
        if parts.scheme != "memory":
            raise ValueError(f"url: an in-process queue is memory:// or memory://NAME, not {url!r}")
        shared_name = parts.netloc + parts.path
        if shared_name:
            with _shared_lock:
                self._broker = _shared.setdefault((shared_name, self.name), Broker(clock or SystemClock()))
        else:
            self._broker = Broker(clock or SystemClock())

    def enqueue(self, job: Job) -> Job:
        """See `Queue.enqueue`."""
        if self._closed or self._forked:
            self._check_open()
        stored, record = prepare(job)
        broker = self._broker
        with broker.lock:
            return broker.put(stored, record, broker.now())

    def _enqueue(self, prepared: list[tuple[Job, bytes]]) -> list[Job]:
        broker = self._broker
        with broker.lock:
            now = broker.now()
            return [broker.put(job, record, now) for job, record in prepared]

    def dequeue(self, timeout: float | None = 1.0) -> Lease | None:
        """See `Queue.dequeue`."""
        broker = self._broker
        if not (self._closed or self._forked) and (timeout is None or timeout >= 0):
            # The way of most calls, without lists and deadlines: nothing to sweep, and a job is there.
            with broker.lock:
                now = broker.now()
                if now < broker.next_sweep and len(broker.waiting) > broker.scheduled_count and not broker.paused:
                    lease = broker.lease(self.worker, now, now + self.lease_s)
                    if broker.waiters and broker.ready_count:
                        broker.woken.notify()
                    return lease
        return super().dequeue(timeout)

    def _take(self, limit: int) -> tuple[list[Lease], float]:
        broker = self._broker
        leases: list[Lease] = []
        with broker.lock:
            now = broker.now()
            if now >= broker.next_sweep:
                broker.sweep(now, self.dead_letter_age_s, self.dead_letter_count)
            if broker.paused:
                return leases, math.inf
            expires_at = now + self.lease_s
            while broker.ready_count and len(leases) < limit:
                # One that has cost a worker its lease before comes alone, lest it takes neighbours with it.
                alone = broker.peek().lost_lease
                if alone and leases:
                    break
                leases.append(broker.lease(self.worker, now, expires_at))
                if alone:
                    break
            if leases and broker.ready_count:
                broker.wake_one()
            return leases, max(0.0, broker.next_sweep - now)

    def _wait(self, seconds: float) -> None:
        broker = self._broker
        with broker.lock:
            # Between `_take` and here a job may have come; then there is nothing to wait for.
            if self._closed or broker.next_sweep <= broker.now() or (broker.ready_count and not broker.paused):
                return
            broker.waiters += 1
            try:
                broker.woken.wait(seconds)
            finally:
                broker.waiters -= 1

    def _extend(self, leases: Sequence[Lease], seconds: float) -> list[Lease]:
        broker = self._broker
        lost: list[Lease] = []
        with broker.lock:
            now = broker.now()
            for lease in leases:
                entry = broker.held(lease, now)
                if entry is None:
                    lost.append(lease)
                    continue
                entry.expires_at = lease.expires_at = max(entry.expires_at, now + seconds)
                lease.cancelled = entry.cancelled
        return lost

    def ack(self, lease: Lease) -> None:
        """See `Queue.ack`."""
        if self._forked:
            self._check_fork()
        broker = self._broker
        job_id = lease.job.id
        with broker.lock:
            entry = broker.leased.get(job_id)
            if entry is not None and entry.token == lease.token and broker.now() < entry.expires_at:
                del broker.leased[job_id]
                broker.done_count += 1
                return
        raise self._lost(lease)

    def _settle(self, acks: list[Lease], others: list[Settlement]) -> list[Lease]:
        broker = self._broker
        lost: list[Lease] = []
        with broker.lock:
            now = broker.now()
            for lease in acks:
                if broker.held(lease, now) is None:
                    lost.append(lease)
                else:
                    del broker.leased[lease.job.id]
                    broker.done_count += 1
            for settlement in others:
                if broker.held(settlement.lease, now) is None:
                    lost.append(settlement.lease)
                else:
                    self._give_back(settlement, now)
        return lost

    def _give_back(self, settlement: Settlement, now: float) -> None:
        lease, verb, delay, error, traceback = settlement
        broker = self._broker
        entry = broker.leased.pop(lease.job.id)
        if verb != "release":
            broker.fail(entry, now, error, traceback)
        if entry.cancelled:
            broker.cancel(entry, now)
        elif verb == "dead":
            broker.bury(entry, now, error, self.dead_letter_age_s, self.dead_letter_count)
        else:
            broker.wait(entry, now, delay, since_due=verb == "release")

    def _counts(self) -> dict[str, int]:
        broker = self._broker
        with broker.lock:
            # Due jobs count as ready although nobody has promoted them yet.
            now = broker.now()
            due = sum(due_at <= now and entry.state is SCHEDULED for due_at, _, entry in broker.scheduled)
            ready = broker.ready_count + due
            return {
                "ready": ready,
                "scheduled": len(broker.waiting) - ready,
                "leased": len(broker.leased),
                "dead": len(broker.dead),
                "done": broker.done_count,
                "cancelled": broker.cancelled_count,
                "purged": broker.purged_count,
            }

    def _find(self, ids: list[str]) -> dict[str, State]:
        broker = self._broker
        with broker.lock:
            now = broker.now()
            states = {job_id: broker.state_of(job_id, now) for job_id in ids}
        return {job_id: state for job_id, state in states.items() if state is not None}

    def _dead_page(self, position: int, limit: int) -> list[DeadLetter]:
        with self._broker.lock:
            return list(islice(self._broker.dead_after(position), limit))

    def _dead_position(self, job_id: str) -> int | None:
        with self._broker.lock:
            entry = self._broker.dead.get(job_id)
            return None if entry is None else entry.trouble.position

    def _requeue(self, ids: list[str]) -> int:
        with self._broker.lock:
            return self._broker.requeue(ids, self._broker.now())

    def _purge(self, ids: list[str]) -> int:
        with self._broker.lock:
            return self._broker.purge(ids)

    def _cancel(self, job_id: str) -> bool:
        broker = self._broker
        with broker.lock:
            if job_id in broker.waiting:
                broker.cancel_waiting(job_id, broker.now())
                return True
            entry = broker.leased.get(job_id)
            if entry is not None:
                entry.cancelled = True
                return True
            return False

    def _reap(self, limit: int) -> list[str]:
        broker = self._broker
        with broker.lock:
            return broker.reap(broker.now(), limit, self.dead_letter_age_s, self.dead_letter_count)

    def _set_paused(self, paused: bool) -> None:
        with self._broker.lock:
            self._broker.paused = paused
            self._broker.woken.notify_all()

    def _erase(self) -> None:
        with _shared_lock:
            for key, broker in list(_shared.items()):
                if broker is self._broker:
                    del _shared[key]

    def _close(self) -> None:
        self._broker.wake_all()
