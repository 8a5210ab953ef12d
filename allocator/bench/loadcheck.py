"""
`python -m allocator.bench.loadcheck`: what the bench's own instruments cost, and how punctual they are.

A figure of the load generator or of the recorder is one of this machine at this moment: on a busy one they miss their
targets, and so would a run there.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from allocator.bench.body import PROCESSOR, payload
from allocator.bench.fingerprint import fingerprint, load_average
from allocator.bench.frames import enqueues_frame
from allocator.bench.generator import Generator
from allocator.bench.observer import Observer
from allocator.bench.recorder import Event, Recorder, record_to
from allocator.bench.records import read_records
from allocator.bench.result import Row, Run
from allocator.bench.running import BACKENDS, open_servers, print_table
from allocator.bench.scratch import scratch_name
from allocator.domain.job import Job
from allocator.queue.base import Queue, erase
from allocator.queue.opening import open_queue
from allocator.supervisor import Supervisor

PREFIX = "load-"
DRAIN_S = 300.0
FACTORY = "allocator.bench.loadcheck:empty_job"


def empty_job(options: dict[str, Any]) -> Any:
    """The factory of the jobs that are sent."""
    job_payload = payload(0.0)
    return lambda number: Job(type="bench", payload=job_payload)


def record_cost_s(records: int, folder: Path) -> float:
    """Seconds for one record, as a body writes down its start; growth of the file included."""
    recorder = Recorder(folder)
    token = "01a2131b-e1be-701f-adb7-f2451f40b000-123456"
    event, record, worker = int(Event.STARTED), recorder.record, recorder.worker()
    start = time.perf_counter()
    for number in range(records):
        record(event, number, 1, token, 0, 1.5, 2.5, math.nan, worker)
    took_s = time.perf_counter() - start
    recorder.close()
    return took_s / records


@dataclass(frozen=True)
class Drain:
    """Jobs a second of a supervisor in process, and seconds of a core for each of them."""

    rate: float
    cpu_s: float


def drain(jobs: int, service_s: float, folder: Path | None) -> Drain:
    """Empty a queue in process, with records in a folder or without any."""
    with queue_named("memory://loadcheck") as queue, record_to(folder) as recorder:
        plan = payload(service_s)
        queue.enqueue_many([Job(id=f"{PREFIX}{number}", type="bench", payload=plan) for number in range(jobs)])
        events = [] if recorder is None else [Observer(recorder)]
        start, cpu = time.perf_counter(), time.process_time()
        with Supervisor(queue, {"bench": PROCESSOR}, events=events) as supervisor:
            if not supervisor.drain(DRAIN_S):
                raise RuntimeError(f"not empty after {DRAIN_S:g} s: {supervisor.stats()}")
            return Drain(jobs / (time.perf_counter() - start), (time.process_time() - cpu) / jobs)


def punctuality(
    url: str, rate: float, seconds: float, together: int, folder: Path
) -> tuple[npt.NDArray[np.float64], float]:
    """Seconds by which each job of one producer was late, at a constant rate; and the share of a core that it took."""
    schedule_s = np.arange(int(rate * seconds)) / rate
    with (
        queue_named(url) as queue,
        Generator(folder, url, queue.name, schedule_s, FACTORY, prefix=PREFIX, together=together) as generator,
    ):
        generator.prepare()
        origin_ns = generator.begin()
        generator.wait()
        load = generator.load()
    frame = enqueues_frame(read_records(folder), origin_ns, schedule_s)
    if load.accepted != len(schedule_s):
        raise RuntimeError(f"{load.accepted} of {len(schedule_s)} jobs were accepted: {load}")
    return (frame["enqueue_started_at"] - frame["intended_at"]).to_numpy(np.float64), load.cpu_s / seconds


@contextmanager
def queue_named(url: str) -> Iterator[Queue]:
    """A queue that others can open by URL and name, erased at the end."""
    with open_queue(url, name=scratch_name("load")) as queue:
        try:
            yield queue
        finally:
            erase(queue)


def measure(urls: dict[str, str], rounds: int, scale: float, folder: Path) -> list[Row]:
    """
    Every figure, in rounds, the arms with and without records in turns.

    Args:
        urls: Backend -> URL.
        scale: Of the counts; below 1 is for a look.
    """
    numbers = iter(range(1_000_000))

    def new_folder() -> Path:
        path = folder / str(next(numbers))
        path.mkdir()
        return path

    costs = [record_cost_s(int(200_000 * scale), new_folder()) for _ in range(rounds)]
    rows = [_row("recorder", "one record", _spread(costs, 1e9, "ns"), "under 1 us", median(costs) < 1e-6, rounds)]
    rows.append(_reading(int(1_000_000 * scale), new_folder()))
    for text, jobs, service_s, target in DRAINS:
        arms: dict[bool, list[Drain]] = {True: [], False: []}
        for number in range(2 * rounds):
            # ABBA: what changes slowly falls on both arms alike.
            recorded = number % 4 in (1, 2)
            arms[recorded].append(drain(int(jobs * scale), service_s, new_folder() if recorded else None))
        rows.append(_cost(text, arms[True], arms[False], target))
    for backend, url in urls.items():
        for rate, together, within_s in PUNCTUALITY:
            how = f" in lists up to {together}" if together > 1 else ""
            p99s, shares = [], []
            for _ in range(rounds):
                late_s, share = punctuality(url, rate, 5.0 * scale, together, new_folder())
                p99s.append(float(np.quantile(late_s, 0.99)))
                shares.append(share)
            row = _row(
                backend,
                f"{rate:,} arrivals/s{how}, p99 lateness",
                _spread(p99s, 1e3, "ms"),
                f"under {within_s * 1e3:g} ms",
                median(p99s) < within_s,
                rounds,
            )
            row.beside = f"{median(shares):.0%} of a core"
            rows.append(row)
    return rows


DRAINS = (
    ("jobs of 1 ms, with records", 4_000, 0.001, 0.03),
    ("jobs that do nothing, with records", 20_000, 0.0, 0.03),
)
"""
A figure, its jobs, how long each takes, and the share of the rate that records may cost.

