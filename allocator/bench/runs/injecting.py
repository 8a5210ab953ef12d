"""Makes the faults of a workload at their instants, and writes down what was done, for the checker."""

import heapq
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import psycopg
import redis

from allocator.bench import steps
from allocator.bench.checker import Fault
from allocator.bench.errors import InvalidWorkload
from allocator.bench.runs.backends import Backend
from allocator.bench.runs.workers import Programs, Workers
from allocator.bench.workload import Workload

_WORKER_STEPS = steps.KillWorker | steps.PauseWorker


def refuse_impossible(workload: Workload, backend: Backend) -> None:
    """
    Raises:
        InvalidWorkload: A fault cannot be made here; names the field.
    """
    for number, step in enumerate(workload.faults):
        field = f"faults[{number}]"
        if isinstance(step, _WORKER_STEPS | steps.PauseProducers) and backend.kind == "memory":
            raise InvalidWorkload(
                f"{field}.kind",
                f"{step.kind} would hit this very process, where the queue is; use --backend redis or postgres",
            )
        if isinstance(step, steps.DelayReplies) or (isinstance(step, steps.CutConnections) and step.how != "reset"):
            how = f" ({step.how})" if isinstance(step, steps.CutConnections) else ""
            raise InvalidWorkload(
                f"{field}.kind", f"{step.kind}{how} needs a proxy between client and server, which a run does not have"
            )


class Injector(threading.Thread):
    """
    Makes the faults, each at its instant; what lasts ends by itself.

    Args:
        producers: Processes of the load generator.
    Attributes:
        made: What was done; instants are seconds since the run's origin.
        error: Why it ended before its time, if it did.
    """

    def __init__(
        self, workload: Workload, backend: Backend, workers: Workers, producers: Sequence[int], origin_ns: int
    ) -> None:
        super().__init__(name="bench-injector", daemon=True)
        self._backend = backend
        self._workers = workers
        self._producers = producers
        self._origin_ns = origin_ns
        self._draw = random.Random(workload.seed)
        self._supervisors = workload.workers.supervisors
        self._forgetful = backend.kind == "redis" and workload.durability.redis_appendfsync == "none"
        self._order = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        for step in workload.faults:
            self._at(step.at_s, self._maker(step))
        self._ending = threading.Event()
        self.made: list[Fault] = []
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            while self._due and not self._ending.wait(max(0.0, self._due[0][0] - self._now())):
                heapq.heappop(self._due)[2]()
        except Exception as error:
            self.error = error

    def stop(self) -> None:
        """Make nothing more, and let go on what stands still."""
        self._ending.set()
        if self.is_alive():
            self.join()
        server = self._backend.server
        if server is not None and server.owned:
            server.resume()
            server.start()
        for pid in self._all_processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _now(self) -> float:
        return (time.monotonic_ns() - self._origin_ns) / 1e9

    def _at(self, at_s: float, make: Callable[[], None]) -> None:
        heapq.heappush(self._due, (at_s, next(self._order), make))

    def _maker(self, step: steps.Step) -> Callable[[], None]:
        return lambda: self._make(step)

    def _make(self, step: steps.Step) -> None:
        began = self._now()
        server = self._backend.server
        match step:
            case steps.KillWorker() | steps.PauseWorker():
                self._hit_worker(step)
            case steps.PauseProducers():
                self._pause(self._producers, step.seconds, "pause of the producers")
            case steps.KillServer() | steps.RestartServer():
                assert server is not None
                killed = isinstance(step, steps.KillServer)
                server.kill() if killed else server.stop()

                def back() -> None:
                    server.start()
                    self._note("server kill" if killed else "server restart", began, forgets=self._forgetful)

                self._at(began + step.seconds, back)
            case steps.PauseServer():
                assert server is not None
                server.pause()

                def go_on() -> None:
                    server.resume()
                    self._note("server pause", began)

                self._at(began + step.seconds, go_on)
            case steps.FlushAll() | steps.ScriptFlush():
                assert self._backend.is_ours
                flush = isinstance(step, steps.FlushAll)
                with redis.Redis.from_url(self._backend.url) as client:
                    client.flushall() if flush else client.script_flush()
                self._note("flush" if flush else "script flush", began, forgets=flush)
            case steps.CutConnections():
                self._cut()
                self._note("cut connections", began)

    def _hit_worker(self, step: steps.KillWorker | steps.PauseWorker) -> None:
        assert isinstance(self._workers, Programs)
        began = self._now()
        number = self._draw.randrange(self._supervisors) if step.number is None else step.number
        program, *children = self._workers.processes(number)
        of_process = step.target == "process" and children
        hit = [self._draw.choice(children)] if of_process else [program]
        running = 1 if of_process else self._workers.slots
        if isinstance(step, steps.PauseWorker):
            self._pause(hit, step.seconds, "pause", running)
        elif of_process:
            with suppress(ProcessLookupError):
                os.kill(hit[0], signal.SIGKILL)
            self._note("kill", began, frozenset(hit), running)
        else:
            self._workers.kill(number)
            self._workers.start_one(number)
            self._note("kill", began, frozenset([program, *children]), running)

    def _pause(self, processes: Sequence[int], seconds: float, kind: str, running: int = 0) -> None:
        began = self._now()
        for pid in processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

        def go_on() -> None:
            for pid in processes:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            self._note(kind, began, frozenset(processes), running)

        self._at(began + seconds, go_on)

    def _cut(self) -> None:
        if self._backend.kind == "redis":
            with redis.Redis.from_url(self._backend.url) as client:
                client.client_kill_filter(_type="normal", skipme=True)
        else:
            with psycopg.connect(self._backend.url, autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )

    def _note(
        self,
        kind: str,
        began: float,
        processes: frozenset[int] | None = None,
        running: int = 0,
        forgets: bool = False,
    ) -> None:
        self.made.append(Fault(kind, began, self._now(), processes, running, forgets))

    def _all_processes(self) -> list[int]:
        programs = self._workers
        own = programs.processes if isinstance(programs, Programs) else lambda number: []
        return [*self._producers, *(pid for number in range(self._supervisors) for pid in own(number))]
