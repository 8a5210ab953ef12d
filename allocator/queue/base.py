"""
The queue contract, in words, and the part of it that is the same for every backend.

A backend keeps jobs in exactly one of ready, scheduled, leased, done, dead, cancelled (`State`), and promises:

1. *At least once.* What `enqueue` accepted is never lost by the crash of a client. A job is handed out again when its
   lease expires. An id that is waiting, leased or dead is not enqueued again.
2. *Order.* Higher priority first, then first in, first out. A job keeps its place through release, expiry, delay and
   retry; `requeue_dead` gives it a new one.
3. *Leases.* Only the token of the present lease settles or extends a job, and only before `expires_at`.
4. *Retries.* A failed attempt (an expired lease is one) is tried again after the backoff, at most `max_retries` times.
5. *Dead letters* keep the job and its attempts, for an age and up to a count.
6. *Time* is the server's; in process it is the clock that was given.
7. *Close* is local, *pause* is stored with the queue, *cancel* of a leased job is a mark.
8. *Payloads* are strict JSON, encoded once, decoded afresh for each lease.
9. *Costs.* No operation scans the backlog; an idle `dequeue` blocks.
10. *Repeats.* A call repeated after a lost reply changes nothing more and gets the same reply.
11. *Versions.* A newer record stops the client, a damaged one goes to the dead letters.

The names follow `allocator.domain`. All instants are seconds since the epoch on the queue's clock.
"""

import math
import os
import re
import socket
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from allocator.domain.backoff import Backoff
from allocator.domain.clock import Clock
from allocator.domain.deadletter import MAX_ERROR_BYTES, MAX_TRACEBACK_BYTES, DeadLetter, trim_text
from allocator.domain.errors import InvalidJob, LeaseLost, QueueClosed, QueueForked
from allocator.domain.job import Job, check_delay, check_seconds, prepare
from allocator.domain.lease import Lease, Nack, Release
from allocator.domain.states import State

DEFAULT_LEASE_S = 15.0
DEFAULT_BACKOFF = Backoff()
DEFAULT_DEAD_LETTER_AGE_S = 30 * 86400.0
DEFAULT_DEAD_LETTER_COUNT = 100_000

MAX_TAKEN = 1000
"""Most leases that one dequeue gives, whatever its limit."""

SWEEP_LIMIT = 100
"""Most due jobs promoted and expired leases reaped by one dequeue, so that none of them takes long."""

POLL_S = 1.0
"""The net below every wake-up: a blocked dequeue looks again after this many seconds."""

DEAD_PAGE = 100
"""Dead letters read or moved at a time by bulk operations."""

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

_live_queues: "weakref.WeakSet[Queue]" = weakref.WeakSet()


def _mark_forked() -> None:
    for queue in list(_live_queues):
        queue._forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_forked)


class Settlement(NamedTuple):
    """What is to become of a lease that is not acked: worked out here, carried out by the backend."""

    lease: Lease
    verb: str
    """retry, dead or release."""
    delay: float = 0.0
    error: str = ""
    traceback: str | None = None


