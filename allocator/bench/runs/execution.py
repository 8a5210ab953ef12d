"""A run under way: its parts are started, watched, stopped and read, and what they left is kept."""

import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np

from allocator.bench.arrivals import Closed
from allocator.bench.checker import Stop
from allocator.bench.fingerprint import fingerprint, load_average
from allocator.bench.generator import Generator
from allocator.bench.live import Waits
from allocator.bench.plan import Plan
from allocator.bench.recorder import RecordingFailed
from allocator.bench.records import Records, has_failed, read_records
from allocator.bench.runs.backends import Backend
from allocator.bench.runs.injecting import Injector
from allocator.bench.runs.rows import Rows, open_ends, rows, told_by_queue
from allocator.bench.runs.run import WORKLOAD, About, Run
from allocator.bench.runs.sampling import Sampler
from allocator.bench.runs.stored import Stored, read_store, told_by_store
from allocator.bench.runs.workers import InProcess, Programs, Workers
from allocator.bench.scratch import scratch_name
from allocator.bench.sending import FACTORY, options
from allocator.bench.serverclock import Offset, ServerClock, find_offset
from allocator.bench.storing import StorePlace, opened_store
from allocator.bench.worker import Orders
from allocator.domain.errors import AllocatorError
from allocator.persistence import Store, StoreUnavailable
from allocator.persistence.states import UNFINISHED
from allocator.queue.base import Queue, erase
from allocator.queue.opening import open_queue

LOOK_S = 0.05
ASK_AT_ONCE = 1000
PLAN = "plan.parquet"


@dataclass(frozen=True)
class Progress:
    """
    How far a run is.

    Args:
        phase: preparing, sending, draining or judging.
        sent, done, total: Jobs.
        backlog: Ready and scheduled, as last seen; None before.
        wait_p99_s: Of the jobs done in the last 5 s, to within 9 %; None where they are few.
        late_s: The greatest lateness of the generator so far.
        elapsed_s: Of the schedule.
    """

    phase: str
    sent: int = 0
    done: int = 0
    total: int = 0
    backlog: int | None = None
    wait_p99_s: float | None = None
    late_s: float = 0.0
    elapsed_s: float = 0.0


Say = Callable[[Progress], None]


