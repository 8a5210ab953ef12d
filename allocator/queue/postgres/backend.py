"""
The PostgreSQL backend: one function for each operation, so that each is one transaction and one round trip.

The data layout stands at the top of `sql/schema.sql`; every file beside it holds one operation. The one guarantee:
before and after each transaction a known job has its record in `jobs` and its id in exactly one of ready, scheduled,
leases and dead. The tables are made when a queue is first opened in a database, and are shared by all queues there.

Durability is the server's: a call returns after its commit is on disk, unless synchronous_commit was turned off there.
"""

import math
import time
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

import msgspec
import psycopg
from psycopg import pq
from psycopg.rows import tuple_row

from allocator.domain.deadletter import Attempt, DeadLetter, damaged_job
from allocator.domain.job import Job, prepare, restore
from allocator.domain.lease import Lease
from allocator.domain.states import State
from allocator.queue.base import POLL_S, Queue, Settlement
from allocator.queue.postgres.connecting import (
    FORMAT,
    SCHEMA,
    PostgresSession,
    addresses,
    explained,
    instant,
    integer,
    statements,
)
from allocator.queue.sessions import RECONNECT_S, Closing, Sessions, masked

NOTIFY_EVERY_S = 0.1
"""Each client notifies at most this often: NOTIFY takes a lock on the whole database when it commits."""

LOOK_FOR_S, LOOK_EVERY_S = 0.15, 0.005
"""After a wake-up a client looks so long and so often. Longer than NOTIFY_EVERY_S by what a commit may take."""

ERASED_AT_A_TIME = 20_000

_INSTALL_LOCK = 0x616C6C6F6361746F
"""Key of the advisory lock under which the tables are made: the bytes of "allocato"."""

