"""What the programs of the lab are told when they start."""

from pathlib import Path

import msgspec

WAITS, SOJOURNS = ".waits", ".sojourns"
"""Suffixes of the files in which workers count how long jobs waited, and how long they took in all."""

INTENDED = "intended_ns"
"""In the meta of a job: when it was to arrive, on CLOCK_MONOTONIC."""


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """
    For a worker or the load.

    Args:
        url, name: Of the queue.
        folder: Where it counts.
        parent: The process that started it; without it there is nothing to do.
    """

    url: str
    name: str
    folder: str
    parent: int

    @property
    def path(self) -> Path:
        return Path(self.folder)


def read_orders(text: str) -> Orders:
    """From the command line of a program."""
    return msgspec.json.decode(text, type=Orders)
