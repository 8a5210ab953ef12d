"""
The evidence of a run. What is not known of it is left out: NaN for an instant, None for a part.

All instants are seconds on one clock, whichever: of the epoch, or monotonic. Where servers or clients had clocks of
their own, leave out the instants of all but one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import msgspec

from allocator.bench.checker.verdicts import Promise
from allocator.domain.backoff import Backoff


class Enqueue(msgspec.Struct, gc=False):
    """
    A job in a call to enqueue, or to submit.

    Args:
        taken: Whether the call said that it took the job; False where it raised, None where the reply never came. A
            job that was known already and came back unchanged was not enqueued: leave it out.
        mark: Tells jobs of one id apart, if their payloads hold it.
        call: Of jobs that were enqueued in one list, the same.
        dies: Whether it is made to fail in every attempt. None: not known.
        backoff: What the delay after its failures must be; None: not known.
    """

    job: str
    taken: bool | None = True
    asked_at: float = nan
    answered_at: float = nan
    priority: int = 0
    delay_s: float = 0.0
    max_retries: int | None = None
    dies: bool | None = None
    backoff: Backoff | None = None
    mark: str = ""
    call: str = ""


class Removal(msgspec.Struct, gc=False):
    """
    A call that takes a job out without an attempt, or puts it back: `cancel`, `purge`, `requeue`.

    Args:
        taken: As with `Enqueue`. A cancel that was taken may not have ended the job: it was leased, perhaps.
    """

    job: str
    verb: str
    taken: bool | None = True


class Attempt(msgspec.Struct, gc=False):
    """
    A lease and what its holder said of its end, as the holder or the store has it.

    Args:
        outcome: done, failed, buried (failed for good), released, cancelled; lost: its holder never told its end;
            running: not yet.
        taken: Whether what was said was accepted; False where the lease was lost, None where the reply never came.
        asked_at: When the call was made that gave the lease.
        leased_at: When it was given, as the server says; servers may look at the clock when a call begins.
        given_at: When its holder had it, for sure. NaN: when the run began, or else at `leased_at`.
        told_at: When its holder set out to tell its end.
        expires_at: When it would have run out, as last extended.
        delay_s: Asked for with a failure or release; NaN: the backoff.
        due_at: When the job became due for this attempt.
    """

    job: str
    token: str
    outcome: str
    number: int = 0
    taken: bool | None = True
    leased_at: float = nan
    told_at: float = nan
    expires_at: float = nan
    asked_at: float = nan
    given_at: float = nan
    due_at: float = nan
    delay_s: float = nan
    error: str | None = None


class Run(msgspec.Struct, gc=False):
    """
    One run of a job's body, as the body wrote it down.

    Args:
        token: Of the lease that it ran under.
        process: That ran it.
        parent: The parent of that process: the supervisor's, where jobs run in processes of their own.
        finished_at: NaN where the body never came to its end.
        failed: Whether it ended in a failure that was planned.
    """

    job: str
    number: int
    token: str
    process: int = 0
    parent: int = 0
    started_at: float = nan
    finished_at: float = nan
    failed: bool = False

    @property
    def finished(self) -> bool:
        return self.finished_at == self.finished_at and not self.failed


class Record(msgspec.Struct, gc=False):
    """
    A job in the store at the end.

    Args:
        result: Of a body that gives the token it ran under; None: not known.
    """

    job: str
    state: str
    result: str | None = None
    error: str | None = None


class Letter(msgspec.Struct, gc=False):
    """A dead letter that the queue keeps at the end: why it was given up, and its failed attempts in all."""

    job: str
    error: str
    attempt_count: int


class Fault(msgspec.Struct, frozen=True):
    """
    Something that was done to the system.

    Args:
        kind: Such as `kill`.
        processes: Which it hit; None where it hit all, such as the restart of a server.
        running: Jobs that could run at a time in what was hit.
        forgets: The queue no longer knows what it held: leases may be given again, places be new.
    """

    kind: str
    began_at: float
    ended_at: float
    processes: frozenset[int] | None = None
    running: int = 0
    forgets: bool = False


class Stop(msgspec.Struct, frozen=True):
    """
    A process that was asked to stop in order.

    Args:
        processes: It, and those of its own.
        orderly: Whether it ended by itself, in time, with the status that it should.
    """

    began_at: float
    ended_at: float
    processes: frozenset[int]
    orderly: bool = True


class Layout(msgspec.Struct):
    """
    What a queue holds while nobody changes it, read from its keys or rows without the code under test.

    Args:
        places: Job id to the places where it stands: ready, scheduled, leased, dead.
        marks: Job id to the mark in its payload.
        problems: What does not fit together: the promise that it breaks, and a sentence that names the job.
    """

    places: dict[str, list[str]]
    marks: dict[str, str] = {}
    problems: list[tuple[Promise, str]] = []


@dataclass(slots=True)
class History:
    """
    What is known of a run that has ended. None: that part is not known; an empty one: there was nothing of it.

    Args:
        enqueues: Every job of every call.
        removals: Every one.
        attempts: Every lease that a client was given, or that the store knows.
        runs: What the bodies wrote down.
        records: Every job in the store, or, if not `by_store`, how each stood at the end by what was seen of it.
        layout: What the queue held once the clients were gone, before anything was drained.
        counts, found: What the queue itself told then, by `counts` and by `find` for every id.
        letters: The dead letters then.
        faults: All that was done to the system, whether it had an effect or not.
        stops: All that were asked to stop in order.
        left: Jobs that waited or were leased when the time for draining was over.
        unknown_dequeues: From when until when calls may have leased jobs of which no reply tells.
        by_store: Records, and attempts too, are those of a store.
        fenced_by_queue: What attempts say was taken by the queue itself; otherwise by the store above it.
        settle_within_s: A finished body is told within this time, else a later fault does not explain that it was not.
        settle_group: Ends of attempts that are told at a time: what a kill may repeat besides what ran.
        clock_error_s: By how much two instants of one clock may be off.
    """

    enqueues: Sequence[Enqueue]
    removals: Sequence[Removal] = ()
    attempts: Sequence[Attempt] | None = None
    runs: Sequence[Run] | None = None
    records: Sequence[Record] | None = None
    layout: Layout | None = None
    counts: dict[str, int] | None = None
    found: dict[str, str] | None = None
    letters: Sequence[Letter] | None = None
    faults: Sequence[Fault] | None = None
    stops: Sequence[Stop] | None = None
    left: int | None = None
    unknown_dequeues: Sequence[tuple[float, float]] = ()
    by_store: bool = True
    fenced_by_queue: bool = True
    settle_within_s: float = 5.0
    settle_group: int = 64
    clock_error_s: float = 0.002