_HAS_TABLES = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'allocator' AND c.relname = 'version')
"""

_FILES = {
    file.name.removesuffix(".sql"): file.read_text("utf-8")
    for file in (resources.files("allocator.queue.postgres") / "sql").iterdir()
    if file.name.endswith(".sql")
}
_STATEMENTS = {name: call for source in _FILES.values() for name, call in statements(source).items()}

_decode_attempts = msgspec.json.Decoder(list[tuple[int, str, str | None, str, float, float]]).decode


class PostgresQueue(Queue):
    """
    A queue in a PostgreSQL database, version 13 or later.

    Args:
        url: `postgresql://[USER[:PASSWORD]@]HOST[:PORT],…/DATABASE[?sslmode=…]`, as libpq reads it.
        reconnect_s: How long a call tries to get through after the connection was lost.
        prepare: False where a pooler stands between that does not keep prepared statements.
        options: As for `Queue`.
    Raises:
        QueueUnavailable: The server cannot be reached, or refuses the connection; the text says what to check.
        NewerVersion: The tables were made by a newer release.
    """

    def __init__(
        self,
        url: str = "postgresql://localhost:5432/postgres",
        *,
        reconnect_s: float = RECONNECT_S,
        prepare: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(url, **options)
        self._url = url
        self._addresses = addresses(url)
        self._prepare = prepare
        self._queue_id = 0
        self._dead_options = (self.dead_letter_age_s, min(self.dead_letter_count, 2**31 - 1))
        self._notified_at = -math.inf
        self._look_until = -math.inf
        self._sessions = Sessions(self._make_session, self._make_session().unavailable, reconnect_s)
        self._sessions.call(lambda session: None)

    def _make_session(self) -> PostgresSession:
        return PostgresSession(self._url, self._addresses, self._prepare, self._open)

    def _open(self, session: PostgresSession) -> None:
        """With each new connection: are the tables there and ours, and which queue is it?"""
        if self._installed(session) < SCHEMA:
            self._install(session)
        reply = session.run(_STATEMENTS["open"], (SCHEMA, self.name))
        self._queue_id = integer(reply.get_value(0, 0) or b"")

    def _installed(self, session: PostgresSession) -> int:
        """The version of the tables; 0 when there are none."""
        # Asked of the catalogue's tables: a name looked up by itself may be remembered as missing from before a wait.
        if session.query(_HAS_TABLES).get_value(0, 0) == b"f":
            return 0
        version = session.query("SELECT max(version) FROM allocator.version").get_value(0, 0)
        return 0 if version is None else int(version)

    def _install(self, session: PostgresSession) -> None:
        """Make the tables, or bring them up to this version; one client at a time, all or nothing."""
        session.query(f"BEGIN; SELECT pg_advisory_xact_lock({_INSTALL_LOCK})")
        try:
            # Whoever waited here finds the work done, and must not lock tables that others use by now.
            if self._installed(session) < SCHEMA:
                operations = [source for name, source in _FILES.items() if name != "schema"]
                session.query("".join([_FILES["schema"], *operations]))
                session.query(f"DELETE FROM allocator.version; INSERT INTO allocator.version VALUES ({SCHEMA})")
            session.query("COMMIT")
        except BaseException:
            # Closing the connection rolls everything back.
            session.disconnect()
            raise

    def _run(self, name: str, *arguments: Any, for_dequeue: bool = False) -> pq.abc.PGresult:
        """Call a function that changes something, under the number of its session's call."""
        statement = _STATEMENTS[name]
        now = None if self.clock is None else self.clock.now()

        def operation(session: PostgresSession) -> pq.abc.PGresult:
            head = (SCHEMA, self._queue_id, session.client_id, session.call_number, now)
            return session.run(statement, head + arguments)

        return self._sessions.call(operation, for_dequeue=for_dequeue)

    def _look(self, name: str, *arguments: Any) -> pq.abc.PGresult:
        """Call a function that only reads."""
        statement = _STATEMENTS[name]
        return self._sessions.call(lambda session: session.run(statement, (SCHEMA, self._queue_id, *arguments)))

    def _now(self) -> float | None:
        return None if self.clock is None else self.clock.now()

    def _notifies(self, delay: float = 0.0) -> bool:
        """Whether a call that makes a job ready in `delay` seconds is to wake the clients that wait."""
        now = time.monotonic()
        if delay >= POLL_S or now < self._notified_at + NOTIFY_EVERY_S:
            return False
        self._notified_at = now
        return True

    # In life-cycle order

    def enqueue(self, job: Job, connection: "psycopg.Connection[Any] | None" = None) -> Job:
        """
        Accept a job; see `Queue.enqueue`.

        With a psycopg connection of yours to the same database, it is accepted when your transaction commits, and
        not at all if that is rolled back. Errors of that connection come as psycopg's own.
        """
        if connection is None:
            return super().enqueue(job)
        return self.enqueue_many([job], connection)[0]

    def enqueue_many(self, jobs: Iterable[Job], connection: "psycopg.Connection[Any] | None" = None) -> list[Job]:
        """Accept all of the jobs or none; see `Queue.enqueue_many`, and `enqueue` for `connection`."""
        if connection is None:
            return super().enqueue_many(jobs)
        self._check_open()
        prepared = [prepare(job) for job in jobs]
        return self._enqueue_within(connection, prepared) if prepared else []

    def _enqueue(self, prepared: list[tuple[Job, bytes]]) -> list[Job]:
        if len(prepared) == 1:
            return [self._enqueue_one(*prepared[0])]
        arguments = _enqueue_arguments(prepared)
        notify = self._notifies(min(job.delay for job, _ in prepared))
        reply = self._run("enqueue", notify, *arguments)
        accepted_at = instant(reply.get_value(0, 3) or b"")
        jobs = []
        for job, _ in prepared:
            job.enqueued_at = accepted_at
            jobs.append(job)
        for row in range(1, reply.ntuples):
            index, record, failed, enqueued_at = (reply.get_value(row, column) or b"" for column in range(4))
            at = integer(index) - 1
            jobs[at] = _stored_job(jobs[at].id, record, integer(failed), instant(enqueued_at))
        return jobs

    def _enqueue_one(self, job: Job, record: bytes) -> Job:
        reply = self._run(
            "enqueue_one",
            self._notifies(job.delay),
            job.id,
            job.priority,
            job.max_retries,
            job.delay,
            job.failed_count,
            record,
        )
        stored = reply.get_value(0, 0)
        accepted_at = instant(reply.get_value(0, 2) or b"")
        if stored is None:
            job.enqueued_at = accepted_at
            return job
        return _stored_job(job.id, stored, integer(reply.get_value(0, 1) or b""), accepted_at)

    def _enqueue_within(self, connection: "psycopg.Connection[Any]", prepared: list[tuple[Job, bytes]]) -> list[Job]:
        # Always with a wake-up: it is sent at the caller's commit, which is later than anything known here.
        arguments = (SCHEMA, self.name, self._now(), *_enqueue_arguments(prepared))
        query = (
            "SELECT * FROM allocator.enqueue(%s, (SELECT id FROM allocator.queues WHERE name = %s), NULL, NULL, "
            "%s::double precision, true, %s::text[], %s::smallint[], %s::integer[], %s::double precision[], "
            "%s::integer[], %s::bytea[])"
        )
        with connection.cursor(row_factory=tuple_row) as cursor:
            try:
                rows = cursor.execute(query, arguments, binary=True).fetchall()
            except psycopg.Error as error:
                if error.sqlstate == "AL001":
                    raise explained("AL001", error.diag.message_primary or "", masked(self._url)) from None
                if error.sqlstate == "23502":
                    raise ValueError(
                        f"connection: its database does not have the queue {self.name!r}; "
                        f"it must be the one at {masked(self._url)}"
                    ) from None
                raise
        jobs = []
        for job, _ in prepared:
            job.enqueued_at = rows[0][3]
            jobs.append(job)
        for index, record, failed, enqueued_at in rows[1:]:
            jobs[index - 1] = _stored_job(jobs[index - 1].id, record, failed, enqueued_at)
        return jobs

    def _take(self, limit: int) -> tuple[list[Lease], float]:
        while True:
            try:
                reply = self._run(
                    "dequeue", FORMAT, limit, self.lease_s, self.worker, *self._dead_options, for_dequeue=True
                )
            except Closing:
                return [], math.inf
            if reply.get_value(0, 0) is None:
                next_s = reply.get_value(0, 7)
                return [], math.inf if next_s is None else max(0.0, instant(next_s))
            leases, damaged = self._leases(reply)
            if damaged:
                self._settle([], damaged)
            if leases:
                return leases, math.inf

    def _leases(self, reply: pq.abc.PGresult) -> tuple[list[Lease], list[Settlement]]:
        """The leases, and those whose record cannot be read, on their way to the dead letters."""
        leases: list[Lease] = []
        damaged: list[Settlement] = []
        value = reply.get_value
        for row in range(reply.ntuples):
            job_id = (value(row, 0) or b"").decode()
            record, enqueued_at = value(row, 1), value(row, 2)
            failed_count = integer(value(row, 3) or b"")
            problem = ""
            try:
                if record is None or enqueued_at is None:
                    raise ValueError("it is missing")
                job = restore(job_id, record, failed_count, instant(enqueued_at))
            except (msgspec.DecodeError, ValueError) as error:
                job, problem = damaged_job(job_id), str(error)
            token, due_at = (value(row, 4) or b"").decode(), instant(value(row, 5) or b"")
            leased_at, expires_at = instant(value(row, 6) or b""), instant(value(row, 7) or b"")
            lease = Lease(job, failed_count + 1, token, expires_at, due_at, leased_at, self.worker)
            lease.lost_before = value(row, 8) == b"\1"
            if problem:
                damaged.append(Settlement(lease, "dead", 0.0, f"damaged record: {problem}"))
            else:
                leases.append(lease)
        return leases, damaged

    def _wait(self, seconds: float) -> None:
        # Between a look and this wait no wake-up is missed: a notification stays with the connection that listens until
        # it is read here. A connection that has only begun to listen may have missed one, so it counts as woken.
        # Those who enqueue without notifying do so within NOTIFY_EVERY_S of a notification, while everybody whom that
        # one woke still looks by himself.
        if time.monotonic() < self._look_until:
            time.sleep(min(seconds, LOOK_EVERY_S))
            return
        channel = f"allocator_{self._queue_id}"

        def block(session: PostgresSession) -> None:
            if not self._closed and session.wait(channel, seconds):
                self._look_until = time.monotonic() + LOOK_FOR_S

        self._sessions.wait(block)

    def _extend(self, leases: Sequence[Lease], seconds: float) -> list[Lease]:
        ids, tokens = [lease.job.id for lease in leases], [lease.token for lease in leases]
        reply = self._run("extend", seconds, ids, tokens)
        # By token: a lease that was given twice is extended once, and still held.
        held: dict[str, tuple[float, bool]] = {}
        for row in range(reply.ntuples):
            index, expires_at, cancelled = (reply.get_value(row, column) or b"" for column in range(3))
            held[tokens[integer(index) - 1]] = instant(expires_at), cancelled == b"\1"
        lost = []
        for lease in leases:
            if lease.token in held:
                lease.expires_at, lease.cancelled = held[lease.token]
            else:
                lost.append(lease)
        return lost

    def _settle(self, acks: list[Lease], others: list[Settlement]) -> list[Lease]:
        leases = [*acks, *(other.lease for other in others)]
        back = [other.delay for other in others if other.verb != "dead"]
        reply = self._run(
            "settle",
            bool(back) and self._notifies(min(back)),
            *self._dead_options,
            len(acks),
            [lease.job.id for lease in leases],
            [lease.token for lease in leases],
            [other.verb for other in others],
            [other.delay for other in others],
            [other.error for other in others],
            [other.traceback for other in others],
        )
        return [leases[integer(reply.get_value(row, 0) or b"") - 1] for row in range(reply.ntuples)]

    def _counts(self) -> dict[str, int]:
        reply = self._look("counts", self._now())
        names = ("ready", "scheduled", "leased", "dead", "done", "cancelled", "purged")
        return {name: integer(reply.get_value(0, column) or b"") for column, name in enumerate(names)}

    def _find(self, ids: list[str]) -> dict[str, State]:
        reply = self._look("find", self._now(), [job_id for job_id in ids if _is_storable(job_id)])
        found: dict[str, State] = {}
        for row in range(reply.ntuples):
            job_id, state = reply.get_value(row, 0) or b"", reply.get_value(row, 1) or b""
            found[job_id.decode()] = State(state.decode())
        return found

    def _dead_page(self, position: int, limit: int) -> list[DeadLetter]:
        reply = self._look("dead_page", position, limit)
        return [_dead_letter([reply.get_value(row, column) for column in range(9)]) for row in range(reply.ntuples)]

    def _dead_position(self, job_id: str) -> int | None:
        if not _is_storable(job_id):
            return None
        position = self._look("dead_position", job_id).get_value(0, 0)
        return None if position is None else integer(position)

    def _requeue(self, ids: list[str]) -> int:
        reply = self._run("requeue", self._notifies(), [job_id for job_id in ids if _is_storable(job_id)])
        return integer(reply.get_value(0, 0) or b"")

    def _purge(self, ids: list[str]) -> int:
        reply = self._run("purge", [job_id for job_id in ids if _is_storable(job_id)])
        return integer(reply.get_value(0, 0) or b"")

    def _cancel(self, job_id: str) -> bool:
        return _is_storable(job_id) and self._run("cancel", job_id).get_value(0, 0) == b"\1"

    def _reap(self, limit: int) -> list[str]:
        reply = self._run("reap", self._notifies(), limit, *self._dead_options)
        return [(reply.get_value(row, 0) or b"").decode() for row in range(reply.ntuples)]

    def _set_paused(self, paused: bool) -> None:
        self._run("pause", not paused and self._notifies(), paused)

    def _erase(self) -> None:
        while self._look("erase", ERASED_AT_A_TIME).get_value(0, 0) == b"\1":
            pass

    def _close(self) -> None:
        self._sessions.close()


