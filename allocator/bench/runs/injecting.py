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

from allocator.bench import proxy, steps
from allocator.bench.checker import Fault
from allocator.bench.runs.backends import Backend
from allocator.bench.runs.workers import Programs, Workers
from allocator.bench.workload import Workload

Deed = Callable[[], None]

_CUTS = {"mid_reply": proxy.Fault.REPLY_TORN, "lost_reply": proxy.Fault.REPLY_LOST}


class Injector(threading.Thread):
    """
    Makes the faults, each at its instant; what lasts ends by itself, and at the latest when this is stopped.

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
        self._due: list[tuple[float, int, bool, Deed]] = []
        for step in workload.faults:
            self._at(step.at_s, False, self._maker(step))
        self._ending = threading.Event()
        self.made: list[Fault] = []
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            while self._due and not self._ending.wait(max(0.0, self._due[0][0] - self._now())):
                heapq.heappop(self._due)[-1]()
        except Exception as error:
            self.error = error

    def stop(self) -> None:
        """Make nothing more, and let what lasts end now."""
        self._ending.set()
        if self.is_alive():
            self.join()
        while self._due:
            _, _, is_end, deed = heapq.heappop(self._due)
            try:
                if is_end:
                    deed()
            except Exception as error:
                # What else lasts has to end all the same.
                self.error = self.error or error

    def _now(self) -> float:
        return (time.monotonic_ns() - self._origin_ns) / 1e9

    def _at(self, at_s: float, is_end: bool, deed: Deed) -> None:
        heapq.heappush(self._due, (at_s, next(self._order), is_end, deed))

    def _maker(self, step: steps.Step) -> Deed:
        return lambda: self._make(step)

    def _make(self, step: steps.Step) -> None:
        match step:
            case steps.KillWorker() | steps.PauseWorker():
                self._hit_worker(step)
            case steps.PauseProducers():
                self._pause(self._producers, step.seconds, "pause of the producers", frozenset(self._producers))
            case steps.FlushAll() | steps.ScriptFlush():
                self._flush(step)
            case steps.CutConnections(how="reset", seconds=0):
                began = self._now()
                self._reset()
                self._note("cut connections", began)
            case steps.KillServer() | steps.RestartServer() | steps.PauseServer():
                self._hit_server(step)
            case steps.CutConnections() | steps.DelayReplies():
                self._hit_connections(step)

    def _hit_worker(self, step: steps.KillWorker | steps.PauseWorker) -> None:
        assert isinstance(self._workers, Programs)
        began = self._now()
        number = self._draw.randrange(self._supervisors) if step.number is None else step.number
        program, *children = self._workers.processes(number)
        of_process = step.target == "process" and children
        target = self._draw.choice(children) if of_process else program
        # What stops a supervisor stops nobody of its processes, but nobody hears of what they do either.
        hit = frozenset([target] if of_process else [program, *children])
        running = 1 if of_process else self._workers.slots
        if isinstance(step, steps.PauseWorker):
            self._pause([target], step.seconds, "pause", hit, running)
            return
        if of_process:
            with suppress(ProcessLookupError):
                os.kill(target, signal.SIGKILL)
        else:
            self._workers.replace(number)
        self._note("kill", began, hit, running)

    def _pause(
        self, processes: Sequence[int], seconds: float, kind: str, hit: frozenset[int], running: int = 0
    ) -> None:
        began = self._now()
        _signal(processes, signal.SIGSTOP)

        def go_on() -> None:
            _signal(processes, signal.SIGCONT)
            self._note(kind, began, hit, running)

        self._at(began + seconds, True, go_on)

    def _hit_server(self, step: steps.KillServer | steps.RestartServer | steps.PauseServer) -> None:
        began, server = self._now(), self._backend.server
        assert server is not None
        kind, forgets = "server pause", False
        if isinstance(step, steps.PauseServer):
            server.pause()
        elif isinstance(step, steps.KillServer):
            server.kill()
            kind, forgets = "server kill", self._forgetful
        else:
            server.stop()
            kind, forgets = "server restart", self._forgetful

        def back() -> None:
            server.resume() if kind == "server pause" else server.start()
            self._note(kind, began, forgets=forgets)

        self._at(began + step.seconds, True, back)

    def _hit_connections(self, step: steps.CutConnections | steps.DelayReplies) -> None:
        began, between = self._now(), self._backend.proxy
        assert between is not None
        kind = "delayed replies"
        if isinstance(step, steps.DelayReplies):
            between.delay(step.delay_s)
        elif step.how == "half_open":
            kind = "half-open connections"
            between.silence()
        elif step.how == "reset":
            kind = "cut connections"
            between.refuse()
        else:
            kind = f"{step.how.replace('_', ' ')} on all connections"
            between.befall(_CUTS[step.how])

        def over() -> None:
            between.relent()
            self._note(kind, began)

        self._at(began + step.seconds, True, over)

    def _flush(self, step: steps.FlushAll | steps.ScriptFlush) -> None:
        began, server = self._now(), self._backend.server
        assert server is not None
        assert server.owned
        flushes = isinstance(step, steps.FlushAll)
        with redis.Redis.from_url(server.url) as client:
            client.flushall() if flushes else client.script_flush()
        self._note("flush" if flushes else "script flush", began, forgets=flushes)

    def _reset(self) -> None:
        if self._backend.proxy is not None:
            self._backend.proxy.cut()
        elif self._backend.kind == "redis":
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


def _signal(processes: Sequence[int], number: signal.Signals) -> None:
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
