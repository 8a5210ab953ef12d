"""The jobs of a chaos run: how they are drawn, and the body that leaves a trace of every run."""

import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from allocator.bench.checker import Enqueue, Run
from allocator.domain.backoff import Backoff
from allocator.domain.job import Job
from allocator.supervisor.processors import Context

TYPE = "chaos"
PROCESSOR = "allocator.bench.chaos.body:run"
TRACE = "ALLOCATOR_CHAOS_TRACE"
"""The variable of the environment that names the file of traces."""

_BACKOFF = Backoff(base=0.1)
_POISON_RETRIES = 2
# High, so that no job but a poisoned one runs out of them by being killed.
_RETRIES = 100


class PlannedFailure(Exception):
    """What a body raises on purpose."""


def draw_jobs(count: int, seed: int, lease_s: float, long_every: int) -> list[Job]:
    """
    The jobs of a run: the same for the same arguments.

    Most take 1 to 60 ms; one in `long_every` takes longer than a lease. One in ten fails in its first one or two
    attempts, and one in a hundred in all of them.
    """
    draw = random.Random(seed)
    jobs = []
    for number in range(count):
        service_s = 1.5 * lease_s if number % long_every == long_every // 2 else draw.uniform(0.001, 0.06)
        fate = draw.random()
        failures = draw.choice((1, 2)) if fate < 0.1 else 0
        poison = fate > 0.99
        jobs.append(
            Job(
                id=f"chaos-{seed}-{number:07}",
                type=TYPE,
                payload={"service_s": service_s, "failures": failures, "poison": poison},
                priority=draw.choice((0, 0, 0, 5)),
                max_retries=_POISON_RETRIES if poison else _RETRIES,
                backoff=_BACKOFF,
            )
        )
    return jobs


def enqueued(job: Job) -> Enqueue:
    """What the checker is to know of a job: it was submitted, if need be again, until that was surely accepted."""
    return Enqueue(
        job.id,
        priority=job.priority,
        max_retries=job.max_retries,
        dies=job.payload["poison"],
        backoff=job.backoff,
    )


def run(context: Context) -> str:
    """Write down that it begins, take its time, write down how it ended. The result is the attempt's token."""
    plan: dict[str, Any] = context.job.payload
    _write("started", context)
    time.sleep(plan["service_s"])
    if plan["poison"] or context.attempt <= plan["failures"]:
        _write("failed", context)
        raise PlannedFailure(f"attempt {context.attempt} fails on purpose")
    _write("finished", context)
    return context.token


_file: list[int] = []
_opening = threading.Lock()


def _write(what: str, context: Context) -> None:
    """One line in one write to a file that is only appended to: whole, whoever else writes, and whoever is killed."""
    with _opening:
        if not _file:
            _file.append(os.open(os.environ[TRACE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
    line = f"{what} {context.job.id} {context.attempt} {context.token} {os.getpid()} {os.getppid()} {time.time():.6f}\n"
    os.write(_file[0], line.encode())


def await_start(trace: Path, process: int | None, within_s: float) -> None:
    """Return when a run begins in this process or a child of it (None: in any), or after so many seconds."""
    deadline = time.monotonic() + within_s
    known = trace.stat().st_size if trace.exists() else 0
    while time.monotonic() < deadline:
        if trace.exists():
            with trace.open() as lines:
                lines.seek(known)
                # The last one may be on its way.
                for line in lines.read().split("\n")[:-1]:
                    what, _, _, _, *processes, _ = line.split()
                    if what == "started" and (process is None or str(process) in processes):
                        return
        time.sleep(0.002)


def read_runs(trace: Path) -> Iterator[Run]:
    """Every run that the bodies wrote down."""
    begun: dict[tuple[str, str], Run] = {}
    for line in trace.read_text().splitlines() if trace.exists() else ():
        what, job, attempt, token, process, parent, instant = line.split()
        key = (token, process)
        if what == "started":
            begun[key] = Run(job, int(attempt), token, int(process), int(parent), float(instant))
        else:
            begun[key].finished_at = float(instant)
            begun[key].failed = what == "failed"
    yield from begun.values()