# From values of the domain to arguments, and back


def _enqueue_arguments(prepared: list[tuple[Job, bytes]]) -> tuple[list[Any] | None, ...]:
    delays = failed = None
    if any(job.delay or job.failed_count for job, _ in prepared):
        delays = [float(job.delay) for job, _ in prepared]
        failed = [job.failed_count for job, _ in prepared]
    return (
        [job.id for job, _ in prepared],
        [job.priority for job, _ in prepared],
        [job.max_retries for job, _ in prepared],
        delays,
        failed,
        [record for _, record in prepared],
    )


def _is_storable(job_id: str) -> bool:
    """Whether the server could know such an id at all; others it refuses to be asked about."""
    return job_id.isprintable()


def _stored_job(job_id: str, record: bytes, failed_count: int, enqueued_at: float) -> Job:
    try:
        return restore(job_id, record, failed_count, enqueued_at)
    except (msgspec.DecodeError, ValueError):
        return damaged_job(job_id)


def _dead_letter(row: Sequence[bytes | None]) -> DeadLetter:
    job_id = (row[0] or b"").decode()
    position, dead_at, error, failed_count, attempt_count = (value or b"" for value in row[1:6])
    record, enqueued_at, attempts = row[6:9]
    if record is None or enqueued_at is None:
        job = damaged_job(job_id)
    else:
        job = _stored_job(job_id, record, integer(failed_count), instant(enqueued_at))
    return DeadLetter(
        job,
        error.decode(),
        [Attempt(*attempt) for attempt in _decode_attempts(attempts or b"[]")],
        integer(attempt_count),
        instant(dead_at),
        integer(position),
    )
