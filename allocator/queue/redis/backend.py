"""
The Redis backend: one Lua script for each operation, so that each is atomic and one round trip.

The data layout stands at the top of `lua/parts/keys.lua`. The one guarantee: before and after each script a job id is
in exactly one of ready, scheduled, leased and dead, with its record beside it. All keys of a queue share one hash tag.

Durability is the server's: without `appendonly yes` a restart loses jobs, and a fail-over loses what had not reached
the replica.
"""

import hashlib
import logging
import math
import threading
from collections.abc import Sequence
from importlib import resources
from typing import Any

import msgspec
from redis import exceptions

from allocator.domain.deadletter import Attempt, DeadLetter, damaged_job
from allocator.domain.errors import NewerVersion, QueueUnavailable
from allocator.domain.job import Job, restore
from allocator.domain.lease import Lease
from allocator.domain.states import State
from allocator.queue.base import Queue, Settlement
from allocator.queue.redis.connecting import RedisSession, Script, server_of
from allocator.queue.sessions import RECONNECT_S, Closing, Sessions, masked

log = logging.getLogger(__name__)

OLDEST_SERVER = (6, 2)


def _scripts() -> dict[str, Script]:
    folder = resources.files("allocator.queue.redis") / "lua"
    parts = {file.name: file.read_text("utf-8") for file in (folder / "parts").iterdir()}
    scripts = {}
    for file in folder.iterdir():
        if not file.name.endswith(".lua"):
            continue
        text = file.read_text("utf-8")
        needs = text.splitlines()[1].removeprefix("-- Needs: ").split(", ")
        source = "\n".join(parts[f"{name}.lua"] for name in ("keys", *needs)) + "\n" + text
        digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        scripts[file.name.removesuffix(".lua")] = Script(source, digest)
    return scripts


_SCRIPTS = _scripts()


class _Failure(msgspec.Struct, omit_defaults=True):
    """What a failed attempt leaves: opaque to the scripts."""

    error: str
    traceback: str | None = None


_encode = msgspec.json.Encoder().encode
_decode_failure = msgspec.json.Decoder(_Failure).decode


