"""What the programs of the lab are told when they start, and what they tell."""

from pathlib import Path

import msgspec

WAITS, SOJOURNS = ".waits", ".sojourns"
"""Suffixes of the files in which workers count how long jobs waited, and how long they took in all."""

TYPES = {"json": 6.0, "media": 3.0, "other": 1.0}
"""Job type -> weight, of what the lab sends."""

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


class RunOrders(msgspec.Struct, frozen=True, kw_only=True):
    """
    Args:
        workload: As YAML.
        backend: As `allocator.bench.runs.run` takes it.
        folder: Where runs are kept.
        parent: The process that started it.
    """

    workload: str
    backend: str
    folder: str
    parent: int


class Told(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    How far it is.

    Args:
        phase: preparing, sending, draining, judging, drawing, over.
        sent, done, total: Jobs.
        run: The run's folder, once it is made.
        verdict: holds, broken, inconclusive.
        failed_gates: Where there are any, the figures decide nothing.
        interrupted: Whether it was stopped before its end.
        notebook: That shows it; empty: there is none.
        problem: What went wrong; empty: nothing.
    """

    phase: str
    sent: int = 0
    done: int = 0
    total: int = 0
    run: str = ""
    verdict: str = ""
    failed_gates: list[str] = []
    interrupted: bool = False
    notebook: str = ""
    problem: str = ""