class Queue(ABC):
    """
    A queue of jobs. Thread-safe. See the module for what every backend promises.

    Args:
        url: Of the server; each backend says which forms it knows.
        name: Of the queue: 1 to 64 of letters, digits, `_`, `.`, `-`.
        lease_s: Seconds until a lease is lost, unless extended.
        backoff: Between attempts, for jobs that bring none of their own.
        worker: Recorded with every failed attempt; by default host and process.
        clock: Replaces the server's clock (in process: the system's); for tests.
        dead_letter_age_s: Dead letters older than this are trimmed.
        dead_letter_count: Above this many, the oldest dead letters are trimmed.
    Attributes:
        identity: Names the queue for good: backend, server and name, without user and password. By it a job store
            knows whose a job is.
    Raises:
        ValueError: An argument is out of range; the text names it.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str = "default",
        lease_s: float = DEFAULT_LEASE_S,
        backoff: Backoff = DEFAULT_BACKOFF,
        worker: str | None = None,
        clock: Clock | None = None,
        dead_letter_age_s: float = DEFAULT_DEAD_LETTER_AGE_S,
        dead_letter_count: int = DEFAULT_DEAD_LETTER_COUNT,
    ) -> None:
        self._forked = False
        self._closed = False
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"name: a queue's name is 1 to 64 of letters, digits, '_', '.' and '-', not {name!r}")
        if not isinstance(backoff, Backoff):
            raise ValueError(f"backoff: must be a Backoff, not {backoff!r}")
        if isinstance(dead_letter_count, bool) or not isinstance(dead_letter_count, int) or dead_letter_count < 0:
            raise ValueError(f"dead_letter_count: must be an integer of at least 0, not {dead_letter_count!r}")
        self.name = name
        self.identity = f"{_place(url)}#{name}"
        self.lease_s = check_seconds("lease_s", lease_s)
        self.backoff = backoff
        self.worker = trim_text(worker or f"{socket.gethostname()}:{os.getpid()}", 200).replace("\n", " ")
        self.clock = clock
        self.dead_letter_age_s = check_seconds("dead_letter_age_s", dead_letter_age_s)
        self.dead_letter_count = dead_letter_count
        _live_queues.add(self)

    # Enqueue

    def enqueue(self, job: Job) -> Job:
        """
        Accept a job, and return it as stored. A job whose id the queue knows comes back unchanged.

        Raises:
            InvalidJob: Naming the field; nothing left the process.
            QueueClosed: This object was closed.
        """
        self._check_open()
        return self._enqueue([prepare(job)])[0]

    def enqueue_many(self, jobs: Iterable[Job]) -> list[Job]:
        """Accept all of the jobs or none, in one round trip and in this order; see `enqueue`."""
        self._check_open()
        prepared = [prepare(job) for job in jobs]
        return self._enqueue(prepared) if prepared else []

    # Dequeue

    def dequeue(self, timeout: float | None = 1.0) -> Lease | None:
        """
        The lease of the next job, or None when none came within `timeout` seconds.

        None as timeout waits until there is a job or the queue is closed; 0 does not wait.
        """
        leases = self.dequeue_many(1, timeout)
        return leases[0] if leases else None

    def dequeue_many(self, limit: int = 64, timeout: float | None = 1.0) -> list[Lease]:
        """
        The leases of up to `limit` jobs (at most 1,000), in queue order; empty when none came within `timeout`.

        Fewer than `limit` do not mean that the queue is empty: a job that has lost a lease before comes alone.
        """
        if type(limit) is not int or limit < 1:
            raise ValueError(f"limit: must be an integer of at least 1, not {limit!r}")
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout: must be None or at least 0 seconds, not {timeout!r}")
        deadline = math.inf
        if timeout:
            deadline = time.monotonic() + timeout
        elif timeout is not None:
            deadline = 0.0
        limit = min(limit, MAX_TAKEN)
        while True:
            if self._forked:
                self._check_fork()
            if self._closed:
                return []
            leases, next_s = self._take(limit)
            if leases or not deadline:
                return leases
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return []
            if not self._closed:
                self._wait(min(next_s, left_s, POLL_S))

    # Extend and settle

    def extend(self, lease: Lease, seconds: float | None = None) -> Lease:
        """
        Move `expires_at` to now plus `seconds` (by default the queue's `lease_s`), never backwards.

        The lease is changed in place and returned; `lease.cancelled` tells whether the job was cancelled meanwhile.

        Raises:
            LeaseLost: It had expired or been settled; it is not revived.
        """
        if self.extend_many([lease], seconds):
            raise self._lost(lease)
        return lease

    def extend_many(self, leases: Iterable[Lease], seconds: float | None = None) -> list[Lease]:
        """Extend what is still held, in one round trip; return what is lost."""
        self._check_fork()
        seconds = self.lease_s if seconds is None else check_seconds("seconds", seconds)
        held = list(leases)
        return self._extend(held, seconds) if held else []

    def ack(self, lease: Lease) -> None:
        """The job is done. Raises LeaseLost, changing nothing, if this lease is no longer held."""
        if self.settle(acks=(lease,)):
            raise self._lost(lease)

    def nack(
        self,
        lease: Lease,
        error: str,
        traceback: str | None = None,
        delay: float | None = None,
        dead: bool = False,
    ) -> None:
        """
        The attempt failed: try again after `delay` seconds, by default the job's backoff.

        After `max_retries` retries, or with `dead`, the job becomes a dead letter. Raises LeaseLost as `ack` does.
        """
        if self.settle(nacks=(Nack(lease, error, traceback, delay, dead),)):
            raise self._lost(lease)

    def release(self, lease: Lease, delay: float = 0.0) -> None:
        """Give the job back untried; no attempt is charged. Raises LeaseLost as `ack` does."""
        if self.settle(releases=(Release(lease, delay),)):
            raise self._lost(lease)

    def settle(
        self,
        acks: Iterable[Lease] = (),
        nacks: Iterable[Nack | tuple[Lease, str]] = (),
        releases: Iterable[Lease | Release | tuple[Lease, float]] = (),
    ) -> list[Lease]:
        """
        Ack, nack and release in one round trip; atomic for each job.

        What is still held is settled; the leases that are not are returned, and nothing changes for them.
        """
        self._check_fork()
        acked = list(acks)
        others = [self._judge(Nack(*nack)) for nack in nacks]
        for entry in releases:
            lease, delay = (entry, 0.0) if isinstance(entry, Lease) else entry
            others.append(Settlement(lease, "release", check_delay("delay", delay)))
        if len(acked) + len(others) > 1:
            return self._settle_many(acked, others)
        return self._settle(acked, others) if acked or others else []

    def _settle_many(self, acks: list[Lease], others: list[Settlement]) -> list[Lease]:
        # The first word about a lease counts; a second one in the same call finds it settled.
        seen: set[str] = set()
        lost: list[Lease] = []

        def is_first(lease: Lease) -> bool:
            if lease.token in seen:
                lost.append(lease)
                return False
            seen.add(lease.token)
            return True

        acks = [lease for lease in acks if is_first(lease)]
        others = [other for other in others if is_first(other.lease)]
        return self._settle(acks, others) + lost

    def _judge(self, nack: Nack) -> Settlement:
        lease, error, traceback, delay, dead = nack
        if not isinstance(error, str):
            raise InvalidJob("error", f"must be a string, not {error!r}")
        error = trim_text(error, MAX_ERROR_BYTES)
        traceback = None if traceback is None else trim_text(traceback, MAX_TRACEBACK_BYTES)
        job = lease.job
        if dead or lease.attempt > job.max_retries:
            return Settlement(lease, "dead", 0.0, error, traceback)
        if delay is None:
            delay = (job.backoff or self.backoff).delay(lease.attempt, key=job.id)
        return Settlement(lease, "retry", check_delay("delay", delay), error, traceback)

    def _lost(self, lease: Lease) -> LeaseLost:
        return LeaseLost(lease.job.id, lease.attempt, lease.expires_at, self.lease_s)

    # Look

    def size(self) -> int:
        """Jobs that wait: ready and scheduled; a job in backoff counts."""
        counts = self.counts()
        return counts["ready"] + counts["scheduled"]

    def counts(self) -> dict[str, int]:
        """Jobs now ready, scheduled, leased and dead; and done, cancelled and purged since the queue began.

        Due jobs count as ready. An expired lease counts as leased until it is reaped.
        """
        self._check_fork()
        return self._counts()

    def find(self, ids: Iterable[str]) -> dict[str, State]:
        """
        The states of those ids that the queue knows: waiting, leased, dead, or lately cancelled.

        A done job is not known any more. A cancelled id is remembered for a day (at most 10,000 of them) and may be
        enqueued again.
        """
        self._check_fork()
        wanted = list(ids)
        return self._find(wanted) if wanted else {}

    def dead_letters(
        self,
        limit: int = 100,
        after: "DeadLetter | str | None" = None,
        type: str | None = None,
        error: str | None = None,
    ) -> list[DeadLetter]:
        """
        A page of dead letters, oldest first.

        Args:
            limit: Most letters on the page.
            after: The last letter of the page before, or its job's id.
            type: Only jobs of this type.
            error: Only those whose error contains this text.
        Raises:
            KeyError: `after` is an id that is not among the dead letters any more; pass the letter itself.
        """
        self._check_fork()
        position = self._position(after)
        page: list[DeadLetter] = []
        while len(page) < limit:
            chunk = self._dead_page(position, min(DEAD_PAGE, limit) if type is None and error is None else DEAD_PAGE)
            if not chunk:
                break
            position = chunk[-1].position
            page.extend(letter for letter in chunk if _matches(letter, type, error))
        return page[:limit]

    def dead_letter(self, job_id: str) -> DeadLetter | None:
        """One dead letter, or None when no dead letter has this id."""
        self._check_fork()
        position = self._dead_position(job_id)
        page = [] if position is None else self._dead_page(position - 1, 1)
        return next((letter for letter in page if letter.job.id == job_id), None)

    def _position(self, after: "DeadLetter | str | None") -> int:
        if after is None:
            return 0
        if isinstance(after, DeadLetter):
            return after.position
        position = self._dead_position(after)
        if position is None:
            raise KeyError(
                f"job {after} is not a dead letter any more (put back or purged), so there is no page after it; "
                "pass the last letter itself as `after`, or start again without"
            )
        return position

    # Dead letters, cancel, reap

    def requeue_dead(
        self, job_id: str | None = None, *, all: bool = False, type: str | None = None, error: str | None = None
    ) -> int:
        """
        Put dead letters back, with a new place and a fresh retry budget; returns how many.

        Either one by id, or `all` of them, narrowed by `type` and by a text that the error contains. Works in chunks:
        those that die meanwhile are not put back.
        """
        return self._each_dead(self._requeue, job_id, all, type, error)

    def purge_dead(
        self, job_id: str | None = None, *, all: bool = False, type: str | None = None, error: str | None = None
    ) -> int:
        """Delete dead letters for good; chosen as for `requeue_dead`. Returns how many."""
        return self._each_dead(self._purge, job_id, all, type, error)

    def _each_dead(
        self, act: Callable[[list[str]], int], job_id: str | None, all: bool, type: str | None, error: str | None
    ) -> int:
        self._check_fork()
        if (job_id is None) == (not all):
            raise ValueError("name one dead letter by its job id, or say all=True (narrowed by type= and error=)")
        if job_id is not None:
            if type is not None or error is not None:
                raise ValueError("type= and error= narrow all=True; they do not go with a job id")
            return act([job_id])
        to_look_at = self._counts()["dead"]
        position = moved = 0
        while to_look_at > 0:
            chunk = self._dead_page(position, min(DEAD_PAGE, to_look_at))
            if not chunk:
                break
            position = chunk[-1].position
            to_look_at -= len(chunk)
            ids = [letter.job.id for letter in chunk if _matches(letter, type, error)]
            moved += act(ids) if ids else 0
        return moved

    def cancel(self, job_id: str) -> bool:
        """
        Cancel a job: at once where it waits; where it is leased, by a mark that `extend` reports.

        An ack of a marked job still gives done; nack, release or expiry give cancelled. False: not waiting, not leased.
        """
        self._check_fork()
        return self._cancel(job_id)

    def reap(self) -> list[str]:
        """Take back every expired lease now, and return the ids. `dequeue` does it too, a hundred at a time."""
        self._check_fork()
        taken: list[str] = []
        while True:
            ids = self._reap(SWEEP_LIMIT)
            taken += ids
            if len(ids) < SWEEP_LIMIT:
                return taken

    # Pause and close

    def pause(self) -> None:
        """Hold back jobs from every client: dequeue waits, everything else goes on. Stored with the queue."""
        self._check_fork()
        self._set_paused(True)

    def resume(self) -> None:
        """End a pause."""
        self._check_fork()
        self._set_paused(False)

    def close(self) -> None:
        """
        Close this object: every dequeue, blocked or later, returns nothing; `enqueue` raises QueueClosed.

        Local and idempotent. Leases that are held may still be settled and extended. A dequeue that waits ends at once;
        one that is just asking a server which does not answer ends with that call, lest it leaves leases behind.
        """
        if self._forked or self._closed:
            return
        self._closed = True
        self._close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called on this object."""
        return self._closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_fork(self) -> None:
        if self._forked:
            raise QueueForked(
                f"queue {self.name!r} was opened before a fork and cannot be used in the child (pid {os.getpid()}): "
                "open a queue of its own there, or start processes with the 'spawn' method"
            )

    def _check_open(self) -> None:
        if self._forked:
            self._check_fork()
        if self._closed:
            raise QueueClosed(f"queue {self.name!r} was closed through this object; open it again to enqueue")

    # What a backend supplies, in life-cycle order. All may raise QueueUnavailable.

    @abstractmethod
    def _enqueue(self, prepared: "list[tuple[Job, bytes]]") -> list[Job]:
        """Store jobs with their records, all or none; set `enqueued_at`; known ids give the stored job."""

    @abstractmethod
    def _take(self, limit: int) -> tuple[list[Lease], float]:
        """Promote, reap, then lease. Without leases: seconds until the next due time or expiry (inf: none)."""

    @abstractmethod
    def _wait(self, seconds: float) -> None:
        """Block until woken, closed, or `seconds` have passed. May return early; never misses a wake-up."""

    @abstractmethod
    def _extend(self, leases: Sequence[Lease], seconds: float) -> list[Lease]:
        """Extend in place; return the lost ones."""

    @abstractmethod
    def _settle(self, acks: list[Lease], others: list[Settlement]) -> list[Lease]:
        """Carry out what is valid; return the lost ones. No token comes twice."""

    @abstractmethod
    def _counts(self) -> dict[str, int]: ...

    @abstractmethod
    def _find(self, ids: list[str]) -> dict[str, State]: ...

    @abstractmethod
    def _dead_page(self, position: int, limit: int) -> list[DeadLetter]:
        """Letters after a position, oldest first, whole: at most `limit`, at least one where there are any."""

    @abstractmethod
    def _dead_position(self, job_id: str) -> int | None: ...

    @abstractmethod
    def _requeue(self, ids: list[str]) -> int: ...

    @abstractmethod
    def _purge(self, ids: list[str]) -> int: ...

    @abstractmethod
    def _cancel(self, job_id: str) -> bool: ...

    @abstractmethod
    def _reap(self, limit: int) -> list[str]:
        """Take back at most `limit` expired leases."""

    @abstractmethod
    def _set_paused(self, paused: bool) -> None: ...

    @abstractmethod
    def _erase(self) -> None:
        """Delete every key or row of this queue, and of no other."""

    @abstractmethod
    def _close(self) -> None:
        """Wake every blocked `_wait` of this object and let go of idle connections."""


def _place(url: str) -> str:
    """The URL without user, password and options."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def erase(queue: Queue) -> None:
    """
    Delete every trace of a queue: jobs, dead letters, totals. Works on a closed queue object too.

    For queues that tests and measurements made for themselves. Nobody else should be using the queue.
    """
    queue._erase()


def _matches(letter: DeadLetter, type: str | None, error: str | None) -> bool:
    return (type is None or letter.job.type == type) and (error is None or error in letter.error)
