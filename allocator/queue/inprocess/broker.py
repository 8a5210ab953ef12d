"""What the objects of one in-process queue share, and every transition of its jobs."""

import math
import threading
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from itertools import count, islice

import msgspec

from allocator.domain.clock import Clock
from allocator.domain.deadletter import LEASE_EXPIRED, MAX_ATTEMPTS_KEPT_EACH_END, Attempt, DeadLetter
from allocator.domain.ids import new_id
from allocator.domain.job import Job, decode_record, restore
from allocator.domain.lease import Lease
from allocator.domain.states import State
from allocator.queue.base import SWEEP_LIMIT
from allocator.queue.inprocess.ready import Ready

CANCELLED_KEPT = 10_000
CANCELLED_AGE_S = 86400.0

# Looked up once: an enum's member costs more than a module's name.
READY, SCHEDULED, LEASED, DEAD, CANCELLED = (
    State.READY,
    State.SCHEDULED,
    State.LEASED,
    State.DEAD,
    State.CANCELLED,
)


class Trouble(msgspec.Struct, gc=False):
    """What a job has been through; most have been through nothing."""

    lost_lease: bool = False
    attempts: list[Attempt] = []
    attempt_count: int = 0
    # Of a dead letter.
    dead_at: float = 0.0
    error: str = ""
    position: int = 0


class Entry(msgspec.Struct, gc=False):
    """
    One job: its record, its place, and the lease on it, if there is one. Holds nothing that could hold it.

    Kept small: with a million of them the cost of an operation is the memory that it has to touch.
    """

    job_id: str
    record: bytes
    rank: int
    sequence: int
    max_retries: int
    failed_count: int
    enqueued_at: float
    due_at: float
    state: State = READY
    # Of the present lease.
    token: str = ""
    expires_at: float = 0.0
    leased_at: float = 0.0
    worker: str = ""
    cancelled: bool = False
    _trouble: Trouble | None = None

    @property
    def trouble(self) -> Trouble:
        if self._trouble is None:
            self._trouble = Trouble()
        return self._trouble

    @property
    def lost_lease(self) -> bool:
        return self._trouble is not None and self._trouble.lost_lease

    def job(self) -> Job:
        return restore(self.job_id, self.record, self.failed_count, self.enqueued_at)


