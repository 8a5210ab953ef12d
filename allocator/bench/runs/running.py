"""One execution of a workload, from the plan to the folder that is kept of it."""

import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from allocator.bench.arrivals import Closed
from allocator.bench.checker import Stop
from allocator.bench.fingerprint import fingerprint, load_average
from allocator.bench.generator import Generator
from allocator.bench.plan import Plan, plan
from allocator.bench.recorder import RecordingFailed
from allocator.bench.records import has_failed, read_records
from allocator.bench.runs.backends import Backend, open_backend
from allocator.bench.runs.injecting import Injector, refuse_impossible
from allocator.bench.runs.rows import open_ends, rows, told_by_queue
from allocator.bench.runs.run import WORKLOAD, About, Run
from allocator.bench.runs.sampling import Sampler
from allocator.bench.runs.sending import FACTORY
from allocator.bench.runs.worker import Orders
from allocator.bench.runs.workers import InProcess, Programs, Workers
from allocator.bench.scratch import scratch_name
from allocator.bench.serverclock import Offset, ServerClock, find_offset
from allocator.bench.workload import Workload
from allocator.domain.errors import AllocatorError
from allocator.queue.base import Queue, erase
from allocator.queue.opening import open_queue

LEASE_S = 5.0
LOOK_S = 0.05
ASK_AT_ONCE = 1000


@dataclass(frozen=True)
class Progress:
    """
    How far a run is.

    Args:
        phase: preparing, sending, draining or judging.
        sent, done, total: Jobs.
        backlog: Ready and scheduled, as last seen; None before.
        late_s: The greatest lateness of the generator so far.
        elapsed_s: Of the schedule.
    """

    phase: str
    sent: int = 0
    done: int = 0
    total: int = 0
    backlog: int | None = None
    late_s: float = 0.0
    elapsed_s: float = 0.0


Say = Callable[[Progress], None]


def run(
    workload: Workload,
    backend: str = "memory",
    *,
    folder: Path | None = None,
    lease_s: float = LEASE_S,
    say: Say = lambda progress: None,
) -> Run:
    """
    Make a run of the workload, and judge it.

    Ctrl-C ends it in order and keeps what was measured: the run then says that it was interrupted.

    Args:
        backend: `memory`; `redis` or `postgres` for a server of its own; or the URL of one that is there.
        folder: Where runs are kept, each in a folder named by its id; None: `reports/runs` where this process is.
        say: Told how far it is, about twenty times a second.
    Raises:
        InvalidWorkload: It cannot finish, or a fault of it cannot be made here; names the field. Nothing was started.
        ServiceUnavailable: The server cannot be had.
        RecordingFailed: The disk is full: what was measured is not whole.
    """
    say(Progress("preparing"))
    planned = plan(workload)
    with ExitStack() as stack:
        place = stack.enter_context(open_backend(backend, workload))
        refuse_impossible(workload, place)
        id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{workload.name}-{place.kind}-{secrets.token_hex(2)}"
        own = (folder or Path("reports") / "runs") / id
        own.mkdir(parents=True)
        return _run(id, own.resolve(), planned, place, lease_s, say)


