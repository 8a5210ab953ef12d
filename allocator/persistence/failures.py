"""From a driver's error to StoreUnavailable: which trouble it is, and what to do about it."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import exc

from allocator.persistence.errors import StoreUnavailable

_SQLITE = {
    sqlite3.SQLITE_BUSY: ("locked", "Another process writes for too long; see who has the file open (lsof), and retry"),
    sqlite3.SQLITE_LOCKED: ("locked", "Another connection of this process writes for too long; retry"),
    sqlite3.SQLITE_FULL: ("full", "Free some space on its disk (or raise max_page_count), or delete old jobs (retain)"),
    sqlite3.SQLITE_READONLY: ("read-only", "Give this user the right to write the file and its folder"),
    sqlite3.SQLITE_CANTOPEN: ("refused", "Check that its folder exists and that this user may write there"),
    sqlite3.SQLITE_PERM: ("refused", "Give this user the right to write the file and its folder"),
    sqlite3.SQLITE_AUTH: ("refused", "Give this user the right to write the file and its folder"),
    sqlite3.SQLITE_IOERR: ("down", "The disk failed or went away: see the system's log"),
    sqlite3.SQLITE_NOTADB: ("damaged", "Name another file, or put a backup in its place"),
    sqlite3.SQLITE_CORRUPT: ("damaged", "Put a backup in its place, or recover it with `sqlite3 FILE .recover`"),
}

_POSTGRES = {
    "53100": ("full", "Free some space on the server's disk, or delete old jobs (retain)"),
    "53200": ("full", "The server is out of memory: see its log"),
    "53300": ("down", "Too many connections: raise max_connections, or open fewer stores"),
    "25006": ("read-only", "This is a standby, or the database is set read-only: use the primary"),
    "55P03": ("locked", "A lock was not to be had in time: see pg_locks for who holds it, and retry"),
    "57014": ("locked", "The statement took too long: see pg_stat_activity for who is in its way, and retry"),
    "40001": ("locked", "Transactions got in each other's way; retry"),
    "40P01": ("locked", "Transactions got in each other's way; retry"),
    "3D000": ("refused", "Check the database in the URL, or create it: createdb NAME"),
    "42501": ("refused", "Grant this user the rights on the schema and its tables"),
    "XX001": ("damaged", "The server found damaged data: see its log"),
    "XX002": ("damaged", "The server found a damaged index: see its log, then REINDEX"),
}
_POSTGRES_CLASSES = {
    "08": ("down", "Check that the server runs; then retry"),
    "28": ("refused", "Check user and password in the URL, and the server's pg_hba.conf"),
    "57": ("down", "The server stops or starts; retry"),
    "58": ("down", "The server's disk failed: see its log"),
}
_NO_ANSWER = (
    "down",
    "Check host and port in the URL and the server: `python -m allocator.services` starts one",
)


@contextmanager
def told(where: str) -> Iterator[None]:
    """Raise StoreUnavailable in place of a driver's error that says so; let mistakes of ours through."""
    try:
        yield
    except (exc.DBAPIError, sqlite3.Error, psycopg.Error) as error:
        cause = error.orig if isinstance(error, exc.DBAPIError) else error
        found = _reason(cause)
        if found is None:
            raise
        reason, remedy = found
        detail = " ".join(str(cause).split()).rstrip(".") or type(cause).__name__
        raise StoreUnavailable(where, reason, detail, remedy) from error
    except exc.TimeoutError as error:
        remedy = "Its connections are all in use: too many threads, or a statement hangs; see pg_stat_activity"
        raise StoreUnavailable(where, "locked", "no connection within the bound", remedy) from error


def _reason(error: BaseException | None) -> tuple[str, str] | None:
    if isinstance(error, sqlite3.Error):
        # The low byte is the kind; the rest says more than anybody needs to act.
        return _SQLITE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
    if isinstance(error, psycopg.Error):
        state = error.sqlstate
        if state is None:
            text = str(error)
            if "password" in text or "pg_hba.conf" in text or "role " in text:
                return _POSTGRES_CLASSES["28"]
            if "does not exist" in text:
                return _POSTGRES["3D000"]
            return _NO_ANSWER if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) else None
        return _POSTGRES.get(state) or _POSTGRES_CLASSES.get(state[:2])
    return None
