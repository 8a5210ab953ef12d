"""A program that reads from a store with many jobs, beside the driver's own SELECT of the same rows."""

import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import psycopg

from allocator.bench.scratch import scratch_store
from allocator.domain.ids import new_id
from allocator.persistence import Store
from allocator.persistence.tables import attempts, jobs

DEAD_EVERY = 10
"""One job in so many is dead, the others are done."""

PAGE = 100
CHUNK = 20_000
"""Rows of one statement, which may take a minute at most."""


def read_records(store_url: str, count: int, samples: int) -> dict[str, list[float]]:
    """
    Seconds to read one job, the first page of the dead, and a page deep among them; each beside the bare driver.

    Returns:
        `job`, `first`, `deep` and `bare_job`, `bare_first`, `bare_deep`, taken in turns; `fill` jobs a second.
    """
    draw = random.Random(7)
    with scratch_store(store_url) as store:
        start = time.perf_counter()
        ids = _fill(store, count)
        filled = time.perf_counter() - start
        dead = ids[::DEAD_EVERY]
        wanted = [draw.choice(ids) for _ in range(samples)]
        # Newest first: what comes after the last tenth of the ids is deep.
        deep = [store.job(draw.choice(dead[PAGE : len(dead) // 5 + PAGE + 1])) for _ in range(samples)]
        with store.engine.connect() as connection:
            raw = connection.connection.driver_connection
            bare = _Bare(raw, "?" if store_url == "sqlite" else "%s")
            figures = {
                **_timed("job", store.job, bare.job, wanted),
                **_timed("first", lambda _: store.jobs(state="dead", limit=PAGE), lambda _: bare.page(None), wanted),
                **_timed("deep", lambda after: store.jobs(state="dead", limit=PAGE, after=after), bare.page, deep),
            }
            connection.rollback()
        return figures | {"fill": [count / filled]}


def _timed(
    name: str, subject: Callable[[Any], object], bare: Callable[[Any], object], arguments: list[Any]
) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [], f"bare_{name}": []}
    for turn, argument in enumerate(arguments):
        both = [(name, subject), (f"bare_{name}", bare)]
        # The second to read a row finds it in the cache.
        for key, operation in both if turn % 2 else reversed(both):
            start = time.perf_counter()
            found = operation(argument)
            taken[key].append(round(time.perf_counter() - start, 7))
            if not found:
                raise RuntimeError(f"{key} found nothing for {argument}")
    return taken


class _Bare:
    """The same rows through the driver alone."""

    def __init__(self, raw: Any, mark: str) -> None:
        self._raw = raw
        self._one = f"SELECT * FROM jobs WHERE id = {mark}"
        self._tried = f"SELECT * FROM attempts WHERE job_id = {mark} ORDER BY leased_at, finished_at"
        page = "SELECT * FROM jobs WHERE ended_as = 'dead' {} ORDER BY finished_at DESC, id DESC LIMIT " + str(PAGE)
        self._first = page.format("")
        self._deep = page.format(f"AND (finished_at, id) < ({mark}, {mark})")

    def job(self, job_id: str) -> Any:
        found = self._raw.execute(self._one, (job_id,)).fetchall()
        self._raw.execute(self._tried, (job_id,)).fetchall()
        return found

    def page(self, after: Any) -> Any:
        if after is None:
            return self._raw.execute(self._first).fetchall()
        return self._raw.execute(self._deep, (after.finished_at, after.id)).fetchall()


def _fill(store: Store, count: int) -> list[str]:
    """Rows as a supervisor leaves them, one attempt each, past the store's own statements; gives the ids in order."""
    ids = [new_id() for _ in range(count)]
    now = time.time()
    record = msgspec.json.encode({"type": "bench", "payload": "x" * 100})
    for start in range(0, count, CHUNK):
        chunk = list(enumerate(ids[start : start + CHUNK], start))
        _copy(store, jobs.name, [column.name for column in jobs.c], _job_rows(chunk, now - count / 100, record))
        _copy(store, attempts.name, [column.name for column in attempts.c], _attempt_rows(chunk, now - count / 100))
    with store.engine.connect() as connection:
        raw = connection.connection.driver_connection
        if isinstance(raw, psycopg.Connection):
            raw.autocommit = True
            raw.execute("SET statement_timeout = 0")
            # What autovacuum does in time.
            raw.execute("VACUUM (ANALYZE) jobs, attempts")
            raw.autocommit = False
            connection.invalidate()
    return ids


def _job_rows(chunk: list[tuple[int, str]], at: float, record: bytes) -> Iterator[tuple[Any, ...]]:
    for order, job_id in chunk:
        is_dead = order % DEAD_EVERY == 0
        state = "dead" if is_dead else "done"
        instant = at + order / 100
        values: dict[str, Any] = {
            "id": job_id,
            "queue": "memory:bench",
            "type": "bench",
            "priority": 0,
            "max_retries": 3,
            "state": state,
            "ended_as": state,
            "attempt": 1,
            "failed_count": int(is_dead),
            "worker": "worker-1",
            "cancel_asked": False,
            "error": "ValueError: no such thing" if is_dead else None,
            "submitted_at": instant,
            "due_at": instant,
            "leased_at": instant,
            "started_at": instant,
            "finished_at": instant + 0.001,
            "result": None if is_dead else b"null",
            "record": record,
        }
        yield tuple(values.get(column.name) for column in jobs.c)


def _attempt_rows(chunk: list[tuple[int, str]], at: float) -> Iterator[tuple[Any, ...]]:
    for order, job_id in chunk:
        is_dead = order % DEAD_EVERY == 0
        instant = at + order / 100
        error = "ValueError: no such thing" if is_dead else None
        outcome = "failed" if is_dead else "done"
        yield job_id, f"t{order}", 1, "worker-1", outcome, error, None, instant, instant, instant + 0.001


def _copy(store: Store, table: str, names: list[str], rows: Iterator[tuple[Any, ...]]) -> None:
    columns = ", ".join(names)
    with store.engine.begin() as connection:
        raw = connection.connection.driver_connection
        if isinstance(raw, sqlite3.Connection):
            marks = ", ".join("?" * len(names))
            raw.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)
            return
        assert isinstance(raw, psycopg.Connection)
        with raw.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN".encode()) as copy:
            for row in rows:
                copy.write_row(row)
