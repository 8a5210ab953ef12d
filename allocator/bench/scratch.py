"""Queues of their own for measurements and tests: named uniquely, and erased afterwards, and nothing else is."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from allocator.queue.base import Queue, erase
from allocator.queue.opening import open_queue


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