A job that does nothing takes some 10 us of a core; 3 % of that is the time to read the clock four times. So three
records of it, each written when it happens so that a kill leaves them, cannot keep within that.
"""

PUNCTUALITY = ((500, 1, 0.0002), (5_000, 1, 0.002), (5_000, 64, 0.002))
"""
Arrivals a second, most jobs in one call, and the lateness to keep under.

One by one a producer waits for each reply, so a server that stalls makes all jobs late that are due meanwhile and for a
while after; in lists it has caught up with the next call.
"""


def _reading(records: int, folder: Path) -> Row:
    record_cost_s(records, folder)
    start = time.perf_counter()
    found = len(read_records(folder).frame())
    took_s = time.perf_counter() - start
    if found != records:
        raise RuntimeError(f"{found} of {records} records were read back")
    return _row("recorder", f"read back {records:,} records", f"{took_s:.2f} s", "", None, 1)


def _cost(text: str, recorded: Sequence[Drain], bare: Sequence[Drain], target: float) -> Row:
    lost = [1 - with_it.rate / without.rate for with_it, without in zip(recorded, bare, strict=True)]
    cpu_s = [with_it.cpu_s - without.cpu_s for with_it, without in zip(recorded, bare, strict=True)]
    row = _row(
        "in process",
        text,
        f"{median(one.rate for one in recorded):,.0f}/s",
        f"loses under {target:.0%}",
        median(lost) < target,
        len(lost),
    )
    row.beside = f"without: {median(one.rate for one in bare):,.0f}/s; {median(cpu_s) * 1e6:.1f} us of a core a job"
    row.ratio = f"{-median(lost):+.1%} ({-max(lost):+.1%} to {-min(lost):+.1%})"
    return row


def _row(backend: str, operation: str, value: str, target: str, reached: bool | None, rounds: int) -> Row:
    return Row(backend, operation, value, "", "", target, reached, rounds, load_average())


def _spread(values: Sequence[float], scale: float, unit: str) -> str:
    low, middle, high = (value * scale for value in (min(values), median(values), max(values)))
    return f"{middle:.3g} {unit} ({low:.3g} to {high:.3g})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 measured, 1 a target was missed and --strict was given."""
    parser = argparse.ArgumentParser(
        prog="python -m allocator.bench.loadcheck",
        description="Measure the recorder and the load generator of the bench on this machine.",
    )
    parser.add_argument("--only", action="append", choices=sorted(BACKENDS), help="may be repeated")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each figure (5)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the counts: for a look, not for a claim")
    parser.add_argument("--json", action="store_true", help="for scripts: JSON on standard output")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a target was missed")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    console = Console(stderr=options.json)
    run = Run("", "", options.rounds, options.quick, fingerprint())
    with ExitStack() as stack:
        urls = open_servers(stack, options.only or ["memory", "redis"], run, console)
        if "in process" in urls:
            urls["in process"] = "memory://loadcheck"
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="allocator-loadcheck-")))
        rows = measure(urls, options.rounds, 0.1 if options.quick else 1.0, folder)
    columns: list[tuple[str, Callable[[Row], str]]] = [
        ("part", lambda row: row.backend),
        ("figure", lambda row: row.operation),
        ("measured", lambda row: row.value),
        ("beside it", lambda row: row.beside),
        ("ratio", lambda row: row.ratio),
        ("target", lambda row: row.target),
        ("load", lambda row: row.load),
    ]
    if options.json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        print_table("the bench's own instruments", columns, rows, ("reached", "missed"), run, console)
    return int(options.strict and any(row.reached is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
