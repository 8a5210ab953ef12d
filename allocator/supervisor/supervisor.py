"""The supervisor: fetcher, workers, settler and lease keeper, started and stopped in the right order."""

import atexit
import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from allocator.domain.backoff import Backoff
from allocator.domain.errors import AllocatorError
from allocator.domain.job import check_seconds
from allocator.domain.lease import Lease
from allocator.queue.base import Queue
from allocator.supervisor.buffer import Buffer
from allocator.supervisor.ending import Ending
from allocator.supervisor.events import Events, Listeners
from allocator.supervisor.fetching import Fetcher
from allocator.supervisor.held import Held
from allocator.supervisor.leases import LeaseKeeper
from allocator.supervisor.pools import ThreadWorker
from allocator.supervisor.processes import ProcessWorker
from allocator.supervisor.processors import Processor, resolve_all
from allocator.supervisor.reconciler import DEFAULT_RETENTION, INTERVAL_S, Reconciler, Retention
from allocator.supervisor.settling import Settler
from allocator.supervisor.signals import StopSignals
from allocator.supervisor.stats import Stats, Tally, quantiles

if TYPE_CHECKING:
    # Imported by whoever has a store. A worker process has none, and starts far sooner without.
    from allocator.persistence import Store, StoreLock
    from allocator.supervisor.recording import Recording

log = logging.getLogger(__name__)

DEFAULT_WORKERS = 4
DEFAULT_TIMEOUT_S = 3600.0
DEFAULT_GRACE_S = 30.0
SETTLE_S = 5.0
"""At least so long is tried to tell how attempts ended, whatever is left of the grace."""

GIVE_BACK_S = 1.0
"""Delay of what could not be started here, so that it does not come straight back."""


