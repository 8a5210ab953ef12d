"""Queue, store and archive, opened as the options say."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allocator.cli.failing import fail
from allocator.domain.errors import AllocatorError
from allocator.queue.base import Queue
from allocator.queue.opening import open_queue

if TYPE_CHECKING:
    # Imported where it is used: most commands do without SQLAlchemy.
    from allocator.ingest.processors import Archive
    from allocator.persistence import Store

RECONNECT_S = 1.0
"""For those who look again and again: they rather tell what is wrong than wait until it is over."""


def open_named(url: str, name: str, **options: Any) -> Queue:
    if url.startswith("memory:"):
        fail("a memory:// queue lives inside one process; there is nothing to look at from here")
    try:
        return open_queue(url, name=name, **options)
    except (AllocatorError, ValueError) as error:
        fail(str(error))


def open_record(url: str | None) -> "Store":
    from allocator.persistence import open_store

    try:
        return open_store(url)
    except (AllocatorError, ValueError) as error:
        fail(str(error))


def data_folder(given: Path | None) -> Path:
    """Where files are kept: as given, or as `serve` finds it."""
    from allocator.api.settings import default_data

    return default_data() if given is None else given


@contextmanager
def open_archive(data: Path | None, store_url: str | None) -> "Iterator[Archive]":
    """An archive that is there already: a folder or database that was mistyped is not made, nor recorded there."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    from allocator.ingest.processors import Archive
    from allocator.persistence import default_url

    folder = data_folder(data)
    if not (folder / "objects").is_dir():
        fail(f"there is no archive in {folder}; name the one of the server with --data")
    try:
        url = make_url(store_url or default_url())
        if url.drivername.startswith("sqlite") and not Path(url.database or "").is_file():
            fail(f"there is no database {url.database}; name the one of the server with --store")
        archive = Archive.open(folder, store_url, to_look=True)
    except (AllocatorError, ValueError, ArgumentError) as error:
        fail(str(error))
    try:
        yield archive
    finally:
        archive.close()
