"""Queues and stores of their own for measurements and tests: named uniquely, erased afterwards, and nothing else is."""

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from allocator.queue.base import Queue, erase
from allocator.queue.opening import open_queue

if TYPE_CHECKING:
    # Who wants a queue alone starts sooner without.
    from allocator.persistence import Store


def scratch_name(purpose: str) -> str:
    """A queue name that nobody else uses."""
    return f"{purpose}-{os.getpid()}-{secrets.token_hex(4)}"


@contextmanager
def scratch_queue(url: str, purpose: str = "scratch", **options: Any) -> Iterator[Queue]:
    """A queue under a new name, closed and erased at the end."""
    queue = open_queue(url, name=scratch_name(purpose), **options)
    try:
        yield queue
    finally:
        queue.close()
        erase(queue)


@contextmanager
def scratch_store(url: str) -> "Iterator[Store]":
    """
    A store of its own, erased at the end.

    Args:
        url: `sqlite` for a file in a temporary folder; else that of a PostgreSQL, for a schema of its own there.
    """
    from sqlalchemy import text

    from allocator.persistence import open_store

    if url == "sqlite":
        with (
            tempfile.TemporaryDirectory(prefix="allocator-bench-") as folder,
            open_store(f"sqlite:///{folder}/s.db") as store,
        ):
            yield store
        return
    schema = scratch_name("bench").replace("-", "_")
    with open_store(url, schema=schema) as store:
        try:
            yield store
        finally:
            with store.engine.begin() as connection:
                connection.execute(text(f'DROP SCHEMA "{schema}" CASCADE'))