class Supervisor:
    """
    Runs workers on a queue until it is stopped.

    A job that is taken is always given an end: done, failed, dead, or released untried. Only a process that is killed
    leaves leases behind, and those expire.

    Args:
        queue: Where jobs come from. Stays open when the supervisor stops.
        processors: Job type -> function or `module:function`. Other types become dead letters.
        workers: Threads that try jobs; none are started where `processes` is given and this is not.
        processes: Processes that try jobs, one at a time each: for work that keeps the interpreter busy, crashes, or
            hangs in C. Processors are then named `module:function`.
        timeout_s: For one attempt, where the job names none. What runs longer loses its lease, and its worker is
            replaced; after `workers` replacements the supervisor stops taking jobs, and `failed` is set.
        limits: Job type -> how many of it may be held here at a time.
        backoffs: Job type -> backoff, for jobs that bring none of their own; else the queue's.
        store: Where every step is recorded, before the queue hears of it. Stays open when the supervisor stops.
        reconcile_s: How often store and queue are compared.
        retention: How long the store keeps jobs that have ended; None: for ever.
        events: Hooks.
        handle_signals: Stop on SIGTERM and SIGINT (a second one ends at once), until it has stopped. Only in the main
            thread.
    Raises:
        ValueError: An argument is out of range, or a processor cannot be found.
    """

    def __init__(
        self,
        queue: Queue,
        processors: Mapping[str, Processor | str],
        *,
        workers: int | None = None,
        processes: int = 0,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        limits: Mapping[str, int] | None = None,
        backoffs: Mapping[str, Backoff] | None = None,
        store: "Store | None" = None,
        reconcile_s: float = INTERVAL_S,
        retention: Retention | None = DEFAULT_RETENTION,
        events: Sequence[Events] = (),
        handle_signals: bool = False,
    ) -> None:
        if workers is None:
            workers = 0 if processes else DEFAULT_WORKERS
        for name, value in (("workers", workers), ("processes", processes)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"{name}: must be an integer of at least 0, not {value!r}")
        if workers + processes < 1:
            raise ValueError("workers, processes: at least one of them must be above 0")
        for type, limit in (limits or {}).items():
            if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
                raise ValueError(f"limits: that of {type!r} must be an integer of at least 0, not {limit!r}")
        for type, backoff in (backoffs or {}).items():
            if not isinstance(backoff, Backoff):
                raise ValueError(f"backoffs: that of {type!r} must be a Backoff, not {backoff!r}")
        self.queue = queue
        # Found here too, so that a wrong name is told at once and not by every process.
        self._processors = resolve_all(processors)
        self._names = {type: name for type, name in processors.items() if isinstance(name, str)}
        if processes and len(self._names) < len(processors):
            unnamed = ", ".join(sorted(processors.keys() - self._names.keys()))
            raise ValueError(
                f"processors: name those of {unnamed} as 'module:function'; a process cannot get a function"
            )
        self._timeout_s = check_seconds("timeout_s", timeout_s)
        self._limits = dict(limits or {})
        self._listeners = Listeners(events)
        self._tally = Tally()
        self._buffer = Buffer()
        self._held: dict[str, Held] = {}
        self._held_types: Counter[str] = Counter()
        self._held_lock = threading.Lock()
        self._workers: list[ThreadWorker] = []
        self._thread_count, self._process_count = workers, processes
        self._added = 0
        self._restarts = self._given_up = 0
        self._backlog: int | None = None
        self._asked_at = float("-inf")
        self._stop_lock = threading.Lock()
        self._all_ended: bool | None = None
        """What `stop` found, once it has come to its end."""
        self.stopping = threading.Event()
        """Set when a stop was asked for, by a signal too."""
        self._signals = StopSignals(self.stopping) if handle_signals else None
        self.failed = False
        """Whether so many workers had to be given up that no more jobs are taken."""
        self._recording = None if store is None else _recording(store, queue)
        self._store = store
        self._store_lock: StoreLock | None = None
        self._lock_trouble = ""
        self._reconciler = None if store is None else Reconciler(store, queue, reconcile_s, retention)
        self._settler = Settler(
            queue, self._recording, self._tally, self._listeners, dict(backoffs or {}), self._forget
        )
        self._fetcher = Fetcher(
            queue, self._buffer, self._tally, workers + processes, self._accept, self._give_back, self._may_fetch
        )
        self._keeper = LeaseKeeper(queue, self._all_held, self._overdue)
        # Store and queue may make it wait, which the keeper must not.
        self._chores = threading.Thread(target=self._do_chores, name="allocator-chores", daemon=True)

    # Start and stop

    def start(self) -> Self:
        """
        Begin to take jobs. Returns at once; if it fails, or is interrupted, nothing is left running.

        Raises:
            StoreLocked: Another process works on this in-process queue's part of the store.
            ValueError: Signals are to be handled, and this is not the main thread.
        """
        try:
            self._start()
        except BaseException:
            self.stop(0.0)
            raise
        return self

    def _start(self) -> None:
        if self._signals is not None:
            self._signals.install()
        if self._store is not None and self.queue.identity.startswith("memory:"):
            # What such a queue holds is known to this process alone; another would take its jobs for lost.
            self._store_lock = self._store.lock(self.queue.identity)
        for _ in range(self._thread_count):
            self._add_worker()
        for _ in range(self._process_count):
            self._add_process()
        for thread in (self._settler, self._keeper, self._fetcher, self._reconciler, self._chores):
            if thread is not None:
                thread.start()
        atexit.register(self.stop, 0.0)

    def stop(self, grace: float = DEFAULT_GRACE_S) -> bool:
        """
        Take nothing more, give back what was not started, let the workers finish, tell the queue, end.

        Idempotent, from any thread; interrupted, it can be called again. What still runs after `grace` seconds is left
        to its lease, which expires. Takes at most SETTLE_S longer than that, be the queue's server down or not; where
        the store does not answer, as long as that takes to say so.

        Returns:
            Whether everything that was started came to its end.
        """
        self.stopping.set()
        with self._stop_lock:
            if self._all_ended is not None:
                return self._all_ended
            deadline = time.monotonic() + grace
            last = deadline + SETTLE_S

            def left_s(until: float) -> float:
                return max(0.0, until - time.monotonic())

            # Half of it, so that enough is left for the settler where the queue's server cannot be reached.
            self._fetcher.stop(SETTLE_S / 2)
            self._give_back(self._buffer.close(), delay_s=0.0)
            self._settler.let_go()
            # One that still fetches has nothing to do and starts nothing more, whenever the queue's server answers.
            fetching = self._buffer.fetching
            workers = [worker for worker in self._workers if worker is not fetching]
            for worker in workers:
                if isinstance(worker, ProcessWorker):
                    worker.no_more_jobs()
            for worker in workers:
                worker.wait(left_s(deadline))
            for worker in self._workers:
                if worker.is_alive() and isinstance(worker, ProcessWorker):
                    worker.kill(release=True)
            for worker in workers:
                # A thread that has nothing to do needs but a moment to end.
                if isinstance(worker, ProcessWorker) or worker.current is None:
                    worker.wait(left_s(last))
            left = [worker for worker in workers if worker.is_alive()]
            for worker in left:
                held = worker.current
                if held is not None:
                    held.abandoned = True
                    log.warning(
                        "job %s attempt %d still runs after the grace of %g s; its lease is left to expire",
                        held.lease.job.id,
                        held.lease.attempt,
                        grace,
                    )
            self._settler.stop(left_s(last))
            if self._recording is not None:
                self._recording.flush()
            if self._reconciler is not None:
                self._reconciler.stop(left_s(last))
            self._keeper.stop(left_s(last))
            if self._store_lock is not None:
                self._store_lock.release()
            atexit.unregister(self.stop)
            if self._signals is not None:
                self._signals.put_back()
            self._all_ended = not left
            return self._all_ended

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until no job waits or is leased, by anyone; False if that took longer than `timeout` seconds."""
        deadline = float("inf") if timeout is None else time.monotonic() + timeout
        while not self.stopping.is_set():
            if not self._held:
                counts = self.queue.counts()
                if counts["ready"] + counts["scheduled"] + counts["leased"] == 0:
                    return True
            if time.monotonic() >= deadline:
                return False
            self.stopping.wait(0.01 if not self._held else 0.002)
        return False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def run(self, grace: float = DEFAULT_GRACE_S) -> int:
        """Start, work until a stop is asked for, stop; gives an exit status: 1 if workers had to be given up."""
        self.start()
        # A wait without an end would keep signals from being handled on some platforms.
        while not self.stopping.wait(1.0):
            pass
        self.stop(grace)
        return int(self.failed)

    # What the threads ask for

    def _accept(self, leases: list[Lease]) -> list[Held]:
        """Hold what can be started here; everything else is given its end at once."""
        fetched = time.monotonic()
        startable: list[Held] = []
        waiting: list[Held] = []
        with self._held_lock:
            for lease in leases:
                held = self._hold(lease, fetched)
                (waiting if self._must_wait(held) else startable).append(held)
        for held in waiting:
            # The store does not hear of it, which need not learn how often a job waited for its turn.
            self._settler.put(Ending(held, "released", delay_s=GIVE_BACK_S, begun=False))
        if self._recording is not None and startable:
            startable = self._begin(startable, self._recording)
        accepted: list[Held] = []
        for held in startable:
            type = held.lease.job.type
            if type in self._processors:
                accepted.append(held)
            else:
                known = ", ".join(sorted(self._processors)) or "none"
                reason = f"no processor for type {type!r}; this supervisor has: {known}"
                self._settler.put(Ending(held, "dead", reason))
        return accepted

    def _hold(self, lease: Lease, fetched: float) -> Held:
        """With the lock on what is held."""
        held = Held(lease, lease.job.timeout or self._timeout_s, fetched)
        self._held[lease.token] = held
        self._held_types[lease.job.type] += 1
        return held

    def _must_wait(self, held: Held) -> bool:
        """
        Whether others that are held here keep this one from being started; with the lock on them.

        Either its type is at its limit; or it has lost a lease before, perhaps by ending its program, and so has one of
        the others: threads share their program's fate, and the one would cost the other its attempts.
        """
        type = held.lease.job.type
        if type in self._limits and self._held_types[type] > self._limits[type]:
            return True
        if not held.lease.lost_before or not self._thread_count:
            return False
        return any(other.lease.lost_before for other in self._held.values() if other is not held)

    def _begin(self, jobs: list[Held], recording: "Recording") -> list[Held]:
        """Record that these begin; gives those that may run. The others are given their end at once."""
        by_token = {held.lease.token: held for held in jobs}

        def end(lease: Lease, verb: str, error: str = "") -> None:
            self._settler.put(Ending(by_token[lease.token], verb, error, begun=False))

        try:
            begun = recording.begin([held.lease for held in jobs])
        except Exception:
            # Whatever it is: what is held and has no end coming would be extended for ever. Whether the store has it as
            # begun is not known; if it has, it would take it for lost when the job comes again.
            for held in jobs:
                self._settler.put(Ending(held, "released", delay_s=GIVE_BACK_S, begun=None))
            raise
        for lease in begun.finished:
            end(lease, "done")
        for lease in begun.cancelled:
            # A release of what is marked cancels it; one that could not be marked comes again.
            with suppress(Exception):
                self.queue.cancel(lease.job.id)
            end(lease, "released")
        for lease in begun.dead:
            end(lease, "dead", "given up in the store")
        self._forget([by_token[lease.token] for lease in begun.lost])
        return [by_token[lease.token] for lease in begun.runnable]

    def _take(self) -> Held | None:
        held_up_s = self._settler.wait_for_room()
        held = self._buffer.take(self._fetcher.fetch)
        if held is not None:
            held.held_up_s = held_up_s
        return held

    def _give_back(self, jobs: list[Held], delay_s: float = GIVE_BACK_S) -> None:
        for held in jobs:
            self._settler.put(Ending(held, "released", delay_s=delay_s))

    def _forget(self, jobs: list[Held]) -> None:
        with self._held_lock:
            for held in jobs:
                if self._held.pop(held.lease.token, None) is not None:
                    type = held.lease.job.type
                    self._held_types[type] -= 1
                    if not self._held_types[type]:
                        del self._held_types[type]

    def _may_fetch(self) -> bool:
        if self.failed or self._settler.stuck:
            return False
        return self._recording is None or self._recording.is_up()

    def _all_held(self) -> list[Held]:
        with self._held_lock:
            return list(self._held.values())

    def _report(self, held: Held, done: float, total: float | None, message: str) -> None:
        if self._recording is not None:
            self._recording.report(held, done, total, message)

    def _overdue(self, held: Held) -> None:
        job = held.lease.job
        log.error(
            "job %s attempt %d runs longer than %g s: its lease is not extended any more, and its worker is replaced",
            job.id,
            held.lease.attempt,
            held.timeout_s,
        )
        for worker in list(self._workers):
            if worker.current is held:
                if not isinstance(worker, ProcessWorker):
                    # Nobody will settle it: it is the lease's business from here on.
                    self._forget([held])
                if isinstance(worker, ProcessWorker):
                    worker.kill()
                else:
                    self._give_up_on(worker)
                return

    def _give_up_on(self, worker: ThreadWorker) -> None:
        """A thread cannot be killed: it is left to itself, and another takes its place, up to a bound."""
        worker.discarded = True
        self._given_up += 1
        if self._given_up > self._thread_count:
            self.failed = True
            log.error(
                "%d workers hang in jobs over their timeout; no more jobs are taken. Restart this process, and use "
                "processes= for processors that may hang",
                self._given_up,
            )
            self.stopping.set()
        else:
            self._replace(worker)

    def _replace(self, worker: ThreadWorker) -> None:
        if self.stopping.is_set():
            return
        # It may have died just when it was given up, and have been replaced for that.
        with suppress(ValueError):
            self._workers.remove(worker)
            self._count_restart()
            self._add_worker()

    def _count_restart(self) -> None:
        self._restarts += 1

    def _add_process(self) -> None:
        self._added += 1
        worker = ProcessWorker(
            f"process-{self._added}",
            self._take,
            self._names,
            self._settler.put,
            self._report,
            self._listeners,
            self._count_restart,
        )
        self._workers.append(worker)
        worker.start()

    def _add_worker(self) -> None:
        self._added += 1
        worker = ThreadWorker(
            f"worker-{self._added}",
            self._take,
            self._processors,
            self._settler.put,
            self._report,
            self._listeners,
            self._replace,
        )
        self._workers.append(worker)
        worker.start()

    def _do_chores(self) -> None:
        while not self.stopping.wait(1.0):
            if self._recording is not None:
                self._recording.flush()
            if self._store is not None and self._store_lock is not None and not self._store_lock.held():
                self._lock_again(self._store, self._store_lock)
            if time.monotonic() - self._asked_at < 5.0:
                try:
                    self._backlog = self.queue.size()
                except AllocatorError:
                    self._backlog = None

    def _lock_again(self, store: "Store", lost: "StoreLock") -> None:
        """The lock has gone with its connection to the server. Without it, another process may come to hold it."""
        lost.release()
        try:
            taken = store.lock(self.queue.identity)
        except AllocatorError as error:
            # Told once, and work goes on: it may be the server that has not noticed yet that the connection is gone.
            if str(error) != self._lock_trouble:
                self._lock_trouble = str(error)
                log.error("the lock on the store went with its connection, and is not to be had again yet: %s", error)
        else:
            self._store_lock, self._lock_trouble = taken, ""
            if self.stopping.is_set():
                taken.release()

    def stats(self) -> Stats:
        """How it goes. Cheap enough to be asked often: nothing here waits for the queue's server."""
        self._asked_at = time.monotonic()
        counts, workers = self._tally.counts, list(self._workers)
        return Stats(
            backlog=self._backlog,
            buffered=len(self._buffer),
            running=sum(worker.current is not None for worker in workers),
            done=counts["done"],
            retried=counts["retried"],
            dead=counts["dead"],
            released=counts["released"],
            lost=counts["lost"],
            done_per_s=self._tally.done_per_s(),
            wait_s=quantiles(self._tally.wait_s),
            service_s=quantiles(self._tally.service_s),
            restarts=self._restarts,
            workers=tuple(worker.stats() for worker in workers),
        )


def _recording(store: "Store", queue: Queue) -> "Recording":
    from allocator.supervisor.recording import Recording

    return Recording(store, queue)
