"""A worker of a session, as a person sees it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from allocator.lab import tallies
from allocator.lab.crew import Program


@dataclass(frozen=True)
class WorkerRow:
    """
    A worker as it is now.

    Args:
        state: starting, waiting, working, paused or leaving.
        job: What it is at; None: nothing.
        since_s: How long it has been at it.
        done: Jobs that it has done, its predecessors' included.
        restarts: How often it was replaced.
    """

    number: int
    pid: int | None
    state: str
    job: int | None
    since_s: float | None
    done: int
    restarts: int


def worker_row(number: int, worker: Program, counted: Mapping[int, list[int]]) -> WorkerRow:
    """
    The row of a worker.

    Args:
        counted: Process -> its tally.
    """
    tally = counted.get(worker.pid or 0)
    job = tally[tallies.JOB] - 1 if tally and tally[tallies.JOB] else None
    since_s = None if tally is None or job is None else (time.monotonic_ns() - tally[tallies.STARTED_NS]) / 1e9
    if worker.leaving:
        state = "leaving"
    elif worker.paused:
        state = "paused"
    elif tally is None:
        state = "starting"
    else:
        state = "waiting" if job is None else "working"
    done = sum(counted[pid][tallies.DONE] for pid in worker.pids if pid in counted)
    return WorkerRow(number, worker.pid, state, job, since_s, done, worker.restarts)
