"""
The statements of the hot path, built once for each kind of database.

A batch is one definition for both: on SQLite it is run once for each row, inside the library and without a round trip;
on PostgreSQL all rows go over as one JSON document, which costs the driver a tenth of what arrays do.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import starmap
from operator import itemgetter
from typing import Any

import msgspec
from sqlalchemy import (
    ARRAY,
    JSON,
    ColumnElement,
    Connection,
    Select,
    bindparam,
    case,
    cast,
    column,
    false,
    func,
    literal_column,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import Double, Integer, LargeBinary, Text, TypeEngine

from allocator.persistence.judging import Known
from allocator.persistence.tables import attempts, jobs

Statement = Any
Row = dict[str, ColumnElement[Any]]
Kinds = dict[str, TypeEngine[Any]]

_encode = msgspec.json.Encoder().encode
_TEXT, _INTEGER, _BYTES = Text(), Integer(), LargeBinary()
_FLOAT: Double[float] = Double()


def _word(text: str) -> ColumnElement[str]:
    """A constant of ours, written into the statement rather than sent along with each row."""
    return literal_column(f"'{text}'", Text())


def _driver(connection: Connection) -> sqlite3.Connection:
    """What is below a connection to SQLite; what it does belongs to the same transaction."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


class Batch:
    """A statement that changes many rows at once; called with tuples in the order of `kinds`."""

    def __init__(self, dialect: str, kinds: Kinds, build: Callable[[Row, Select[Any] | None], Statement]) -> None:
        self._binary = [at for at, kind in enumerate(kinds.values()) if isinstance(kind, LargeBinary)]
        self._from_json: Statement | None = None
        # Written by msgspec in half the time that dictionaries take.
        self._row = msgspec.defstruct("Row", list(kinds), gc=False)
        if dialect == "postgresql":
            document = cast(bindparam("document", type_=Text()), JSON)
            columns = [column(name, kind) for name, kind in kinds.items()]
            given = func.json_to_recordset(document).table_valued(*columns, name="given")
            given = given.render_derived(with_types=True)
            statement = build({name: given.c[name] for name in kinds}, select(*given.c))
            # How many rows an insert has written is thrown away otherwise.
            self._from_json = statement.execution_options(preserve_rowcount=True)
            return
        # Names of columns are taken, in a statement with parameters.
        keys = [f"given_{name}" for name in kinds]
        statement = build({name: bindparam(f"given_{name}", type_=kind) for name, kind in kinds.items()}, None)
        # Written out once, so that rows reach the driver as they are: they need no conversion, and what SQLAlchemy does
        # around a statement takes longer than a few rows do.
        compiled = statement.compile(dialect=sqlite.dialect())
        self._sql = str(compiled)
        self._in_order = itemgetter(*map(keys.index, compiled.positiontup or ()))

    def run(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> int:
        """Run it, nothing to do without rows; gives how many rows it changed."""
        if not rows:
            return 0
        if self._from_json is not None:
            return connection.execute(self._from_json, self._document(rows)).rowcount
        try:
            return _driver(connection).executemany(self._sql, map(self._in_order, rows)).rowcount
        except sqlite3.Error as error:
            raise DBAPIError.instance(self._sql, None, error, sqlite3.Error) from error

    def scalars(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> set[Any]:
        """Run one that gives a column back; on PostgreSQL only."""
        assert self._from_json is not None
        return set(connection.execute(self._from_json, self._document(rows)).scalars())

    def _document(self, rows: Sequence[tuple[Any, ...]]) -> dict[str, str]:
        return {"document": _encode(list(starmap(self._row, self._in_text(rows)))).decode()}

    def _in_text(self, rows: Sequence[tuple[Any, ...]]) -> Sequence[tuple[Any, ...]]:
        """The rows with bytes as PostgreSQL reads them from text."""
        for at in self._binary:
            rows = [row if row[at] is None else (*row[:at], "\\x" + row[at].hex(), *row[at + 1 :]) for row in rows]
        return rows


class Lookup:
    """A query whose rows are plain tuples; on SQLite, of columns that need no conversion."""

    def __init__(self, dialect: str, query: Select[Any]) -> None:
        self._query = query
        self._sql: str | None = None
        if dialect == "sqlite":
            # As for batches.
            compiled = query.compile(dialect=sqlite.dialect())
            self._sql = str(compiled)
            self._names = compiled.positiontup or ()

    def rows(self, connection: Connection, given: dict[str, Any]) -> Sequence[Any]:
        """All that it finds."""
        if self._sql is None:
            return connection.execute(self._query, given).all()
        return _driver(connection).execute(self._sql, [given[name] for name in self._names]).fetchall()


BEGINNING: Kinds = {
    "id": _TEXT,
    "token": _TEXT,
    "attempt": _INTEGER,
    "failed_count": _INTEGER,
    "worker": _TEXT,
    "leased_at": _FLOAT,
}
"""What `Statements.begin` needs of a lease."""

SETTLED: Kinds = {
    "id": _TEXT,
    "token": _TEXT,
    "state": _TEXT,
    "ended_as": _TEXT,
    "failed_count": _INTEGER,
    "worker": _TEXT,
    "error": _TEXT,
    "due_at": _FLOAT,
    "started_at": _FLOAT,
    "result": _BYTES,
    "finished_at": _FLOAT,
}
"""What `Statements.settle` needs of an ending: its job's new row, and when the attempt finished."""

USUAL: Kinds = {**SETTLED, "number": _INTEGER, "outcome": _TEXT, "traceback": _TEXT, "leased_at": _FLOAT}
"""What `Statements.settle_usual` needs of it: the same, and the rest of the attempt's row."""


class Statements:
    """
    All of them. `ids` go in as `Statements.ids(…)`, whose form depends on the database.

    No condition is one that a partial index has, though it would say the same: rows are found by their ids, and
    PostgreSQL, which cannot know how few are given, would rather read such an index from end to end.
    """

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect
        is_postgres = dialect == "postgresql"
        self.among: ColumnElement[bool]
        if is_postgres:
            self.among = jobs.c.id == func.any(bindparam("ids", type_=ARRAY(Text)))
            self.attempts_among = attempts.c.job_id == func.any(bindparam("ids", type_=ARRAY(Text)))
        else:
            each = func.json_each(bindparam("ids", type_=Text)).table_valued("value", name="each")
            self.among = jobs.c.id.in_(select(each.c.value))
            self.attempts_among = attempts.c.job_id.in_(select(each.c.value))

        known = [jobs.c[name] for name in Known._fields]
        # In the order of ids, so that two batches with the same jobs do not each wait for the other.
        self.look = Lookup(dialect, select(*known).where(self.among).order_by(jobs.c.id).with_for_update())

        self.insert = self._batch(
            {
                "id": _TEXT,
                "queue": _TEXT,
                "type": _TEXT,
                "priority": _INTEGER,
                "max_retries": _INTEGER,
                "failed_count": _INTEGER,
                "submitted_at": _FLOAT,
                "due_at": _FLOAT,
                "record": _BYTES,
            },
            lambda given, rows: self._insert_new(given, rows),
        )
        self.begin = self._batch(
            BEGINNING,
            lambda given, _: (
                update(jobs)
                .where(
                    jobs.c.id == given["id"], or_(jobs.c.state == _word("queued"), jobs.c.state == _word("processing"))
                )
                .values(_begun(given))
            ),
        )
        self.begin_usual = self._batch(BEGINNING, lambda given, _: self._begin_usual(given)) if is_postgres else None
        # Dead letters that the queue put back by hand.
        self.revive = (
            update(jobs)
            .where(self.among, jobs.c.state == "dead")
            .values(state="queued", ended_as=None, finished_at=None, cancel_asked=False, failed_count=0)
        )
        self.settle = self._batch(
            SETTLED,
            lambda given, _: (
                update(jobs).where(jobs.c.id == given["id"], jobs.c.token == given["token"]).values(_settled(given))
            ),
        )
        self.add_attempts = self._batch(
            {
                "job_id": _TEXT,
                "token": _TEXT,
                "number": _INTEGER,
                "worker": _TEXT,
                "outcome": _TEXT,
                "error": _TEXT,
                "traceback": _TEXT,
                "leased_at": _FLOAT,
                "started_at": _FLOAT,
                "finished_at": _FLOAT,
            },
            lambda given, rows: self._insert_attempts(given, rows),
        )
        self.settle_usual = self._batch(USUAL, lambda given, _: self._settle_usual(given)) if is_postgres else None
        # For jobs that end without an attempt of theirs ending: cancelled, or found dead in the queue.
        self.end = self._batch(
            {"id": _TEXT, "state": _TEXT, "finished_at": _FLOAT, "error": _TEXT, "failed_count": _INTEGER},
            lambda given, _: (
                update(jobs)
                .where(jobs.c.id == given["id"], jobs.c.state != _word("done"), jobs.c.state != _word("cancelled"))
                .values(
                    state=given["state"],
                    ended_as=given["state"],
                    token=null(),
                    finished_at=given["finished_at"],
                    failed_count=func.coalesce(given["failed_count"], jobs.c.failed_count),
                    error=func.coalesce(given["error"], jobs.c.error),
                )
            ),
        )
        self.progress = self._batch(
            {
                "id": _TEXT,
                "token": _TEXT,
                "done": _FLOAT,
                "total": _FLOAT,
                "message": _TEXT,
                "started_at": _FLOAT,
            },
            lambda given, _: (
                update(jobs)
                .where(jobs.c.id == given["id"], jobs.c.token == given["token"])
                .values(
                    progress_done=given["done"],
                    progress_total=given["total"],
                    progress_message=given["message"],
                    started_at=func.coalesce(given["started_at"], jobs.c.started_at),
                )
            ),
        )

    def ids(self, ids: Iterable[str]) -> dict[str, Any]:
        """The parameter of every statement that has `among`."""
        listed = sorted(ids)
        return {"ids": listed if self._dialect == "postgresql" else msgspec.json.encode(listed).decode()}

    def _batch(self, kinds: Kinds, build: Callable[[Row, Select[Any] | None], Statement]) -> Batch:
        return Batch(self._dialect, kinds, build)

    def _begin_usual(self, given: Row) -> Statement:
        """
        Begin what waits, in one statement; gives the tokens of those that it began.

        The others have to be judged one by one: an attempt may still be running, a cancel was asked for, the store had
        given it up, or has a later lease. In the order in which rows are given, as the settings leave no plan but one
        that takes them one after the other: it has to be that of ids, as everywhere, so that two batches with the same
        jobs do not each wait for the other.
        """
        return (
            update(jobs)
            .where(
                jobs.c.id == given["id"],
                jobs.c.state == _word("queued"),
                jobs.c.token.is_(None),
                ~jobs.c.cancel_asked,
                # As `judging.is_older` says.
                or_(
                    jobs.c.leased_at.is_(None),
                    given["leased_at"] >= jobs.c.leased_at,
                    given["attempt"] > jobs.c.attempt,
                ),
            )
            .values(_begun(given))
            .returning(given["token"])
        )

    def _settle_usual(self, given: Row) -> Statement:
        """
        Settle, and add the attempts, in one statement; gives the tokens of those that it settled.

        The others have to be judged one by one: a token is not the job's any more, or a cancel was asked for. As for
        `begin_usual`, rows have to be given in the order of ids.
        """
        tried_columns = ("token", "number", "worker", "outcome", "error", "traceback", "leased_at", "finished_at")
        ended = (
            update(jobs)
            .where(jobs.c.id == given["id"], jobs.c.token == given["token"], ~jobs.c.cancel_asked)
            .values(_settled({**given, "started_at": func.coalesce(given["started_at"], jobs.c.started_at)}))
            # What an attempt lacks is taken from the job, as it is now.
            .returning(jobs.c.id, jobs.c.started_at, *(given[name].label(name) for name in tried_columns))
            .cte("ended")
        )
        columns = ("started_at", *tried_columns)
        tried = (
            postgresql.insert(attempts)
            .from_select(["job_id", *columns], select(ended.c.id, *(ended.c[name] for name in columns)))
            .on_conflict_do_nothing()
            .cte("tried")
        )
        return select(ended.c.token).add_cte(tried)

    def _insert_new(self, given: Row, rows: Select[Any] | None) -> Statement:
        constants: Row = {"state": _word("queued"), "attempt": literal_column("0"), "cancel_asked": false()}
        if rows is None:
            return sqlite.insert(jobs).values(**given, **constants).on_conflict_do_nothing()
        return (
            postgresql.insert(jobs)
            .from_select([*given, *constants], rows.add_columns(*constants.values()))
            .on_conflict_do_nothing()
        )

    def _insert_attempts(self, given: Row, rows: Select[Any] | None) -> Statement:
        if rows is None:
            return sqlite.insert(attempts).values(**given).on_conflict_do_nothing()
        return postgresql.insert(attempts).from_select(list(given), rows).on_conflict_do_nothing()


def _begun(given: Row) -> Row:
    """The new values of a job whose attempt begins."""
    return {
        **{name: given[name] for name in ("token", "attempt", "failed_count", "worker", "leased_at")},
        "state": _word("processing"),
        "started_at": null(),
        "progress_done": null(),
        "progress_total": null(),
        "progress_message": null(),
    }


def _settled(given: Row) -> Row:
    """The new values of a job whose attempt has ended."""
    return {
        **{name: given[name] for name in ("state", "ended_as", "failed_count", "worker", "started_at", "result")},
        "token": null(),
        "error": func.coalesce(given["error"], jobs.c.error),
        "due_at": func.coalesce(given["due_at"], jobs.c.due_at),
        "finished_at": case((given["ended_as"].is_not(None), given["finished_at"])),
    }


@cache
def statements_for(dialect: str) -> Statements:
    """The statements for `sqlite` or `postgresql`."""
    return Statements(dialect)
