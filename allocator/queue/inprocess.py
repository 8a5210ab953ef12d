"""
The in-process backend: heaps and dictionaries under one lock.

    ready      heap of (rank, sequence, entry); rank is minus the priority, sequence the order of acceptance
    scheduled  heap of (due_at, sequence, entry)
    known      job id -> entry, for every waiting, leased or dead job
    leased     token -> entry

What is cancelled stays in its heap until it comes to the top, and is told by its state. Nothing survives the process;
the guarantees hold for threads. `memory://` is a queue of its own for each object; `memory://NAME` is one for all
objects of this process that use that name and the same queue name.
"""

import math
import threading
from bisect import bisect_right
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

import msgspec

from allocator.domain.clock import Clock, SystemClock
from allocator.domain.deadletter import LEASE_EXPIRED, MAX_ATTEMPTS_KEPT_EACH_END, Attempt, DeadLetter
from allocator.domain.ids import new_id
from allocator.domain.job import Job, prepare, restore
from allocator.domain.lease import Lease
from allocator.domain.states import State
from allocator.queue.base import SWEEP_LIMIT, Queue, Settlement

CANCELLED_KEPT = 10_000
CANCELLED_AGE_S = 86400.0

READY, SCHEDULED, LEASED, DEAD, CANCELLED = (
    State.READY,
    State.SCHEDULED,
    State.LEASED,
    State.DEAD,
    State.CANCELLED,
)


class _Entry(msgspec.Struct):
    """One job: its record, its place, and the lease on it, if there is one."""

    job_id: str
    record: bytes
    rank: int
    sequence: int
    max_retries: int
    failed_count: int
    enqueued_at: float
    due_at: float
    state: State = READY
    lost_lease: bool = False
    attempts: list[Attempt] | None = None
    attempt_count: int = 0
    # Of the present lease.
    token: str = ""
    expires_at: float = 0.0
    leased_at: float = 0.0
    worker: str = ""
    cancelled: bool = False
    # Of a dead letter.
    dead_at: float = 0.0
    error: str = ""
    position: int = 0

    def job(self) -> Job:
        return restore(self.job_id, self.record, self.failed_count, self.enqueued_at)


