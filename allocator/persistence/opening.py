"""From a URL to a store."""

import os
import re
import sys
from pathlib import Path

from sqlalchemy import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError

from allocator.domain.clock import Clock
from allocator.persistence.engines import SCHEMA, WRITE, postgres_engine, sqlite_engine
from allocator.persistence.errors import StoreUnavailable
from allocator.persistence.failures import told
from allocator.persistence.migrating import bring_up_to_date
from allocator.persistence.store import Store

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def default_url() -> str:
    """The URL of the user's own SQLite database, in the folder that the system has for such data."""
    if sys.platform == "darwin":
        folder = Path.home() / "Library" / "Application Support"
    else:
        # Relative paths are to be passed over, says the XDG Base Directory Specification.
        given = Path(os.environ.get("XDG_DATA_HOME", ""))
        folder = given if given.is_absolute() else Path.home() / ".local" / "share"
    return f"sqlite:///{folder / 'allocator' / 'store.db'}"


def open_store(url: str | None = None, *, schema: str = SCHEMA, clock: Clock | None = None) -> Store:
    """
    Open a store; make its tables, or upgrade those of an older release.

    Args:
        url: `sqlite:///PATH` (four slashes for an absolute one) or `postgresql://USER@HOST:PORT/DATABASE`;
            by default `default_url()`.
        schema: On PostgreSQL: where the tables are. Made if missing.
        clock: For the instants of submissions and cancellations where the queue has no clock of its own; by default
            the system's.
    Raises:
        ValueError: No store for this URL.
        StoreUnavailable: The database cannot be reached or opened.
        NewerVersion: A newer release wrote it.
    """
    try:
        parsed = make_url(default_url() if url is None else url)
    except ArgumentError:
        raise ValueError(f"url: {url!r} is no URL; {_FORMS}") from None
    match parsed.drivername:
        case "sqlite" | "sqlite+pysqlite":
            return _open_sqlite(parsed, clock)
        case "postgresql" | "postgres" | "postgresql+psycopg":
            if not _SCHEMA.fullmatch(schema):
                raise ValueError(f"schema: lower-case letters, digits and '_', at most 63 of them, not {schema!r}")
            return _open_postgres(parsed.set(drivername="postgresql+psycopg"), schema, clock)
        case _:
            raise ValueError(f"url: {parsed.drivername} is no known database; {_FORMS}")


_FORMS = "use sqlite:///PATH or postgresql://USER@HOST:PORT/DATABASE"


def _open_sqlite(url: URL, clock: Clock | None) -> Store:
    if not url.database or url.database == ":memory:" or url.query:
        raise ValueError(f"url: the store needs a file of its own and takes no options, not {str(url)!r}; {_FORMS}")
    path = Path(url.database).expanduser().absolute()
    where = f"sqlite:///{path}"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        remedy = "Give this user the right to make its folder, or name another place"
        raise StoreUnavailable(where, "refused", f"{error.strerror}: {error.filename}", remedy) from error
    return _ready(Store(sqlite_engine(path), where, clock=clock, path=path), None)


def _open_postgres(url: URL, schema: str, clock: Clock | None) -> Store:
    shown = url.set(drivername="postgresql").difference_update_query(["password"])
    where = shown.render_as_string(hide_password=True)
    return _ready(Store(postgres_engine(url, schema), where, clock=clock, schema=schema), schema)


def _ready(store: Store, schema: str | None) -> Store:
    engine: Engine = store.engine.execution_options(**WRITE)
    try:
        with told(store.where):
            bring_up_to_date(engine, store.where, schema)
    except BaseException:
        store.close()
        raise
    return store