class Execution:
    """
    A run under way.

    Args:
        folder: Of this run alone, with a folder `records` in it.
    """

    def __init__(self, id: str, folder: Path, planned: Plan, place: Backend, lease_s: float, say: Say) -> None:
        self._id = id
        self._folder = folder
        self._records = folder / "records"
        self._plan = planned
        self._place = place
        self._lease_s = lease_s
        self._say = say
        self._name = scratch_name("run")
        self._prefix = f"r{secrets.token_hex(3)}-"
        self._waits = Waits(self._records)
        self._store: Store | None = None
        self._problem: str | None = None
        self._drained = False

    def make(self, store_kind: str, store: StorePlace | None) -> Run:
        """Make it, and keep it; see `run`."""
        workload, place = self._plan.workload, self._place
        load_before, started_at = load_average(), time.time()
        (self._folder / WORKLOAD).write_text(workload.to_yaml(), "utf-8")
        self._plan.write(self._folder / PLAN)
        with ExitStack() as stack:
            start = _offset(place)
            self._store = opened_store(store, stack)
            queue = stack.enter_context(_erased(open_queue(place.url, name=self._name, lease_s=self._lease_s)))
            generator = stack.enter_context(self._generator(store))
            workers = self._workers(queue, store)
            stack.callback(workers.stop)
            workers.start()
            generator.prepare()
            workers.wait()
            with _interruptible() as interrupted:
                origin_ns = generator.begin()
                sampler = Sampler(queue, origin_ns)
                injector = Injector(workload, place, workers, generator.processes, origin_ns)
                stack.callback(injector.stop)
                sampler.start()
                stack.callback(sampler.stop)
                injector.start()
                self._watch(generator, workers, sampler, injector, interrupted)
                generator.stop()
                injector.stop()
                self._tell("judging", generator, sampler)
                backlog = sampler.stop()
                stop = self._stop(workers, origin_ns)
            if injector.error is not None:
                self._problem = f"a fault could not be made: {injector.error}"
            if sampler.error is not None:
                self._problem = self._problem or f"the backlog could not be asked for any more: {sampler.error!r}"
            recorded = read_records(self._records)
            found, stored, clock = self._rows(recorded, origin_ns, start, queue)
            about = About(
                id=self._id,
                name=workload.name,
                backend=place.kind,
                store=store_kind,
                durability=place.durability,
                server="" if place.server is None else place.server.describe(),
                started_at=started_at,
                took_s=stop.ended_at,
                slots=workload.workers.slots,
                lease_s=self._lease_s,
                workload_hash=workload.hash,
                plan_hash=self._plan.hash,
                interrupted=interrupted.is_set(),
                drained=self._drained,
                orderly=stop.orderly,
                problem=self._problem,
                generator_cpu_share=generator.load().cpu_s / stop.ended_at,
                torn=recorded.torn,
                boot_id=recorded.boot_id,
                offset_start_s=None if place.kind == "memory" else clock.start.offset_s,
                offset_end_s=None if place.kind == "memory" else clock.end.offset_s,
                clock_error_s=clock.start.error_s + clock.end.error_s,
                faults=injector.made,
                stops=[stop],
                fingerprint={**fingerprint(), "load before": load_before, "load after": load_average()},
            )
        frames = {"jobs": found.jobs, "attempts": found.attempts.drop(columns="number"), "backlog": backlog}
        if stored is not None:
            frames["stored"] = stored.attempts
        del found, stored
        made = Run.keep(self._folder, about, frames)
        _tidy(self._records)
        return made

    def _generator(self, store: StorePlace | None) -> Generator:
        workload = self._plan.workload
        arrival = workload.arrival
        return Generator(
            self._records,
            self._place.clients_url,
            self._name,
            self._plan.jobs["intended_at"].to_numpy(np.float64),
            FACTORY,
            options(workload, self._folder / PLAN),
            prefix=self._prefix,
            producers=workload.producers,
            together=workload.together,
            clients=arrival.clients if isinstance(arrival, Closed) else 0,
            store=store,
        )

    def _workers(self, queue: Queue, store: StorePlace | None) -> Workers:
        wanted = self._plan.workload.workers
        threads = wanted.kind == "threads"
        orders = Orders(
            url=self._place.clients_url,
            name=self._name,
            folder=str(self._records),
            types=sorted(self._plan.workload.types),
            workers=wanted.count if threads else 0,
            processes=0 if threads else wanted.count,
            lease_s=self._lease_s,
            store=store,
        )
        if self._place.kind == "memory":
            return InProcess(orders, queue, wanted.supervisors)
        return Programs(orders, wanted.supervisors)

    def _watch(
        self,
        generator: Generator,
        workers: Workers,
        sampler: Sampler,
        injector: Injector,
        interrupted: threading.Event,
    ) -> None:
        """Until everything was sent and has ended, or it may not take longer, or something goes wrong."""
        try:
            while not generator.wait(LOOK_S):
                self._tell("sending", generator, sampler)
                self._check(workers)
                if interrupted.is_set():
                    return
            deadline = time.monotonic() + self._plan.workload.drain_s
            while not self._drained and time.monotonic() < deadline and not interrupted.is_set():
                self._tell("draining", generator, sampler)
                self._check(workers)
                # The store last: the reconciler may have put something back meanwhile, but then it has not ended.
                is_empty = not injector.is_alive() and sampler.is_empty_since(time.monotonic_ns())
                self._drained = is_empty and self._has_ended_in_store()
        except RecordingFailed:
            raise
        except AllocatorError as error:
            self._problem = str(error)

    def _has_ended_in_store(self) -> bool:
        if self._store is None:
            return True
        try:
            counts = self._store.counts()
        except StoreUnavailable:
            return False
        return not sum(counts[state] for state in UNFINISHED)

    def _tell(self, phase: str, generator: Generator, sampler: Sampler) -> None:
        load, seen = generator.load(), sampler.latest
        self._say(
            Progress(
                phase,
                load.started,
                seen.get("done", 0) + seen.get("dead", 0) + seen.get("cancelled", 0),
                len(self._plan.jobs),
                seen["ready"] + seen["scheduled"] if seen else None,
                self._waits.p99_s(),
                load.latest_s,
                max(0.0, (time.monotonic_ns() - sampler.origin_ns) / 1e9),
            )
        )

    def _check(self, workers: Workers) -> None:
        workers.check()
        if (failed := has_failed(self._records)) is not None:
            raise RecordingFailed(
                f"{failed}: not everything could be recorded, most likely because the disk is full; the run has ended. "
                "Make room, and run it again"
            )

    def _stop(self, workers: Workers, origin_ns: int) -> Stop:
        began_at, processes = (time.monotonic_ns() - origin_ns) / 1e9, workers.all_processes()
        orderly = workers.stop()
        return Stop(began_at, (time.monotonic_ns() - origin_ns) / 1e9, processes, orderly)

    def _rows(
        self, recorded: Records, origin_ns: int, start: Offset, queue: Queue
    ) -> tuple[Rows, Stored | None, ServerClock]:
        """The rows, by the records and by what queue and store say of it."""
        clock = ServerClock(start, start)
        try:
            clock = ServerClock(start, _offset(self._place))
            found = rows(self._plan, recorded, origin_ns, clock, self._prefix)
            found = told_by_queue(found, _ask(queue, open_ends(found.jobs)))
            if self._store is None:
                return found, None, clock
            stored = read_store(self._store, clock, origin_ns)
            return told_by_store(found, stored), stored, clock
        except ConnectionError as error:
            # What was measured until then is kept all the same.
            self._problem = self._problem or f"at the end nothing could be asked: {error}"
            return rows(self._plan, recorded, origin_ns, clock, self._prefix), None, clock


def _offset(place: Backend) -> Offset:
    """The offset of the queue's clock: in process it is this machine's own, and found the same way."""
    return find_offset("memory://clock" if place.kind == "memory" else place.url)


def _ask(queue: Queue, ids: list[str]) -> dict[str, str]:
    states: dict[str, str] = {}
    for start in range(0, len(ids), ASK_AT_ONCE):
        states.update({id: str(state) for id, state in queue.find(ids[start : start + ASK_AT_ONCE]).items()})
    return states


def _tidy(records: Path) -> None:
    """All of the records is in the rows by now; logs stay where there is something in them."""
    for path in records.iterdir():
        if path.suffix != ".log" or not path.stat().st_size:
            path.unlink()
    with suppress(OSError):
        records.rmdir()


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
    """An event that Ctrl-C and SIGTERM set, on the main thread; elsewhere nothing does. A second one does as always."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
