"""A chaos run from its first job to the verdicts."""

import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import redis
from sqlalchemy import make_url

from allocator.bench.chaos.body import await_start, draw_jobs, enqueued, read_runs
from allocator.bench.chaos.faults import STOPPED_IN_ORDER, Faults, draw_faults
from allocator.bench.chaos.programs import Gone, Program, in_process_program, submit_to, worker_programs
from allocator.bench.chaos.records import read_records
from allocator.bench.checker import Fault, History, Judgement, Letter, Stop, check
from allocator.bench.scratch import scratch_name
from allocator.domain.errors import AllocatorError
from allocator.domain.job import Job
from allocator.persistence import Store, open_store
from allocator.queue.base import Queue
from allocator.queue.opening import open_queue
from allocator.services import Server, open_postgres, open_redis

PAUSE_BETWEEN_S = (0.1, 1.0)
"""Between one fault and the next."""

TRICKLE_PER_S = 40.0
"""Jobs submitted while it is waited for the program that a fault is to hit: enough for it to get some."""

TRICKLED = 4
"""Of them, at a time."""

BURST_S = (0.05, 0.3)
"""Between the first job there, after which the others come together, and the fault; they take half a second."""

FINISH_S = 120.0
"""For what is left to be submitted once the faults are over."""


Say = Callable[[str, int, int], None]
"""Told how far a run is: what, how many, of how many."""


@dataclass(frozen=True)
class Chaos:
    """
    What a run does.

    Args:
        backend: memory, redis or postgres.
        sabotage: A bug to build into the workers; see `allocator.bench.chaos.sabotage`.
        folder: Keeps traces, logs and the database; None is a temporary one.
        drain_s: Once the faults are over, a job ends at least this often, until all have.
        long_every: One job in so many takes longer than a lease.
        await_work_s: Before each fault wait at most so long until a job runs where it is to hit. A program that starts
            up has none, and killing it shows little.
    """

    backend: str
    jobs: int = 20_000
    kills: int = 100
    seed: int = 1
    lease_s: float = 3.0
    sabotage: str | None = None
    folder: Path | None = None
    drain_s: float = 30.0
    long_every: int = 250
    await_work_s: float = 5.0


@dataclass
class Outcome:
    """
    What a run came to.

    Attributes:
        crashed: Programs that ended by themselves, or did not stop in order at the end.
        took_s: From the first job to the last.
    """

    judgement: Judgement
    faults: list[Fault]
    stops: list[Stop]
    crashed: int
    took_s: float
    server: str

    @property
    def holds(self) -> bool:
        return self.judgement.holds and not self.crashed


class System(Protocol):
    """What is put under strain: programs that work, and a way to hand them jobs."""

    @property
    def programs(self) -> Sequence[Program]: ...
    @property
    def store(self) -> Store: ...
    @property
    def server(self) -> Server | None: ...
    def submit(self, jobs: Sequence[Job]) -> bool:
        """Whether they were surely accepted."""
        ...

    def flush(self) -> None:
        """Wipe everything that the server holds."""
        ...

    def left(self, within_s: float) -> int | None:
        """Jobs that still wait or are leased in the queue after this time at most; None: nobody can tell."""
        ...

    def letters(self) -> list[Letter] | None:
        """Dead letters that the queue has; None: nobody can tell."""
        ...


def run(chaos: Chaos, say: Say = lambda what, done, total: None) -> Outcome:
    """
    Make the run, and judge it.

    Args:
        say: Told how far it is: what, how many, of how many.
    """
    with tempfile.TemporaryDirectory(prefix="allocator-chaos-") as temporary:
        folder = chaos.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        with _system(chaos, folder) as system:
            return _run(chaos, folder, system, say)


