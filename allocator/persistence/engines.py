"""
SQLAlchemy engines for the two databases, set so that both keep the same promises.

SQLite: write-ahead log, one writer at a time. With synchronous=NORMAL a kill -9 loses no commit, and a loss of power
may lose the last ones (never the file). That is right for what happens to a job, since what is forgotten runs again; it
is wrong for accepting one, so that `submit` alone waits for the disk (FULL), and makes everything before it durable.
PostgreSQL: as the server is set; a commit is durable unless someone turned synchronous_commit off.
"""

import select
import sqlite3
import time
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, event, exc
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

BUSY_S = 5.0
"""How long a writer waits for another process's transaction."""

POLL_S = 0.001
"""
Between two tries of a writer for its turn. SQLite's own handler soon sleeps for a tenth of a second between two, and
whoever writes without a pause has begun again by then, each time.
"""

CONNECT_S = 5
POOL_SIZE = 16

SCHEMA = "allocator_store"
"""Where the tables are on PostgreSQL, unless said otherwise; the queue has a schema of its own."""

BEGIN_WRITING = "BEGIN IMMEDIATE"

READ = {"allocator_begin": "BEGIN", "allocator_synchronous": None}
# Taken at once: a transaction that reads first and then writes could find that another one wrote in between, and fail.
WRITE = {"allocator_begin": BEGIN_WRITING, "allocator_synchronous": "NORMAL"}
WRITE_DURABLY = {"allocator_begin": BEGIN_WRITING, "allocator_synchronous": "FULL"}


def sqlite_engine(path: Path) -> Engine:
    """An engine on a file, which is made if it is missing."""
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": BUSY_S, "check_same_thread": False},
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_timeout=BUSY_S,
        # Payloads are nobody's business in an error's text.
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def _set(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
        # The driver's own idea of when to begin leaves reads and DDL outside; `_begin` below says it instead.
        connection.isolation_level = None
        # Of a file that somebody else is making, SQLite says at once that it is busy, and does not wait.
        _when_free(connection, "PRAGMA journal_mode = WAL")
        # In pages of 4 KiB. Each checkpoint waits for the disk; at the default of 1,000 that was every tenth batch.
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        connection.execute("PRAGMA cache_size = -16384")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        pooled = connection.connection
        raw = pooled.driver_connection
        assert raw is not None
        if options.get("allocator_synchronous"):
            _set_once(pooled, "synchronous", options["allocator_synchronous"])
        if options.get("allocator_begin") == BEGIN_WRITING:
            _set_once(pooled, "busy_timeout", "0")
            _when_free(raw, BEGIN_WRITING)
        else:
            wait_for_writers(pooled)
            raw.execute("BEGIN")

    return engine


def wait_for_writers(pooled: PoolProxiedConnection) -> None:
    """Have SQLite itself wait for others, for BUSY_S at most."""
    _set_once(pooled, "busy_timeout", f"{BUSY_S * 1000:.0f}")


def _set_once(pooled: PoolProxiedConnection, pragma: str, value: str) -> None:
    """Set it, unless it is so: that takes as long as a small statement does."""
    if pooled.info.get(pragma) != value:
        assert pooled.driver_connection is not None
        pooled.driver_connection.execute(f"PRAGMA {pragma} = {value}")
        pooled.info[pragma] = value


def _when_free(connection: sqlite3.Connection, statement: str) -> None:
    """Try it until the file is not busy, for BUSY_S at most."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute(statement)
            return
        except sqlite3.OperationalError as error:
            # The low byte; the rest says more precisely what kind of busy.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
        time.sleep(POLL_S)


# As for the queue's connections: every statement goes by keys, and plans must not depend on what autovacuum happened to
# see in a table that is empty at one moment and full at the next.
_SETTINGS = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    # Started for the last part of a long listing, at twice its cost.
    "max_parallel_workers_per_gather": "0",
    "lock_timeout": "5s",
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": "10s",
    "client_min_messages": "warning",
}


def postgres_engine(url: URL, schema: str) -> Engine:
    """An engine on a database, whose connections look into `schema` and nowhere else."""
    engine = create_engine(
        url,
        connect_args={
            "connect_timeout": CONNECT_S,
            "application_name": "allocator store",
            "keepalives_idle": 15,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
            "prepare_threshold": 1,
        },
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_timeout=10,
        hide_parameters=True,
    )
    values: dict[str, Any] = {**_SETTINGS, "search_path": f'"{schema}"'}
    prepare = "SELECT " + ", ".join("set_config(%s, %s, false)" for _ in values)
    arguments = [word for pair in values.items() for word in pair]

    @event.listens_for(engine, "connect")
    def _set(connection: psycopg.Connection[Any], _entry: ConnectionPoolEntry) -> None:
        connection.execute(prepare, arguments)
        connection.commit()

    @event.listens_for(engine, "checkout")
    def _look(connection: psycopg.Connection[Any], _entry: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
        # Nothing is due on an idle connection but the server's goodbye. Unlike a ping, to look is free.
        try:
            for _ in range(4):
                if not select.select([connection.fileno()], [], [], 0)[0]:
                    return
                connection.pgconn.consume_input()
        except (OSError, ValueError, psycopg.Error) as error:
            raise exc.DisconnectionError("the server closed this connection while it was idle") from error

    return engine