class RedisQueue(Queue):
    """
    A queue on Redis 6.2 or later, or Valkey.

    Args:
        url: `redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]`, `rediss://…`, `unix://…`,
            `redis+sentinel://HOST:PORT,…/SERVICE[/DB]`, `redis+cluster://HOST:PORT,…`.
        reconnect_s: How long a call tries to get through after the connection was lost.
        options: As for `Queue`.
    Raises:
        QueueUnavailable: The server cannot be reached, or refuses the connection; the text says what to check.
    """

    def __init__(
        self, url: str = "redis://localhost:6379/0", *, reconnect_s: float = RECONNECT_S, **options: Any
    ) -> None:
        super().__init__(url, **options)
        self._url = url
        self._prefix = f"allocator:{{{self.name}}}:"
        self._server = server_of(url)
        self._inspected = False
        self._passing_on: list[threading.Thread] = []
        self._dead_options = (round(self.dead_letter_age_s * 1e6), self.dead_letter_count)
        self._lease_us = round(self.lease_s * 1e6)
        self._sessions = Sessions(self._make_session, self._make_session().unavailable, reconnect_s)
        self._sessions.call(lambda session: session.command("PING"))

    def _make_session(self) -> RedisSession:
        return RedisSession(self._server, self._prefix, self._url, self._inspect)

    def _inspect(self, session: RedisSession) -> None:
        """Once for each queue object: is this server fit to hold jobs?"""
        if self._inspected:
            return
        self._inspected = True
        try:
            text = session.command("INFO")
        except (exceptions.ResponseError, QueueUnavailable):
            # INFO may be forbidden; what else is wrong, the calls that follow say better.
            return
        info = dict(line.split(":", 1) for line in text.decode("utf-8", "replace").splitlines() if ":" in line)
        version = tuple(int(part) for part in info.get("redis_version", "").split(".")[:2] if part.isdigit())
        if version and version < OLDEST_SERVER:
            log.warning(
                "Redis at %s is version %s; this queue needs 6.2 or later", masked(self._url), info["redis_version"]
            )
        policy = info.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            log.warning(
                "Redis at %s has maxmemory-policy %s, which can delete jobs when memory runs out; "
                "set `maxmemory-policy noeviction`",
                masked(self._url),
                policy,
            )

    def _run(self, name: str, *arguments: Any, for_dequeue: bool = False) -> Any:
        script = _SCRIPTS[name]
        now = "" if self.clock is None else round(self.clock.now() * 1e6)
        try:
            return self._sessions.call(lambda session: session.run(script, now, *arguments), for_dequeue=for_dequeue)
        except exceptions.ResponseError as error:
            raise self._explain(error) from None

    def _explain(self, error: exceptions.ResponseError) -> Exception:
        kind, _, rest = str(error).partition(" ")
        if kind == "NEWERSCHEMA":
            return NewerVersion(
                f"queue {self.name!r} has schema version {rest.split()[0]}, written by a newer release; "
                "this client knows version 1. Nothing was taken or changed. Upgrade: pip install -U allocator"
            )
        if kind == "NEWERRECORD":
            version, _, job_id = rest.partition(" ")
            return NewerVersion(
                f"job {job_id} in queue {self.name!r} has a record of format {version}, written by a newer release; "
                "this client knows format 1. Nothing was taken. Upgrade: pip install -U allocator"
            )
        return error

    # In life-cycle order

    def _enqueue(self, prepared: list[tuple[Job, bytes]]) -> list[Job]:
        arguments: list[Any] = []
        for job, record in prepared:
            arguments += (
                job.id,
                job.priority,
                job.max_retries,
                round(job.delay * 1e6) if job.delay else 0,
                job.failed_count,
                record,
            )
        reply = self._run("enqueue", *arguments)
        enqueued_at = int(reply[0]) / 1e6
        jobs = []
        for job, _ in prepared:
            job.enqueued_at = enqueued_at
            jobs.append(job)
        for at in range(1, len(reply), 3):
            index = int(reply[at]) - 1
            jobs[index] = _stored_job(jobs[index].id, reply[at + 1], int(reply[at + 2]))
        return jobs

    def _take(self, limit: int) -> tuple[list[Lease], float]:
        while True:
            try:
                reply = self._run("dequeue", limit, self._lease_us, self.worker, *self._dead_options, for_dequeue=True)
            except Closing:
                return [], math.inf
            leases: list[Lease] = []
            damaged: list[Settlement] = []
            for at in range(1, len(reply), 3):
                lease, problem = _lease(reply[at], reply[at + 1], reply[at + 2])
                if problem:
                    damaged.append(Settlement(lease, "dead", 0.0, f"damaged record: {problem}"))
                else:
                    leases.append(lease)
            if damaged:
                self._settle([], damaged)
                if not leases:
                    continue
            return leases, int(reply[0]) / 1e6 if reply[0] else math.inf

    def _wait(self, seconds: float) -> None:
        # The wake-up stays in its key until somebody takes it, so none is missed between a look and this wait.
        key = self._prefix + "wake"

        def block(session: RedisSession) -> None:
            try:
                session.command("BZPOPMIN", key, f"{max(seconds, 0.001):.3f}")
            finally:
                if self._closed:
                    # Beside it, because a server that does not answer must not hold up a dequeue that was ended.
                    thread = threading.Thread(target=self._pass_on, daemon=True)
                    self._passing_on.append(thread)
                    thread.start()

        self._sessions.wait(block)

    def _pass_on(self) -> None:
        """The wake-up that a closed client may have swallowed belongs to another one."""
        try:
            other = self._make_session()
            other.connect()
            other.command("ZADD", self._prefix + "wake", 0, "wake")
            other.disconnect()
        except Exception:
            log.debug("the wake-up was not passed on; the others look by themselves", exc_info=True)

    def _extend(self, leases: Sequence[Lease], seconds: float) -> list[Lease]:
        arguments: list[Any] = [round(seconds * 1e6)]
        for lease in leases:
            arguments += (lease.job.id, lease.token)
        lost = []
        for lease, reply in zip(leases, self._run("extend", *arguments), strict=True):
            if not reply:
                lost.append(lease)
                continue
            expires_us, mark = reply.split()
            lease.expires_at = int(expires_us) / 1e6
            lease.cancelled = mark == b"1"
        return lost

    def _settle(self, acks: list[Lease], others: list[Settlement]) -> list[Lease]:
        arguments: list[Any] = [*self._dead_options, len(acks)]
        for lease in acks:
            arguments += (lease.job.id, lease.token)
        for lease, verb, delay, error, traceback in others:
            failure = _encode(_Failure(error, traceback))
            arguments += (_raw(lease.job.id), lease.token, verb, round(delay * 1e6), failure)
        leases = [*acks, *(other.lease for other in others)]
        return [leases[int(index) - 1] for index in self._run("settle", *arguments)]

    def _counts(self) -> dict[str, int]:
        names = ("ready", "scheduled", "leased", "dead", "done", "cancelled", "purged")
        return dict(zip(names, self._run("counts"), strict=True))

    def _find(self, ids: list[str]) -> dict[str, State]:
        reply = self._run("find", *ids)
        return {job_id: State(state.decode()) for job_id, state in zip(ids, reply, strict=True) if state}

    def _dead_page(self, position: int, limit: int) -> list[DeadLetter]:
        return [_dead_letter(*entry) for entry in self._run("dead_page", position, limit)]

    def _dead_position(self, job_id: str) -> int | None:
        key = self._prefix + "dead:order"
        score = self._sessions.call(lambda session: session.command("ZSCORE", key, job_id))
        return None if score is None else int(float(score))

    def _requeue(self, ids: list[str]) -> int:
        return int(self._run("requeue", *map(_raw, ids))[0])

    def _purge(self, ids: list[str]) -> int:
        return int(self._run("purge", *map(_raw, ids))[0])

    def _cancel(self, job_id: str) -> bool:
        return bool(self._run("cancel", job_id)[0])

    def _reap(self, limit: int) -> list[str]:
        return [_text(job_id) for job_id in self._run("reap", limit, *self._dead_options)]

    def _set_paused(self, paused: bool) -> None:
        self._run("pause", int(paused))

    def _erase(self) -> None:
        for thread in self._passing_on:
            thread.join()
        # A pattern, because attempts and calls have keys of their own; the braces and the rest are literal.
        pattern = self._prefix + "*"

        def scan(session: RedisSession) -> None:
            cursor = b"0"
            while True:
                cursor, keys = session.command("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
                if keys:
                    session.command("UNLINK", *keys)
                if cursor == b"0":
                    return

        self._sessions.call(scan)

    def _close(self) -> None:
        self._sessions.close()


# From bytes to values of the domain


def _text(job_id: bytes) -> str:
    """An id. One that is no text came from elsewhere, and must find its way back to be purged."""
    return job_id.decode("utf-8", "surrogateescape")


def _raw(job_id: str) -> bytes:
    return job_id.encode("utf-8", "surrogateescape")


def _lease(job_id: bytes, record: bytes, state: bytes) -> tuple[Lease, str]:
    """The lease, and what is wrong with the record (then the job is a stand-in)."""
    token, expires, _, _, _, _, failed, lost, due, leased, _, worker = state.split(b" ", 11)
    header, _, body = record.partition(b"\n")
    problem = ""
    try:
        job = restore(job_id.decode(), body, int(failed), int(header.split(b" ")[4]) / 1e6)
    except (msgspec.DecodeError, ValueError, IndexError) as error:
        job = damaged_job(_text(job_id))
        problem = str(error)
    lease = Lease(
        job,
        int(failed) + 1,
        token.decode(),
        int(expires) / 1e6,
        int(due) / 1e6,
        int(leased) / 1e6,
        worker.decode("utf-8", "replace"),
        lost_before=lost == b"1",
    )
    return lease, problem


def _stored_job(job_id: str, record: bytes, failed_count: int) -> Job:
    header, _, body = record.partition(b"\n")
    try:
        return restore(job_id, body, failed_count, int(header.split(b" ")[4]) / 1e6)
    except (msgspec.DecodeError, ValueError, IndexError):
        return damaged_job(job_id)


def _dead_letter(job_id: bytes, position: bytes, record: bytes, info: bytes, attempts: list[bytes]) -> DeadLetter:
    numbers, _, blob = info.partition(b"\n")
    try:
        dead_us, failed_count, attempt_count = (int(part) for part in numbers.split(b" ")[:3])
        error = _decode_failure(blob).error
    except (msgspec.DecodeError, ValueError) as problem:
        dead_us, failed_count, attempt_count = 0, 0, len(attempts)
        error = f"damaged record: what was noted about this dead letter cannot be read ({problem})"
    return DeadLetter(
        _stored_job(_text(job_id), record, failed_count),
        error,
        [_attempt(entry) for entry in attempts],
        attempt_count,
        dead_us / 1e6,
        int(float(position)),
    )


def _attempt(entry: bytes) -> Attempt:
    head, _, blob = entry.partition(b"\n")
    try:
        number, leased_us, failed_us, worker = head.split(b" ", 3)
        failure = _decode_failure(blob)
        return Attempt(
            int(number),
            failure.error,
            failure.traceback,
            worker.decode("utf-8", "replace"),
            int(leased_us) / 1e6,
            int(failed_us) / 1e6,
        )
    except (msgspec.DecodeError, ValueError) as problem:
        return Attempt(0, f"damaged record: this attempt cannot be read ({problem})", None, "", 0.0, 0.0)