def _run(chaos: Chaos, folder: Path, system: System, say: Say) -> Outcome:
    jobs = draw_jobs(chaos.jobs, chaos.seed, chaos.lease_s, chaos.long_every)
    draw = random.Random(chaos.seed)
    server = system.server
    kinds = draw_faults(
        chaos.kills, draw, restarts=server is not None, flushes=server is not None and chaos.backend == "redis"
    )
    for program in system.programs:
        program.start()
    began = time.time()
    submitter = Submitter(system.submit, jobs)
    submitter.start()
    burst = random.Random(chaos.seed)

    def at_work(process: int | None) -> None:
        await_start(folder / "trace", process, chaos.await_work_s)
        submitter.hurry(True)
        time.sleep(burst.uniform(*BURST_S))

    faults = Faults(
        system.programs,
        draw,
        chaos.lease_s,
        lambda: _restart(server),
        system.flush,
        at_work,
        holds_queue=server is None,
    )
    try:
        for number, kind in enumerate(kinds, 1):
            # A share of the jobs for each fault and one ahead, so that none of them finds everything idle.
            submitter.allow(len(jobs) * (number + 1) // len(kinds))
            submitter.hurry(False)
            time.sleep(draw.uniform(*PAUSE_BETWEEN_S))
            faults.make(kind)
            say("faults", number, len(kinds))
        faults.end()
        submitter.finish(FINISH_S)
        left = _drain(chaos, system, faults, len(jobs), say)
        letters = system.letters()
        crashed = faults.crashed + sum(program.stop() not in STOPPED_IN_ORDER for program in system.programs)
    finally:
        submitter.abandon()
        for program in system.programs:
            program.kill()
    took_s = time.time() - began
    records, attempts = read_records(system.store, chaos.lease_s)
    judgement = check(
        History(
            [enqueued(job) for job in jobs],
            attempts=attempts,
            runs=list(read_runs(folder / "trace")),
            records=records,
            faults=faults.made,
            letters=letters,
            stops=faults.stops,
            left=left,
            fenced_by_queue=False,
        )
    )
    where = "in process" if server is None else server.describe()
    return Outcome(judgement, faults.made, faults.stops, crashed, took_s, where)


def _restart(server: Server | None) -> None:
    assert server is not None
    server.kill()
    server.start()


def _drain(chaos: Chaos, system: System, faults: Faults, total: int, say: Say) -> int | None:
    """Wait until everything has ended in the store, and in the queue; gives what the queue has left."""
    least = total + 1
    deadline = 0.0
    while True:
        counts = system.store.counts()
        unfinished = total - counts["done"] - counts["dead"]
        if unfinished < least:
            least, deadline = unfinished, time.monotonic() + chaos.drain_s
        say("jobs", total - unfinished, total)
        # Who was starting up when the server was last down has ended since.
        faults.revive()
        if not unfinished or time.monotonic() >= deadline:
            return system.left(chaos.drain_s if not unfinished else 0.0)
        time.sleep(0.2)


class Submitter(threading.Thread):
    """
    Submits jobs, as many as are allowed by now: list after list in a hurry, else they trickle. Again where it is not
    known whether they were accepted.
    """

    def __init__(self, submit: Callable[[Sequence[Job]], bool], jobs: Sequence[Job], batch: int = 50) -> None:
        super().__init__(name="submitter", daemon=True)
        self._submit = submit
        self._jobs = jobs
        self._batch = batch
        self._allowed = 0
        self._hurries = True
        self._changed = threading.Condition()
        self._abandoned = False

    def allow(self, count: int) -> None:
        """Submit up to so many in all."""
        with self._changed:
            self._allowed = max(self._allowed, count)
            self._changed.notify()

    def hurry(self, hurries: bool) -> None:
        """Whether what is allowed is submitted at once."""
        with self._changed:
            self._hurries = hurries
            self._changed.notify()

    def finish(self, within_s: float) -> None:
        """Submit the rest. Raises TimeoutError when that cannot be done."""
        self.allow(len(self._jobs))
        self.hurry(True)
        self.join(within_s)
        if self.is_alive():
            raise TimeoutError(f"the jobs could not be submitted within {within_s:g} s of the last fault")

    def abandon(self) -> None:
        """Submit nothing more."""
        with self._changed:
            self._abandoned = True
            self._changed.notify()

    def run(self) -> None:
        at = 0
        while at < len(self._jobs):
            with self._changed:
                self._changed.wait_for(lambda: self._abandoned or self._allowed > at)  # noqa: B023
                if self._abandoned:
                    return
                end = min(self._allowed, at + (self._batch if self._hurries else TRICKLED))
            if self._submit(self._jobs[at:end]):
                with self._changed:
                    self._changed.wait_for(lambda: self._abandoned or self._hurries, (end - at) / TRICKLE_PER_S)
                at = end
            else:
                time.sleep(0.05)


# The systems


class _Workers:
    """Programs that run `allocator worker` on a queue of a server."""

    def __init__(self, programs: Sequence[Program], store: Store, server: Server, queue: Queue) -> None:
        self.programs = programs
        self.store = store
        self.server: Server = server
        self._queue = queue

    def submit(self, jobs: Sequence[Job]) -> bool:
        try:
            self.store.submit_many(self._queue, jobs)
        except AllocatorError:
            return False
        return True

    def flush(self) -> None:
        assert self.server.owned, "only a server that was started here is wiped"
        with redis.Redis.from_url(self.server.url) as client:
            client.flushall()

    def left(self, within_s: float) -> int:
        deadline = time.monotonic() + within_s
        while True:
            counts = self._queue.counts()
            left = counts["ready"] + counts["scheduled"] + counts["leased"]
            if not left or time.monotonic() >= deadline:
                return left
            time.sleep(0.1)

    def letters(self) -> list[Letter]:
        letters: list[Letter] = []
        page = self._queue.dead_letters()
        while page:
            letters += (Letter(letter.job.id, letter.error, letter.attempt_count) for letter in page)
            page = self._queue.dead_letters(after=page[-1])
        return letters


class _InProcess:
    """One program that has queue, store and workers; killing it empties the queue."""

    def __init__(self, program: Program, store: Store) -> None:
        self.programs = (program,)
        self.store = store
        self.server: Server | None = None

    def submit(self, jobs: Sequence[Job]) -> bool:
        return submit_to(self.programs[0], jobs)

    def flush(self) -> None:
        raise NotImplementedError("a queue in another process cannot be wiped; its program is killed instead")

    def left(self, within_s: float) -> int | None:
        try:
            return int(self.programs[0].ask(f"drain {within_s:g}".encode()))
        except Gone:
            return None

    def letters(self) -> None:
        return None


@contextmanager
def _system(chaos: Chaos, folder: Path) -> Iterator[System]:
    name = scratch_name("chaos")
    if chaos.backend == "memory":
        store_url = f"sqlite:///{folder / 'store.db'}"
        with open_store(store_url) as store:
            yield _InProcess(in_process_program(name, store_url, chaos.lease_s, folder, chaos.sabotage), store)
        return
    opened: AbstractContextManager[Server]
    opened = open_redis(use_url=False) if chaos.backend == "redis" else open_postgres(use_url=False)
    with opened as server:
        if chaos.backend == "redis":
            store_url = f"sqlite:///{folder / 'store.db'}"
        else:
            store_url = make_url(server.url).set(drivername="postgresql").render_as_string(hide_password=False)
        with open_store(store_url) as store, open_queue(server.url, name=name, lease_s=chaos.lease_s) as queue:
            programs = worker_programs(server.url, name, store_url, chaos.lease_s, folder, chaos.sabotage)
            yield _Workers(programs, store, server, queue)
