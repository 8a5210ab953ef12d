"""Locks on (store, name) between processes, which the end of the owner releases, however it ends."""

import fcntl
import hashlib
import os
import threading
import weakref
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine, exc, text

from allocator.persistence.errors import StoreLocked

_live: "weakref.WeakSet[StoreLock]" = weakref.WeakSet()


def _let_go_in_child() -> None:
    for lock in list(_live):
        lock._let_go_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)


class StoreLock(ABC):
    """A lock that is held until `release`, the end of the process, or the store's `close`. A context manager."""

    def __init__(self, name: str) -> None:
        self.name = name
        _live.add(self)

    @abstractmethod
    def held(self) -> bool:
        """Whether it is still ours: on PostgreSQL it goes when the server ends its connection. Asks the server."""

    @abstractmethod
    def release(self) -> None:
        """Let go of it. Idempotent."""

    @abstractmethod
    def _let_go_in_child(self) -> None:
        """Drop a forked child's share, which would outlive the owner; the owner keeps the lock."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class FileLock(StoreLock):
    """
    `flock` on a file beside the database.

    Raises:
        StoreLocked: Someone else holds it.
        OSError: The file cannot be made.
    """

    def __init__(self, database: Path, name: str, where: str) -> None:
        self._fd: int | None = None
        super().__init__(name)
        # Names of queues may hold anything; those of files may not.
        path = database.with_name(f"{database.name}.{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock")
        # The file stays: removing it could part two owners who each hold a lock on another file of this name.
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(fd, 32, 0).decode(errors="replace").strip()
            os.close(fd)
            raise StoreLocked(name, where, f"process {pid}" if pid else "") from None
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        # On a full disk whoever is refused is not told by whom.
        with suppress(OSError):
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)

    def held(self) -> bool:
        """Until it is released."""
        return self._fd is not None

    def release(self) -> None:
        """Close the file, and with it the lock."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _let_go_in_child(self) -> None:
        self.release()


class ServerLock(StoreLock):
    """
    An advisory lock of PostgreSQL, on a connection of its own.

    Raises:
        StoreLocked: Someone else holds it.
    """

    def __init__(self, engine: Engine, schema: str, name: str, where: str) -> None:
        self._connection: Connection | None = None
        super().__init__(name)
        digest = hashlib.sha256(f"lock {schema} {name}".encode()).digest()
        self._high, self._low = (int.from_bytes(digest[at : at + 4], signed=True) for at in (0, 4))
        self._guard = threading.Lock()
        connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            connection.detach()
            keys = {"high": self._high, "low": self._low}
            if not connection.execute(text("SELECT pg_try_advisory_lock(:high, :low)"), keys).scalar():
                raise StoreLocked(name, where, _owner(connection, keys))
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def held(self) -> bool:
        """Whether the connection that holds it still lives."""
        with self._guard:
            if self._connection is None:
                return False
            try:
                self._connection.execute(text("SELECT 1"))
            except exc.DBAPIError:
                return False
            return True

    def release(self) -> None:
        """Close the connection, and with it the lock."""
        with self._guard:
            connection, self._connection = self._connection, None
        if connection is not None:
            # Said before: the server learns of the end of a connection a moment after whoever wants the lock next.
            with suppress(exc.SQLAlchemyError):
                connection.execute(text("SELECT pg_advisory_unlock_all()"))
            connection.close()

    def _let_go_in_child(self) -> None:
        # The number stays taken, lest the connection object here speaks to a file that was opened later.
        connection, self._connection = self._connection, None
        if connection is not None:
            raw: Any = connection.connection.dbapi_connection
            nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            os.dup2(nowhere, raw.fileno(), inheritable=False)
            os.close(nowhere)


def _owner(connection: Connection, keys: dict[str, int]) -> str:
    row = connection.execute(
        text(
            "SELECT a.pid, a.client_addr::text, a.backend_start::text "
            "FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
            "WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 "
            "AND l.classid::bigint = CAST(:high AS bigint) & 4294967295 "
            "AND l.objid::bigint = CAST(:low AS bigint) & 4294967295"
        ),
        keys,
    ).first()
    return "" if row is None else f"the client at {row[1] or 'its own host'} since {row[2]} (server process {row[0]})"
