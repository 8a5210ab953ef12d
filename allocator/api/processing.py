"""What worker processes run, as the supervisor wants it: an unreadable file is given up, not tried again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from allocator.ingest import Unreadable, processors
from allocator.supervisor import Context, GiveUp

PROCESSORS = {kind: f"allocator.api.processing:{kind}" for kind in ("media", "json", "other")}
"""Job type -> function, named as worker processes find it."""


def media(context: Context) -> dict[str, Any]:
    """See `processors.media`."""
    with _given_up():
        return processors.media(context)


def json(context: Context) -> dict[str, Any]:
    """See `processors.json`."""
    with _given_up():
        return processors.json(context)


def other(context: Context) -> dict[str, Any]:
    """See `processors.other`."""
    with _given_up():
        return processors.other(context)


@contextmanager
def _given_up() -> Iterator[None]:
    try:
        yield
    except Unreadable as error:
        raise GiveUp(error.reason) from error