def _run(id: str, folder: Path, planned: Plan, place: Backend, lease_s: float, say: Say) -> Run:
    workload = planned.workload
    before = load_average()
    started_at = time.time()
    prefix = f"r{secrets.token_hex(3)}-"
    (folder / WORKLOAD).write_text(workload.to_yaml(), "utf-8")
    planned.write(folder / "plan.parquet")
    records = folder / "records"
    records.mkdir()
    name = scratch_name("run")
    total = len(planned.jobs)
    with ExitStack() as stack:
        start = _offset(place)
        queue = stack.enter_context(_erased(open_queue(place.url, name=name, lease_s=lease_s)))
        threads = workload.workers.kind == "threads"
        orders = Orders(
            url=place.url,
            name=name,
            folder=str(records),
            types=sorted(workload.types),
            workers=workload.workers.count if threads else 0,
            processes=0 if threads else workload.workers.count,
            lease_s=lease_s,
            ready="",
        )
        arrival = workload.arrival
        generator = stack.enter_context(
            Generator(
                records,
                place.url,
                name,
                planned.jobs["intended_at"].to_numpy(np.float64),
                FACTORY,
                {"plan": str(folder / "plan.parquet"), "workload": str(folder / WORKLOAD)},
                prefix=prefix,
                producers=workload.producers,
                clients=arrival.clients if isinstance(arrival, Closed) else 0,
            )
        )
        workers: Workers
        count = workload.workers.supervisors
        workers = InProcess(orders, queue, count) if place.kind == "memory" else Programs(orders, count)
        stack.callback(workers.stop)
        workers.start()
        generator.prepare()
        origin_ns = generator.begin()
        sampler = Sampler(queue, origin_ns)
        injector = Injector(workload, place, workers, generator.processes, origin_ns)
        stack.callback(injector.stop)
        sampler.start()
        injector.start()

        def progress(phase: str) -> Progress:
            load, seen = generator.load(), sampler.latest
            return Progress(
                phase,
                load.started,
                seen.get("done", 0) + seen.get("dead", 0) + seen.get("cancelled", 0),
                total,
                seen["ready"] + seen["scheduled"] if seen else None,
                load.latest_s,
                max(0.0, (time.monotonic_ns() - origin_ns) / 1e9),
            )

        problem: str | None = None
        drained = False
        with _interruptible() as interrupted:
            try:
                while not generator.wait(LOOK_S):
                    say(progress("sending"))
                    _check(workers, records)
                    if interrupted.is_set():
                        break
                deadline = time.monotonic() + workload.drain_s
                while not interrupted.is_set() and not drained and time.monotonic() < deadline:
                    say(progress("draining"))
                    _check(workers, records)
                    drained = not injector.is_alive() and _is_empty(queue)
                    time.sleep(0 if drained else LOOK_S)
            except (AllocatorError, RecordingFailed) as error:
                if isinstance(error, RecordingFailed):
                    raise
                problem = str(error)
            generator.stop()
            injector.stop()
            say(progress("judging"))
            backlog = sampler.stop()
            stop_began = (time.monotonic_ns() - origin_ns) / 1e9
            hit = [pid for n in range(count) for pid in workers.processes(n)] if isinstance(workers, Programs) else []
            orderly = workers.stop()
            ended_s = (time.monotonic_ns() - origin_ns) / 1e9
        if injector.error is not None:
            problem = f"a fault could not be made: {injector.error}"
        end = _offset(place)
        recorded = read_records(records)
        clock = ServerClock(start, end)
        found = rows(planned, recorded, origin_ns, clock, prefix)
        found = told_by_queue(found, _ask(queue, open_ends(found.jobs)))
        about = About(
            id=id,
            name=workload.name,
            backend=place.kind,
            durability=place.durability,
            server="" if place.server is None else place.server.describe(),
            started_at=started_at,
            took_s=ended_s,
            slots=workload.workers.slots,
            lease_s=lease_s,
            workload_hash=workload.hash,
            plan_hash=planned.hash,
            interrupted=interrupted.is_set(),
            drained=drained,
            orderly=orderly,
            problem=problem,
            generator_cpu_share=generator.load().cpu_s / ended_s,
            torn=recorded.torn,
            boot_id=recorded.boot_id,
            offset_start_s=None if place.kind == "memory" else start.offset_s,
            offset_end_s=None if place.kind == "memory" else end.offset_s,
            clock_error_s=start.error_s + end.error_s,
            faults=injector.made,
            stops=[Stop(stop_began, ended_s, frozenset(hit), orderly)],
            fingerprint={**fingerprint(), "load before": before, "load after": load_average()},
        )
    return Run.keep(folder, about, found.jobs, found.attempts.drop(columns="number"), backlog)


def _offset(place: Backend) -> Offset:
    """The offset of the queue's clock: in process it is this machine's own, and found the same way."""
    return find_offset("memory://clock" if place.kind == "memory" else place.url)


def _check(workers: Workers, records: Path) -> None:
    workers.check()
    if (failed := has_failed(records)) is not None:
        raise RecordingFailed(f"{failed}: not everything could be recorded; the run has ended. Make room, run it again")


def _is_empty(queue: Queue) -> bool:
    try:
        counts = queue.counts()
    except AllocatorError:
        return False
    return counts["ready"] + counts["scheduled"] + counts["leased"] == 0


def _ask(queue: Queue, ids: list[str]) -> dict[str, str]:
    states: dict[str, str] = {}
    for start in range(0, len(ids), ASK_AT_ONCE):
        states.update({id: str(state) for id, state in queue.find(ids[start : start + ASK_AT_ONCE]).items()})
    return states


@contextmanager
def _erased(queue: Queue) -> Iterator[Queue]:
    try:
        yield queue
    finally:
        queue.close()
        with suppress(AllocatorError):
            erase(queue)


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, on the main thread; elsewhere nothing does."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