class _Broker:
    """What the objects of one in-process queue share."""

    def __init__(self, clock: Clock) -> None:
        self.now = clock.now
        self.lock = threading.Lock()
        self.woken = threading.Condition(self.lock)
        self.waiters = 0
        self.paused = False
        self.sequence = 0
        self.token_prefix = f"{new_id()}-"
        self.token_count = 0
        self.known: dict[str, _Entry] = {}
        self.ready: list[tuple[int, int, _Entry]] = []
        self.scheduled: list[tuple[float, int, _Entry]] = []
        self.ready_count = self.scheduled_count = 0
        self.leased: dict[str, _Entry] = {}
        # Nothing comes due and no lease expires before this instant: a lower bound, so that acks need not keep it.
        self.next_sweep = math.inf
        self.dead: dict[str, _Entry] = {}
        self.dead_positions: list[int] = []
        self.dead_ids: list[str] = []
        self.position = 0
        self.cancelled: dict[str, float] = {}
        self.done_count = self.cancelled_count = self.purged_count = 0
        if hasattr(clock, "on_advance"):
            clock.on_advance(self.wake_all)

    def wake_all(self) -> None:
        with self.lock:
            self.woken.notify_all()

    # All below: with the lock held.

    def put(self, job: Job, record: bytes, now: float) -> Job:
        job_id = job.id
        known = self.known.get(job_id)
        if known is not None:
            return known.job()
        if self.cancelled:
            self.cancelled.pop(job_id, None)
        self.sequence = sequence = self.sequence + 1
        rank = -job.priority
        entry = _Entry(job_id, record, rank, sequence, job.max_retries, job.failed_count, now, now)
        self.known[job_id] = entry
        job.enqueued_at = now
        if job.delay:
            self.make_scheduled(entry, now + job.delay)
            return job
        self.ready_count += 1
        heappush(self.ready, (rank, sequence, entry))
        if self.waiters:
            self.woken.notify()
        return job

    def peek_ready(self) -> _Entry:
        """The next ready job; there must be one."""
        ready = self.ready
        while ready[0][2].state is not READY:
            heappop(ready)
        return ready[0][2]

    def pop_ready(self) -> _Entry:
        """Take the next ready job out of its heap; there must be one."""
        self.ready_count -= 1
        entry = heappop(self.ready)[2]
        while entry.state is not READY:
            entry = heappop(self.ready)[2]
        return entry

    def lease(self, entry: _Entry, worker: str, now: float, expires_at: float) -> Lease:
        self.token_count = count = self.token_count + 1
        entry.state = LEASED
        entry.token = token = self.token_prefix + str(count)
        entry.expires_at = expires_at
        entry.leased_at = now
        entry.worker = worker
        self.leased[token] = entry
        if expires_at < self.next_sweep:
            self.next_sweep = expires_at
        return Lease(entry.job(), entry.failed_count + 1, token, expires_at, entry.due_at, now, worker)

    def make_ready(self, entry: _Entry) -> None:
        entry.state = READY
        self.ready_count += 1
        heappush(self.ready, (entry.rank, entry.sequence, entry))
        if self.waiters:
            self.woken.notify()

    def make_scheduled(self, entry: _Entry, due_at: float) -> None:
        entry.state = SCHEDULED
        entry.due_at = due_at
        self.scheduled_count += 1
        heappush(self.scheduled, (due_at, entry.sequence, entry))
        if due_at < self.next_sweep:
            self.next_sweep = due_at
        if self.waiters:
            # It may be due before whatever the waiters wait for.
            self.woken.notify()

    def make_waiting(self, entry: _Entry, now: float, delay: float) -> None:
        if delay > 0:
            self.make_scheduled(entry, now + delay)
        else:
            entry.due_at = now
            self.make_ready(entry)

    def make_cancelled(self, entry: _Entry, now: float) -> None:
        entry.state = CANCELLED
        del self.known[entry.job_id]
        self.cancelled_count += 1
        self.cancelled[entry.job_id] = now
        while len(self.cancelled) > CANCELLED_KEPT:
            del self.cancelled[next(iter(self.cancelled))]

    def make_dead(self, entry: _Entry, now: float, error: str, age_s: float, count: int) -> None:
        self.position += 1
        entry.state, entry.dead_at, entry.error, entry.position = DEAD, now, error, self.position
        self.dead[entry.job_id] = entry
        self.dead_positions.append(self.position)
        self.dead_ids.append(entry.job_id)
        for oldest in list(islice(self.dead.values(), SWEEP_LIMIT)):
            if len(self.dead) <= count and oldest.dead_at > now - age_s:
                break
            self.forget_dead(oldest)
            del self.known[oldest.job_id]
            self.purged_count += 1

    def forget_dead(self, entry: _Entry) -> None:
        del self.dead[entry.job_id]
        if len(self.dead_ids) > 2 * len(self.dead) + 100:
            self.dead_ids = list(self.dead)
            self.dead_positions = [letter.position for letter in self.dead.values()]

    def fail(self, entry: _Entry, now: float, error: str, traceback: str | None) -> None:
        """Charge the attempt that the present lease stands for."""
        number = entry.failed_count + 1
        entry.failed_count = number
        entry.attempt_count += 1
        attempt = Attempt(number, error, traceback, entry.worker, entry.leased_at, now)
        if entry.attempts is None:
            entry.attempts = []
        if len(entry.attempts) == 2 * MAX_ATTEMPTS_KEPT_EACH_END:
            del entry.attempts[MAX_ATTEMPTS_KEPT_EACH_END]
        entry.attempts.append(attempt)

    def held(self, lease: Lease, now: float) -> _Entry | None:
        entry = self.leased.get(lease.token)
        return entry if entry is not None and now < entry.expires_at else None

    def sweep(self, now: float, age_s: float, count: int) -> None:
        """Promote due jobs and reap expired leases, at most SWEEP_LIMIT of each; find out when to do so again."""
        scheduled = self.scheduled
        for _ in range(SWEEP_LIMIT):
            if not scheduled or scheduled[0][0] > now:
                break
            entry = heappop(scheduled)[2]
            if entry.state is SCHEDULED:
                self.scheduled_count -= 1
                self.make_ready(entry)
        self.reap(now, SWEEP_LIMIT, age_s, count)

    def reap(self, now: float, limit: int, age_s: float, count: int) -> list[str]:
        # Leases stand in the order in which they were given, so the expired ones are mostly the first.
        expired: list[_Entry] = []
        next_sweep = self.scheduled[0][0] if self.scheduled else math.inf
        for entry in self.leased.values():
            if now < entry.expires_at:
                next_sweep = min(next_sweep, entry.expires_at)
            else:
                expired.append(entry)
                if len(expired) == limit:
                    next_sweep = now
                    break
        self.next_sweep = next_sweep
        for entry in expired:
            del self.leased[entry.token]
            self.fail(entry, now, LEASE_EXPIRED, None)
            entry.lost_lease = True
            if entry.cancelled:
                self.make_cancelled(entry, now)
            elif entry.failed_count > entry.max_retries:
                self.make_dead(entry, now, LEASE_EXPIRED, age_s, count)
            else:
                entry.due_at = now
                self.make_ready(entry)
        return [entry.job_id for entry in expired]