class Broker:
    """
    The state of one queue. Every method but `wake_all` is called with `lock` held.

    Args:
        waiting, leased, dead: Job id -> entry. A known job is in exactly one of them. Three small dictionaries rather
            than one: with a million jobs waiting, settling still touches only what is leased.
        ready: The order of those that are ready.
        scheduled: Heap of (due_at, sequence, entry). What was cancelled stays here and in `ready` until it comes
            up, and is told by its state.
        next_sweep: Nothing comes due and no lease expires before this instant: a lower bound, so that acks need not
            keep it up.
    """

    def __init__(self, clock: Clock) -> None:
        self.now = clock.now
        self.lock = threading.Lock()
        self.woken = threading.Condition(self.lock)
        self.waiters = 0
        self.paused = False
        self.sequence = 0
        # Made by the interpreter's own loops: one step for each token.
        self.tokens = map(f"{new_id()}-".__add__, map(str, count(1)))
        self.waiting: dict[str, Entry] = {}
        self.leased: dict[str, Entry] = {}
        self.dead: dict[str, Entry] = {}
        self.ready: Ready[Entry] = Ready()
        self.stale_count = 0
        self.scheduled: list[tuple[float, int, Entry]] = []
        self.scheduled_count = 0
        self.next_sweep = math.inf
        # The dead in the order of their deaths, for pages; what left is skipped, and dropped once it is half.
        self.position = 0
        self.dead_positions: list[int] = []
        self.dead_ids: list[str] = []
        self.cancelled: dict[str, float] = {}
        self.done_count = self.cancelled_count = self.purged_count = 0
        if hasattr(clock, "on_advance"):
            clock.on_advance(self.wake_all)

    def wake_all(self) -> None:
        with self.lock:
            self.woken.notify_all()

    def wake_one(self) -> None:
        if self.waiters:
            self.woken.notify()

    @property
    def ready_count(self) -> int:
        """Kept as a difference: enqueue and dequeue, the hot ones, have nothing to count."""
        return len(self.waiting) - self.scheduled_count

    # In life-cycle order

    def put(self, job: Job, record: bytes, now: float) -> Job:
        job_id = job.id
        if job_id in self.leased or job_id in self.dead:
            return (self.leased.get(job_id) or self.dead[job_id]).job()
        entry = Entry(job_id, record, -job.priority, self.sequence, job.max_retries, job.failed_count, now, now)
        stored = self.waiting.setdefault(job_id, entry)
        if stored is not entry:
            return stored.job()
        self.sequence += 1
        if self.cancelled:
            self.cancelled.pop(job_id, None)
        job.enqueued_at = now
        if job.delay:
            self._schedule(entry, now + job.delay)
            return job
        self.ready.append(entry)
        if self.waiters:
            self.woken.notify()
        return job

    def sweep(self, now: float, age_s: float, count: int) -> None:
        """Promote due jobs and reap expired leases, at most SWEEP_LIMIT of each."""
        scheduled = self.scheduled
        for _ in range(SWEEP_LIMIT):
            if not scheduled or scheduled[0][0] > now:
                break
            entry = heappop(scheduled)[2]
            if entry.state is SCHEDULED:
                self.scheduled_count -= 1
                self._make_ready(entry)
        self.reap(now, SWEEP_LIMIT, age_s, count)

    def reap(self, now: float, limit: int, age_s: float, count: int) -> list[str]:
        """Take back at most `limit` expired leases; each is a failed attempt. Finds out when to look again."""
        # Leases stand in the order in which they were given, so the expired ones are mostly the first.
        expired: list[Entry] = []
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
            del self.leased[entry.job_id]
            self.fail(entry, now, LEASE_EXPIRED, None).lost_lease = True
            if entry.cancelled:
                self.cancel(entry, now)
            elif entry.failed_count > entry.max_retries:
                self.bury(entry, now, LEASE_EXPIRED, age_s, count)
            else:
                self.wait(entry, now, 0.0)
        return [entry.job_id for entry in expired]

    def peek(self) -> Entry:
        """The next ready job; there must be one."""
        while (entry := self.ready.peek()).state is not READY:
            self.ready.pop()
            self.stale_count -= 1
        return entry

    def lease(self, worker: str, now: float, expires_at: float) -> Lease:
        """Lease the next ready job; there must be one."""
        pop = self.ready.pop
        entry = pop()
        while entry.state is not READY:
            self.stale_count -= 1
            entry = pop()
        job_id = entry.job_id
        del self.waiting[job_id]
        self.leased[job_id] = entry
        entry.state = LEASED
        entry.token = token = next(self.tokens)
        entry.expires_at = expires_at
        entry.leased_at = now
        entry.worker = worker
        if expires_at < self.next_sweep:
            self.next_sweep = expires_at
        # `restore`, written out: this is the hottest place of the package.
        job = decode_record(entry.record)
        job.id = job_id
        job.enqueued_at = entry.enqueued_at
        job.failed_count = failed = entry.failed_count
        lease = Lease(job, failed + 1, token, expires_at, entry.due_at, now, worker)
        if entry._trouble is not None:
            lease.lost_before = entry._trouble.lost_lease
        return lease

    def held(self, lease: Lease, now: float) -> Entry | None:
        """The job of a lease that still stands."""
        entry = self.leased.get(lease.job.id)
        if entry is not None and entry.token == lease.token and now < entry.expires_at:
            return entry
        return None

    def fail(self, entry: Entry, now: float, error: str, traceback: str | None) -> Trouble:
        """Charge the attempt that the present lease stands for."""
        trouble = entry.trouble
        entry.failed_count += 1
        trouble.attempt_count += 1
        if len(trouble.attempts) == 2 * MAX_ATTEMPTS_KEPT_EACH_END:
            del trouble.attempts[MAX_ATTEMPTS_KEPT_EACH_END]
        trouble.attempts.append(Attempt(entry.failed_count, error, traceback, entry.worker, entry.leased_at, now))
        return trouble

    def wait(self, entry: Entry, now: float, delay: float, *, since_due: bool = False) -> None:
        """Let a job wait again, at its place. `since_due`: it was not tried, and still waits since it was due."""
        self.waiting[entry.job_id] = entry
        if delay > 0:
            self._schedule(entry, now + delay)
        else:
            if not since_due:
                entry.due_at = now
            self._make_ready(entry)

    def _make_ready(self, entry: Entry) -> None:
        entry.state = READY
        self.ready.put_back(entry)
        self.wake_one()

    def _schedule(self, entry: Entry, due_at: float) -> None:
        entry.state = SCHEDULED
        self.scheduled_count += 1
        entry.due_at = due_at
        heappush(self.scheduled, (due_at, entry.sequence, entry))
        if due_at < self.next_sweep:
            self.next_sweep = due_at
        # It may be due before whatever the waiters wait for.
        self.wake_one()

    def bury(self, entry: Entry, now: float, error: str, age_s: float, count: int) -> None:
        """Make a dead letter, and trim the oldest: those too old, and those too many."""
        self.position += 1
        trouble = entry.trouble
        trouble.dead_at, trouble.error, trouble.position = now, error, self.position
        entry.state = DEAD
        self.dead[entry.job_id] = entry
        self.dead_positions.append(self.position)
        self.dead_ids.append(entry.job_id)
        for oldest in list(islice(self.dead.values(), SWEEP_LIMIT)):
            if len(self.dead) <= count and oldest.trouble.dead_at > now - age_s:
                break
            self._exhume(oldest)
            self.purged_count += 1

    def _exhume(self, entry: Entry) -> None:
        del self.dead[entry.job_id]
        if len(self.dead_ids) > 2 * len(self.dead) + 100:
            self.dead_ids = list(self.dead)
            self.dead_positions = [letter.trouble.position for letter in self.dead.values()]

    def requeue(self, ids: Iterable[str], now: float) -> int:
        count = 0
        for job_id in ids:
            entry = self.dead.get(job_id)
            if entry is not None:
                self._exhume(entry)
                entry.sequence = self.sequence
                self.sequence += 1
                entry.failed_count = 0
                self.wait(entry, now, 0.0)
                count += 1
        return count

    def purge(self, ids: Iterable[str]) -> int:
        count = 0
        for job_id in ids:
            entry = self.dead.get(job_id)
            if entry is not None:
                self._exhume(entry)
                count += 1
        self.purged_count += count
        return count

    def dead_after(self, position: int) -> Iterator[DeadLetter]:
        for index in range(bisect_right(self.dead_positions, position), len(self.dead_positions)):
            entry = self.dead.get(self.dead_ids[index])
            # A letter that was put back and died again stands further on.
            if entry is None or entry.trouble.position != self.dead_positions[index]:
                continue
            it = entry.trouble
            yield DeadLetter(entry.job(), it.error, list(it.attempts), it.attempt_count, it.dead_at, it.position)

    def cancel(self, entry: Entry, now: float) -> None:
        """Give up a job that is in none of the dictionaries any more."""
        entry.state = CANCELLED
        self.cancelled_count += 1
        self.cancelled[entry.job_id] = now
        while len(self.cancelled) > CANCELLED_KEPT:
            del self.cancelled[next(iter(self.cancelled))]

    def cancel_waiting(self, job_id: str, now: float) -> None:
        entry = self.waiting.pop(job_id)
        if entry.state is SCHEDULED:
            self.scheduled_count -= 1
        else:
            self.stale_count += 1
        self.cancel(entry, now)
        if self.stale_count > self.ready_count + 100:
            self.ready = Ready(entry for entry in self.ready if entry.state is READY)
            self.stale_count = 0
        if len(self.scheduled) > 2 * self.scheduled_count + 100:
            self.scheduled = [item for item in self.scheduled if item[2].state is SCHEDULED]
            heapify(self.scheduled)

    def state_of(self, job_id: str, now: float) -> State | None:
        entry = self.waiting.get(job_id)
        if entry is not None:
            # Due jobs count as ready although nobody has promoted them yet.
            return READY if entry.due_at <= now else SCHEDULED
        if job_id in self.leased:
            return LEASED
        if job_id in self.dead:
            return DEAD
        if self.cancelled.get(job_id, -math.inf) > now - CANCELLED_AGE_S:
            return CANCELLED
        return None
