"""The same work without any of our code: hash, write, sync, rename, and one INSERT in a database of its own."""

import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path


class BareStore:
    """
    A folder and a table, on the disk that the server's folder is on.

    Each file is synced, and so is the folder it is renamed in, and each INSERT is a transaction that is synced: what
    was stored survives a power cut, as it does with us. Thread-safe.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self._lock = threading.Lock()
        self._database = sqlite3.connect(folder / "bare.db", check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("CREATE TABLE files (sha256 TEXT PRIMARY KEY, name TEXT, size INTEGER) WITHOUT ROWID")
        self._count = 0

    def put(self, name: str, chunks: Iterable[bytes]) -> None:
        """Store one file, durably."""
        with self._lock:
            self._count += 1
            path = self._folder / f"incoming-{self._count}"
        hashed = hashlib.sha256()
        size = 0
        with open(path, "xb", buffering=0) as file:
            for chunk in chunks:
                hashed.update(chunk)
                file.write(chunk)
                size += len(chunk)
            os.fsync(file.fileno())
        sha256 = hashed.hexdigest()
        os.rename(path, self._folder / sha256)
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(descriptor)
        os.close(descriptor)
        with self._lock:
            self._database.execute("INSERT INTO files VALUES (?, ?, ?)", (sha256, name, size))

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()
