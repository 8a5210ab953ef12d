"""
The store: what is known of every job, and the only way to change it.

Each call is one transaction or a part of one, `settle` at times two. Attempts are fenced by the tokens of their
leases: what comes late changes nothing. Every method may raise StoreUnavailable, and may then be called again.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from msgspec.json import encode
from msgspec.structs import replace
from sqlalchemy import ColumnElement, Connection, Engine, bindparam, delete, func, select, tuple_, update

from allocator.domain.clock import Clock, SystemClock
from allocator.domain.deadletter import LEASE_EXPIRED
from allocator.domain.job import Job, prepare
from allocator.domain.lease import Lease
from allocator.persistence.engines import READ, WRITE, WRITE_DURABLY, wait_for_writers
from allocator.persistence.errors import StoreClosed, StoreForked, StoreUnavailable
from allocator.persistence.failures import told
from allocator.persistence.grouping import Grouping
from allocator.persistence.judging import ATTEMPT_OUTCOMES, Known, Verdict, judge, newest_of_each
from allocator.persistence.locking import FileLock, ServerLock, StoreLock
from allocator.persistence.pages import beyond, nth_newest, oldest, page_of
from allocator.persistence.records import Begun, Dispatcher, Ending, Progress, StoredJob
from allocator.persistence.rows import (
    STORED,
    TRIED,
    beginning_row,
    chunks,
    ending_rows,
    lost_attempt,
    new_row,
    progress_row,
    running_attempt,
    stored_attempt,
    stored_job,
    usual_row,
)
from allocator.persistence.statements import Batch, statements_for
from allocator.persistence.states import ENDED, JobState
from allocator.persistence.tables import attempts, identity, jobs

RETAIN_BATCH = 500
"""Jobs deleted in one transaction, so that nobody waits long for it."""


Done = TypeVar("Done")


class _Part(NamedTuple):
    """Of a transaction that several share; `durable`: its commit waits for the disk."""

    write: Callable[[Connection], Any]
    durable: bool


class Store:
    """
    A database of jobs. Thread-safe; made by `open_store`. A context manager.

    Args:
        engine: Of SQLAlchemy, set up by `allocator.persistence.engines`; the store's own from now on.
        where: Names the database in errors, without a password.
        clock: See `open_store`.
        path: Of the database, on SQLite.
        schema: On PostgreSQL.
    """

    def __init__(
        self, engine: Engine, where: str, *, clock: Clock | None = None, path: Path | None = None, schema: str = ""
    ) -> None:
        self.engine = engine
        self.where = where
        self._clock = clock or SystemClock()
        self._path = path
        self._schema = schema
        self._pid = os.getpid()
        self._closed = False
        self._locks: list[StoreLock] = []
        self._statements = statements_for(engine.dialect.name)
        # Made once: that takes longer than to run it.
        self._stored = select(*STORED).where(self._statements.among).order_by(jobs.c.id)
        self._stored_locked = self._stored.with_for_update()
        self._reader = engine.execution_options(**READ)
        self._writer = engine.execution_options(**WRITE)
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._durable_writer = engine.execution_options(**WRITE_DURABLY)
        # SQLite's writers wait for each other by sleeping; those of one process had better queue.
        self._writing = threading.Lock() if path is not None else nullcontext()
        # Where several can write at once, the database itself has their commits share the disk.
        self._grouping = Grouping(self._write_all) if path is not None else None

    @property
    def has_one_writer(self) -> bool:
        """Whether transactions that write come one after the other."""
        return self._path is not None

    # Submit

    def submit(self, queue: Dispatcher, job: Job) -> Job:
        """Accept a job into the store, then into the queue; see `submit_many`."""
        return self.submit_many(queue, [job])[0]

    def submit_many(self, queue: Dispatcher, submitted: Iterable[Job]) -> list[Job]:
        """
        Accept all of the jobs or none into the store, durably, then enqueue them; returns them as the queue has them.

        An id that the store knows keeps its record. If it has not ended, it is enqueued (which changes nothing where
        the queue knows it), else it is left alone.

        Raises:
            InvalidJob: Naming the field; nothing was changed.
            StoreUnavailable: Nothing was accepted, unless the connection broke during the commit. Jobs with ids of
                their own may be submitted again.
            QueueClosed: Nothing was accepted.
            QueueUnavailable: The store has accepted the jobs and the reconciler will enqueue them.
        """
        given = list(submitted)
        if not given:
            return []
        if queue.closed:
            return queue.enqueue_many(given)
        prepared = [prepare(job) for job in given]
        now = (queue.clock or self._clock).now()
        identity = queue.identity
        fresh: dict[str, tuple[Job, bytes]] = {}
        for stored, record in prepared:
            fresh.setdefault(stored.id, (stored, record))
        rows = [new_row(identity, stored, record, now, now + stored.delay) for stored, record in fresh.values()]
        with self._write(durable=True) as connection:
            # Ids that were just made cannot be known.
            known = self._write_new(connection, rows, [job.id for job in given if job.id])
        accepted = self._enqueue_new(queue, fresh, known, now)
        return [accepted.get(job.id) or known[job.id].job(now) for job, _ in prepared]

    def _write_new(
        self, connection: Connection, rows: Iterable[tuple[Any, ...]], chosen: Sequence[str]
    ) -> dict[str, StoredJob]:
        """Write the rows of those jobs that are not known; returns those that are. Only `chosen` ids can be."""
        known: dict[str, StoredJob] = {}
        # Nearly always none is.
        if chosen and self._look(connection, chosen):
            known = {row.id: row for row in self._read_jobs(connection, chosen, lock=True)}
        # In the order of ids, as everywhere, so that two who submit the same ones do not wait for each other.
        for chunk in chunks(sorted(row for row in rows if row[0] not in known)):
            self._statements.insert.run(connection, chunk)
        return known

    def _enqueue_new(
        self, queue: Dispatcher, fresh: Mapping[str, tuple[Job, bytes]], known: Mapping[str, StoredJob], now: float
    ) -> dict[str, Job]:
        """Enqueue what `_write_new` wrote, and what is known and has not ended; by ids, as the queue has them."""
        to_enqueue = [
            known[job.id].job(now) if job.id in known else job
            for job, _ in fresh.values()
            if job.id not in known or not known[job.id].ended
        ]
        return {job.id: job for job in queue.enqueue_many(to_enqueue)} if to_enqueue else {}

    # Begin, report, settle

    def begin(self, leases: Iterable[Lease], queue: Dispatcher) -> Begun:
        """
        Write `processing` with the token of each lease that may run, and sort out those that may not.

        Jobs that were enqueued past the store are taken into it. An attempt that the store still has as running, under
        another token, is recorded as lost.
        """
        begun = Begun([], [], [], [], [])
        newest, replaced = newest_of_each(list(leases))
        begun.lost.extend(replaced)
        judged = newest
        if newest and self._statements.begin_usual is not None:
            usual = self._begin_usual(newest, self._statements.begin_usual)
            begun.runnable.extend(lease for lease in newest if lease.token in usual)
            judged = [lease for lease in newest if lease.token not in usual]
        if judged:
            found = self._together(partial(self._begin_judged, judged, queue.identity))
            for leases_so_far, more in zip(begun, found, strict=True):
                leases_so_far.extend(more)
            order = {lease.token: place for place, lease in enumerate(newest)}
            begun.runnable.sort(key=lambda lease: order[lease.token])
        return begun

    def _begin_usual(self, leases: list[Lease], statement: Batch) -> set[str]:
        """Begin in one round trip what needs no look before; gives the tokens of those."""
        with self._write_at_once() as connection:
            return statement.scalars(connection, sorted(map(beginning_row, leases), key=_BY_ID))

    def _begin_judged(self, leases: list[Lease], queue: str, connection: Connection) -> Begun:
        """Begin after a look at each job; gives what became of it."""
        begun = Begun([], [], [], [], [])
        to_begin: list[tuple[Any, ...]] = []
        lost: list[tuple[Any, ...]] = []
        revived: list[str] = []
        cancelled: list[tuple[Any, ...]] = []
        known = self._look(connection, [lease.job.id for lease in leases])
        if strangers := [lease for lease in leases if lease.job.id not in known]:
            self._take_in(connection, strangers, queue)
            known |= self._look(connection, [lease.job.id for lease in strangers])
        for lease in leases:
            row = known[lease.job.id]
            match judge(row, lease):
                case Verdict.RUN:
                    begun.runnable.append(lease)
                    if row.token == lease.token:
                        continue
                    if row.state == JobState.DEAD:
                        revived.append(row.id)
                    to_begin.append(beginning_row(lease))
                    lost += lost_attempt(row, lease.leased_at)
                case Verdict.FINISHED:
                    begun.finished.append(lease)
                case Verdict.CANCELLED:
                    begun.cancelled.append(lease)
                case Verdict.CANCEL:
                    begun.cancelled.append(lease)
                    cancelled.append((row.id, "cancelled", lease.leased_at, None, None))
                    lost += lost_attempt(row, lease.leased_at)
                case Verdict.DEAD:
                    begun.dead.append(lease)
                case Verdict.LOST:
                    begun.lost.append(lease)
        if revived:
            connection.execute(self._statements.revive, self._statements.ids(revived))
        self._statements.add_attempts.run(connection, lost)
        self._statements.end.run(connection, cancelled)
        self._statements.begin.run(connection, to_begin)
        return begun

    def progress(self, updates: Iterable[Progress]) -> None:
        """Write how far attempts are; those whose token is not the job's any more change nothing."""
        # In the order of ids, as everywhere, against deadlocks.
        rows = sorted(map(progress_row, updates), key=_BY_ID)
        if not rows:
            return
        with self._write() as connection:
            self._statements.progress.run(connection, rows)

    def settle(self, endings: Iterable[Ending]) -> list[Ending]:
        """
        Record how attempts ended. Returns those that were fenced out: their token is not the job's any more.

        The same ending twice is recorded once, and is not fenced out: so a call whose reply was lost can be repeated.

        Raises:
            ValueError: An outcome that there is not; nothing was changed.
        """
        listed = list(endings)
        if listed and self._statements.settle_usual is not None:
            listed = self._settle_usual(listed, self._statements.settle_usual)
        return self._together(partial(self._settle_judged, listed)) if listed else []

    def _settle_usual(self, endings: list[Ending], statement: Batch) -> list[Ending]:
        """Settle in one round trip what needs no look before; gives the rest."""
        first = {ending.lease.token: ending for ending in reversed(endings)}
        rows = sorted(map(usual_row, first.values()), key=_BY_ID)
        with self._write_at_once() as connection:
            settled = statement.scalars(connection, rows)
        return [
            ending for ending in endings if ending.lease.token not in settled or first[ending.lease.token] is not ending
        ]

    def _settle_judged(self, endings: list[Ending], connection: Connection) -> list[Ending]:
        """Settle after a look at each job; gives those that were fenced out."""
        fenced: list[Ending] = []
        settled: list[tuple[Any, ...]] = []
        ended: list[tuple[Any, ...]] = []
        known = self._look(connection, {ending.lease.job.id for ending in endings})
        for ending in endings:
            lease = ending.lease
            row = known.get(lease.job.id)
            if row is None or row.token != lease.token:
                fenced.append(ending)
                continue
            settled_row, attempt_row = ending_rows(row, ending)
            settled.append(settled_row)
            ended.append(attempt_row)
            # A second ending of the same lease in this list finds it settled.
            known[row.id] = row._replace(token=None)
        self._statements.settle.run(connection, settled)
        self._statements.add_attempts.run(connection, ended)
        return self._never_recorded(connection, fenced) if fenced else fenced

    # Look

    def job(self, job_id: str) -> StoredJob | None:
        """A job with its attempts; None if the store does not know it."""
        with self._read() as connection:
            row = connection.execute(_ONE_JOB, {"id": job_id}).one_or_none()
            if row is None:
                return None
            tried = connection.execute(_ATTEMPTS_OF_ONE, {"id": job_id}).all()
        job = stored_job(row)
        job.attempts = [*map(stored_attempt, tried), *running_attempt(job)]
        return job

    def jobs(
        self,
        state: JobState | str | None = None,
        type: str | None = None,
        queue: str | None = None,
        limit: int = 100,
        after: StoredJob | str | None = None,
    ) -> list[StoredJob]:
        """
        A page of jobs, without their attempts.

        Newest first: those of one ended state by when they ended, all others by id (those of one other state queue by
        queue). A page of an ended state, or of the dead of one queue, costs the same however many jobs there are;
        what narrows it further is looked for one by one, until the page is full.

        Args:
            state: Only jobs in this state.
            type: Only jobs of this type.
            queue: Only jobs of the queue of this identity.
            limit: Most jobs on the page.
            after: The last job of the page before, or its id.
        Raises:
            KeyError: `after` is an id that the store does not know (any more); pass the job itself.
        """
        wanted = None if state is None else JobState(state)
        query = page_of(wanted, type, queue).limit(limit)
        with self._read() as connection:
            if after is not None:
                query = query.where(beyond(wanted, *self._place(connection, after)))
            return [stored_job(row) for row in connection.execute(query)]

    def _place(self, connection: Connection, after: StoredJob | str) -> tuple[str, str, float | None]:
        if isinstance(after, StoredJob):
            return after.id, after.queue, after.finished_at
        found = connection.execute(_PLACE, {"id": after}).one_or_none()
        if found is None:
            raise KeyError(f"the store has no job {after} (any more), so there is no page after it; pass the job")
        return found[0], found[1], found[2]

    def counts(self, queue: str | None = None) -> dict[str, int]:
        """How many jobs are in each state. Counts rows of an index; a second or so at a million."""
        unfinished = select(jobs.c.state, func.count()).where(jobs.c.ended_as.is_(None)).group_by(jobs.c.state)
        ended = select(jobs.c.ended_as, func.count()).where(jobs.c.ended_as.is_not(None)).group_by(jobs.c.ended_as)
        found: dict[str, int] = dict.fromkeys(JobState, 0)
        with self._read() as connection:
            for query in (unfinished, ended):
                if queue is not None:
                    query = query.where(jobs.c.queue == queue)
                for state, count in connection.execute(query):
                    found[state] += count
        return {str(state): count for state, count in found.items()}

    # For the reconciler

    def unfinished(self, queue: str, after_id: str = "", limit: int = 1000) -> list[Known]:
        """
        A page of the jobs of the queue of this identity that have not ended, in the order of ids.

        Without their records: a large backlog is read from end to end every time, beside those who work on it.
        """
        query = (
            select(*_KNOWN)
            .where(jobs.c.queue == queue, jobs.c.ended_as.is_(None), jobs.c.id > after_id)
            .order_by(jobs.c.id)
            .limit(limit)
        )
        with self._read() as connection:
            return [Known._make(row) for row in connection.execute(query)]

    def still_unfinished(self, ids: Iterable[str]) -> list[StoredJob]:
        """Those of the jobs that have not ended by now, in the order of ids."""
        with self._read() as connection:
            return [job for job in self._read_jobs(connection, ids) if not job.ended]

    def copy_back(self, states: Mapping[str, str], seen: Iterable[Known], at: float | None = None) -> list[str]:
        """
        Record that jobs are dead or cancelled in the queue. Returns the ids that were changed.

        Args:
            states: Of job ids; only `dead` and `cancelled` are looked at.
            seen: The jobs as `unfinished` gave them, before the queue was asked. One that has moved on since is left
                alone: it was put back, and somebody works on it.
            at: When, on the queue's clock.
        """
        before = {job.id: (job.state, job.token, job.attempt) for job in seen}
        copied = ("dead", "cancelled")
        wanted = {id: str(state) for id, state in states.items() if state in copied and id in before}
        if not wanted:
            return []
        now = self._clock.now() if at is None else at
        rows: list[tuple[Any, ...]] = []
        lost: list[tuple[Any, ...]] = []
        with self._write() as connection:
            for row in self._look(connection, wanted).values():
                if (row.state, row.token, row.attempt) != before[row.id]:
                    continue
                state = wanted[row.id]
                # What the queue gives up without a word from the supervisor has lost its lease.
                died = state == "dead" and row.token is not None
                rows.append((row.id, state, now, LEASE_EXPIRED if died else None, row.attempt if died else None))
                lost += lost_attempt(row, now)
            self._statements.add_attempts.run(connection, lost)
            self._statements.end.run(connection, rows)
        return [row[0] for row in rows]

    def put_back(self, seen: Iterable[StoredJob]) -> list[str]:
        """
        Record that dead jobs wait again, with a fresh retry budget. Returns the ids that were changed.

        Args:
            seen: The jobs as they were read before it was known that the queue has them back. One that is no longer
                dead, or has died again since, is left alone.
        """
        died_at = {job.id: job.finished_at for job in seen if job.state is JobState.DEAD}
        if not died_at:
            return []
        with self._write() as connection:
            found = self._read_jobs(connection, died_at, lock=True)
            ids = [job.id for job in found if job.state is JobState.DEAD and job.finished_at == died_at[job.id]]
            connection.execute(self._statements.revive, self._statements.ids(ids))
        return ids

    def cancel(self, job_id: str, at: float | None = None) -> bool:
        """
        Cancel a job: at once where it waits or is dead; where it runs, once its attempt ends in anything but done.

        Ask the queue afterwards. False: unknown, done, or cancelled before.
        """
        now = self._clock.now() if at is None else at
        with self._write() as connection:
            row = self._look(connection, [job_id]).get(job_id)
            if row is None or row.state in (JobState.DONE, JobState.CANCELLED):
                return False
            if row.state == JobState.PROCESSING:
                connection.execute(_ASK_TO_CANCEL, {"job_id": job_id})
            else:
                self._statements.end.run(connection, [(job_id, "cancelled", now, None, None)])
            return True

    # Retention and locks

    def retain(
        self,
        age_s: float | None = None,
        count: int | None = None,
        now: float | None = None,
        limit: int | None = None,
    ) -> int:
        """
        Delete jobs that have ended, with their attempts, in small transactions; returns how many.

        Args:
            age_s: Those that ended longer ago than this.
            count: Of each of done, dead and cancelled, all but this many that ended last, so that the done do not
                push out the dead.
            now: On the clock of the queue; the store's by default.
            limit: At most so many, for those who must be able to stop in between; if that many were deleted, there
                may be more.
        """
        cutoff = None if age_s is None else (self._clock.now() if now is None else now) - age_s
        most = sys.maxsize if limit is None else limit
        deleted = 0
        for state in sorted(ENDED):
            if cutoff is not None:
                deleted += self._delete_while(state, jobs.c.finished_at < cutoff, most - deleted)
            if count is not None and deleted < most:
                with self._read() as connection:
                    last = connection.execute(nth_newest(state, count)).one_or_none()
                if last is not None:
                    beyond_count = tuple_(jobs.c.finished_at, jobs.c.id) <= tuple_(*last)
                    deleted += self._delete_while(state, beyond_count, most - deleted)
        return deleted

    def _delete_while(self, state: JobState, condition: ColumnElement[bool], limit: int) -> int:
        deleted = 0
        while deleted < limit:
            batch = min(RETAIN_BATCH, limit - deleted)
            with self._write() as connection:
                ids = list(connection.execute(oldest(state, condition, batch)).scalars())
                if ids:
                    given = self._statements.ids(ids)
                    connection.execute(delete(attempts).where(self._statements.attempts_among), given)
                    connection.execute(delete(jobs).where(self._statements.among), given)
            deleted += len(ids)
            if len(ids) < batch:
                break
        return deleted

    def lock(self, name: str) -> StoreLock:
        """
        Take the lock of this name, for as long as this process lives or until it is released.

        Raises:
            StoreLocked: Someone else holds it, be it another object of this process.
        """
        self._check()
        with told(self.where):
            if self._path is None:
                taken: StoreLock = ServerLock(self._writer, self._schema, name, self.where)
            else:
                try:
                    taken = FileLock(self._path, name, self.where)
                except OSError as error:
                    remedy = "Give this user the right to write in its folder; it must be on a disk that knows locks"
                    raise StoreUnavailable(self.where, "refused", str(error), remedy) from error
        self._locks.append(taken)
        return taken

    def identity(self) -> str:
        """Tells this database from every other one, wherever it is moved to."""
        with self._read() as connection:
            return str(connection.execute(select(identity.c.id)).scalar_one())

    def close(self) -> None:
        """Let go of connections and locks. Idempotent."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        for lock in self._locks:
            lock.release()
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Inside

    def _check(self) -> None:
        if self._closed:
            raise StoreClosed(f"the store {self.where} was closed through this object; open it again")
        if os.getpid() != self._pid:
            raise StoreForked(
                f"the store {self.where} was opened before a fork and cannot be used in the child (pid {os.getpid()}): "
                "open a store of its own there, or start processes with the 'spawn' method"
            )

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        self._check()
        with told(self.where), self._reader.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def _read_at_once(self) -> Iterator[Connection]:
        """For a single `Lookup`, which needs no transaction around it: saves what beginning and ending one takes."""
        self._check()
        with told(self.where), (self.engine if self.has_one_writer else self._single).connect() as connection:
            if self.has_one_writer:
                wait_for_writers(connection.connection)
            yield connection

    @contextmanager
    def _write(self, *, durable: bool = False) -> Iterator[Connection]:
        self._check()
        writer = self._durable_writer if durable else self._writer
        with told(self.where), self._writing, writer.connect() as connection, connection.begin():
            yield connection

    def _together(self, write: Callable[[Connection], Done], *, durable: bool = False) -> Done:
        """
        What `write` gives, which is done in a transaction: on SQLite in one with what others bring meanwhile.

        Where that fails it is done again, in one of its own.
        """
        self._check()
        if self._grouping is not None:
            done: Done = self._grouping(_Part(write, durable))
            return done
        with self._write(durable=durable) as connection:
            return write(connection)

    def _write_all(self, parts: Sequence["_Part"]) -> list[Any]:
        with self._write(durable=any(part.durable for part in parts)) as connection:
            return [part.write(connection) for part in parts]

    @contextmanager
    def _write_at_once(self) -> Iterator[Connection]:
        """For a single statement on PostgreSQL, which is a transaction of its own: saves the round trips around it."""
        self._check()
        with told(self.where), self._single.connect() as connection:
            yield connection

    def _look(self, connection: Connection, ids: Iterable[str]) -> dict[str, Known]:
        """The rows of these ids, locked until the transaction ends."""
        found = self._statements.look.rows(connection, self._statements.ids(ids))
        return {row[0]: Known._make(row) for row in found}

    def _read_jobs(self, connection: Connection, ids: Iterable[str], *, lock: bool = False) -> list[StoredJob]:
        query = self._stored_locked if lock else self._stored
        return [stored_job(row) for row in connection.execute(query, self._statements.ids(ids))]

    def _take_in(self, connection: Connection, leases: Sequence[Lease], identity: str) -> None:
        rows = []
        for lease in leases:
            # Not checked again: what the queue has accepted is a job, whatever release accepted it.
            record = encode(replace(lease.job, id="", enqueued_at=None, failed_count=0, delay=0.0))
            enqueued_at = lease.due_at if lease.job.enqueued_at is None else lease.job.enqueued_at
            rows.append(new_row(identity, lease.job, record, enqueued_at, lease.due_at))
        self._statements.insert.run(connection, sorted(rows))

    def _never_recorded(self, connection: Connection, endings: list[Ending]) -> list[Ending]:
        rows = connection.execute(
            select(attempts.c.token, attempts.c.outcome).where(self._statements.attempts_among),
            self._statements.ids({ending.lease.job.id for ending in endings}),
        )
        recorded = {row[0]: row[1] for row in rows}
        return [
            ending for ending in endings if recorded.get(ending.lease.token) != ATTEMPT_OUTCOMES.get(ending.outcome, "")
        ]


_BY_ID = itemgetter(0)
"""How rows of parameters are sorted."""

_KNOWN = [jobs.c[name] for name in Known._fields]
_ONE_JOB = select(*STORED).where(jobs.c.id == bindparam("id"))
_PLACE = select(jobs.c.id, jobs.c.queue, jobs.c.finished_at).where(jobs.c.id == bindparam("id"))
_ATTEMPTS_OF_ONE = (
    select(*TRIED).where(attempts.c.job_id == bindparam("id")).order_by(attempts.c.leased_at, attempts.c.finished_at)
)
_ASK_TO_CANCEL = update(jobs).where(jobs.c.id == bindparam("job_id")).values(cancel_asked=True)
