"""Queue and store, opened as the options say."""

from typing import TYPE_CHECKING, Any

from allocator.cli.failing import fail
from allocator.domain.errors import AllocatorError
from allocator.queue.base import Queue
from allocator.queue.opening import open_queue

if TYPE_CHECKING:
    # Imported where it is used: most commands do without SQLAlchemy.
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