_shared: dict[tuple[str, str], _Broker] = {}
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
        super().__init__(clock=clock, **options)
        parts = urlsplit(url)
        if parts.scheme != "memory":
            raise ValueError(f"url: an in-process queue is memory:// or memory://NAME, not {url!r}")
        shared_name = parts.netloc + parts.path
        if shared_name:
            with _shared_lock:
                self._broker = _shared.setdefault((shared_name, self.name), _Broker(clock or SystemClock()))
        else:
            self._broker = _Broker(clock or SystemClock())

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
        if not (self._closed or self._forked):
            # The way of most calls, without lists and deadlines: nothing to sweep, and a job is there.
            with broker.lock:
                now = broker.now()
                if now < broker.next_sweep and broker.ready_count and not broker.paused:
                    entry = broker.pop_ready()
                    if broker.waiters and broker.ready_count:
                        broker.woken.notify()
                    return broker.lease(entry, self.worker, now, now + self.lease_s)
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
                alone = broker.peek_ready().lost_lease
                if alone and leases:
                    break
                leases.append(broker.lease(broker.pop_ready(), self.worker, now, expires_at))
                if alone:
                    break
            if leases and broker.waiters and broker.ready_count:
                broker.woken.notify()
            return leases, max(0.0, broker.next_sweep - now)

    def _wait(self, seconds: float) -> None:
        broker = self._broker
        with broker.lock:
            # Between `_take` and here a job may have come; then there is nothing to wait for.
            now = broker.now()
            if self._closed or broker.next_sweep <= now or (broker.ready_count and not broker.paused):
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
        with broker.lock:
            entry = broker.leased.get(lease.token)
            if entry is not None and broker.now() < entry.expires_at:
                del broker.leased[lease.token]
                del broker.known[entry.job_id]
                broker.done_count += 1
                return
        raise self._lost(lease)

    def _settle(self, acks: list[Lease], others: list[Settlement]) -> list[Lease]:
        broker = self._broker
        lost: list[Lease] = []
        with broker.lock:
            now = broker.now()
            for lease in acks:
                entry = broker.held(lease, now)
                if entry is None:
                    lost.append(lease)
                    continue
                del broker.leased[lease.token]
                del broker.known[entry.job_id]
                broker.done_count += 1
            for settlement in others:
                entry = broker.held(settlement.lease, now)
                if entry is None:
                    lost.append(settlement.lease)
                    continue
                del broker.leased[settlement.lease.token]
                self._give_back(entry, settlement, now)
        return lost

    def _give_back(self, entry: _Entry, settlement: Settlement, now: float) -> None:
        broker = self._broker
        if settlement.verb != "release":
            broker.fail(entry, now, settlement.error, settlement.traceback)
        if entry.cancelled:
            broker.make_cancelled(entry, now)
        elif settlement.verb == "dead":
            broker.make_dead(entry, now, settlement.error, self.dead_letter_age_s, self.dead_letter_count)
        elif settlement.verb == "release" and not settlement.delay:
            # It has waited since it was due, and still does.
            broker.make_ready(entry)
        else:
            broker.make_waiting(entry, now, settlement.delay)

    def _counts(self) -> dict[str, int]:
        broker = self._broker
        with broker.lock:
            # Due jobs count as ready although nobody has promoted them yet.
            now = broker.now()
            due = sum(due_at <= now and entry.state is SCHEDULED for due_at, _, entry in broker.scheduled)
            return {
                "ready": broker.ready_count + due,
                "scheduled": broker.scheduled_count - due,
                "leased": len(broker.leased),
                "dead": len(broker.dead),
                "done": broker.done_count,
                "cancelled": broker.cancelled_count,
                "purged": broker.purged_count,
            }

    def _find(self, ids: list[str]) -> dict[str, State]:
        broker = self._broker
        found: dict[str, State] = {}
        with broker.lock:
            now = broker.now()
            for job_id in ids:
                entry = broker.known.get(job_id)
                if entry is not None:
                    is_due = entry.state is SCHEDULED and entry.due_at <= now
                    found[job_id] = READY if is_due else entry.state
                elif broker.cancelled.get(job_id, -math.inf) > now - CANCELLED_AGE_S:
                    found[job_id] = CANCELLED
        return found

    def _dead_page(self, position: int, limit: int) -> list[DeadLetter]:
        broker = self._broker
        page: list[DeadLetter] = []
        with broker.lock:
            for index in range(bisect_right(broker.dead_positions, position), len(broker.dead_positions)):
                entry = broker.dead.get(broker.dead_ids[index])
                # A letter that was put back and died again stands further on.
                if entry is None or entry.position != broker.dead_positions[index]:
                    continue
                page.append(
                    DeadLetter(
                        entry.job(),
                        entry.error,
                        list(entry.attempts or ()),
                        entry.attempt_count,
                        entry.dead_at,
                        entry.position,
                    )
                )
                if len(page) == limit:
                    break
        return page

    def _dead_position(self, job_id: str) -> int | None:
        with self._broker.lock:
            entry = self._broker.dead.get(job_id)
            return None if entry is None else entry.position

    def _requeue(self, ids: list[str]) -> int:
        broker = self._broker
        count = 0
        with broker.lock:
            now = broker.now()
            for job_id in ids:
                entry = broker.dead.get(job_id)
                if entry is None:
                    continue
                broker.forget_dead(entry)
                broker.sequence = entry.sequence = broker.sequence + 1
                entry.failed_count = 0
                broker.make_waiting(entry, now, 0.0)
                count += 1
        return count

    def _purge(self, ids: list[str]) -> int:
        broker = self._broker
        count = 0
        with broker.lock:
            for job_id in ids:
                entry = broker.dead.get(job_id)
                if entry is None:
                    continue
                broker.forget_dead(entry)
                del broker.known[job_id]
                broker.purged_count += 1
                count += 1
        return count

    def _cancel(self, job_id: str) -> bool:
        broker = self._broker
        with broker.lock:
            entry = broker.known.get(job_id)
            if entry is None or entry.state is DEAD:
                return False
            if entry.state is LEASED:
                entry.cancelled = True
                return True
            if entry.state is READY:
                broker.ready_count -= 1
            else:
                broker.scheduled_count -= 1
            broker.make_cancelled(entry, broker.now())
            # Entries left in the heaps are dropped together once they are the larger part.
            if len(broker.ready) > 2 * broker.ready_count + 100:
                broker.ready = [item for item in broker.ready if item[2].state is READY]
                heapify(broker.ready)
            if len(broker.scheduled) > 2 * broker.scheduled_count + 100:
                broker.scheduled = [item for item in broker.scheduled if item[2].state is SCHEDULED]
                heapify(broker.scheduled)
            return True

    def _reap(self, limit: int) -> list[str]:
        broker = self._broker
        with broker.lock:
            return broker.reap(broker.now(), limit, self.dead_letter_age_s, self.dead_letter_count)

    def _set_paused(self, paused: bool) -> None:
        with self._broker.lock:
            self._broker.paused = paused
            self._broker.woken.notify_all()

    def _close(self) -> None:
        self._broker.wake_all()


