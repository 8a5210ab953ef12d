"""A queue under load that can be watched, changed and harmed: what the panels of the lab show and do."""

import atexit
import os
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import redis

from allocator.bench.scratch import scratch_name
from allocator.domain.errors import AllocatorError
from allocator.lab import tallies
from allocator.lab.crew import Crew
from allocator.lab.log import Log
from allocator.lab.orders import Orders
from allocator.lab.reading import Reader
from allocator.lab.rows import WorkerRow, worker_row
from allocator.lab.settings import Settings
from allocator.queue.base import erase
from allocator.queue.opening import open_queue
from allocator.services import NotOurServer, Server, ServiceUnavailable, open_postgres, open_redis

BACKENDS = {"redis": "Redis", "postgres": "PostgreSQL"}

WORKERS = 4
DRAIN_S = 2.0

_VARIABLES = {"redis": "REDIS_URL", "postgres": "DATABASE_URL"}


class Session:
    """
    A server, a queue on it, workers and load, which all end with it, and with this process whatever ends that.

    The server is started for it and may be harmed; only where none can be started is the one of REDIS_URL or
    DATABASE_URL used, and not harmed.

    Args:
        backend: redis or postgres.
        settings: Of the load, which begins at once.
        workers: Each in a process of its own, one job at a time.
    Attributes:
        queue: For whoever looks at it or puts dead letters back.
        reader: How it goes.
    Raises:
        ServiceUnavailable: The server cannot be had.
        InvalidWorkload: The settings are out of range; names the field.
        ValueError: There is no such backend.
    """

    def __init__(self, backend: str = "redis", settings: Settings | None = None, workers: int = WORKERS) -> None:
        check_backend(backend)
        self.backend = backend
        self.settings = settings or Settings()
        self.settings.check()
        self.server_paused = self.resting = self._closed = False
        with ExitStack() as stack:
            self.server = stack.enter_context(_server(backend))
            # In the server's folder, which its watchdog removes should this process be killed.
            folder = tempfile.TemporaryDirectory(prefix="allocator-lab-", dir=self.server.data_dir)
            self._folder = Path(stack.enter_context(folder))
            self.queue = open_queue(self.server.url, name=scratch_name("lab"))
            stack.callback(self._erase)
            orders = Orders(url=self.server.url, name=self.queue.name, folder=str(self._folder), parent=os.getpid())
            self.reader = Reader(self.queue, self._folder)
            stack.callback(self.reader.stop)
            self.crew = Crew(orders, self.settings, workers)
            stack.callback(self.crew.close)
            self.log = Log(self.settings, workers)
            self._stack = stack.pop_all()
        atexit.register(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything; at most some seconds. Idempotent."""
        atexit.unregister(self.close)
        if not self._closed:
            self._closed = True
            self.log.end()
        try:
            if self.server_paused:
                self.resume_server()
        finally:
            self._stack.close()

    @property
    def place(self) -> str:
        """The backend, as `allocator.bench.runs.run` takes it: a server of a run's own, where there can be one."""
        return self.backend if self.server.owned else self.server.url

    # The load

    def change(self, settings: Settings) -> None:
        """
        Let the load go on with these settings, at once.

        Raises:
            InvalidWorkload: Names the field that is out of range; the load goes on as before.
        """
        settings.check()
        if told := settings.told_since(self.settings):
            self.settings = settings
            if not self.resting:
                self.crew.change(settings)
                self.log.note("settings", told, settings=settings)

    def rest(self) -> None:
        """
        Let nothing arrive and nobody begin a job, so that what is measured beside it has the machine for itself.

        What waits is given two seconds to be done: it would wait all the while, and be seen to have done so afterwards.
        """
        self.resting = True
        nothing = msgspec.structs.replace(self.settings, rate_per_s=0.0)
        self.crew.change(nothing)
        self.log.note("rest", "resting", settings=nothing)
        deadline = time.monotonic() + DRAIN_S
        while self.queue.size() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.queue.pause()

    def go_on(self) -> None:
        """After `rest`, with the settings as they are by now."""
        self.queue.resume()
        self.resting = False
        self.crew.change(self.settings)
        self.log.note("go on", "going on", settings=self.settings)

    # The workers. What is done to them is logged, and told in words.

    def workers(self) -> list[WorkerRow]:
        """A row each, by number."""
        counted = dict(tallies.tallies(self._folder))
        return [worker_row(number, worker, counted) for number, worker in sorted(self.crew.workers.items())]

    @property
    def worker_count(self) -> int:
        """How many there are, those that are leaving left out."""
        return len(self._staying())

    def set_worker_count(self, count: int) -> None:
        """Add some, or remove those that were added last."""
        staying = self._staying()
        for _ in range(count - len(staying)):
            self.add_worker()
        for number in staying[count:]:
            self.remove_worker(number)

    def add_worker(self) -> int:
        """One more; gives its number."""
        number = self.crew.add()
        self.log.note("add", f"worker {number} added", number)
        return number

    def remove_worker(self, number: int) -> str:
        """Let it finish its job and end; a paused one goes on first."""
        self.crew.remove(number)
        return self.log.note("remove", f"worker {number} removed", number)

    def kill_worker(self, number: int) -> str:
        """SIGKILL; another takes its place, and its job when the lease has run out."""
        self.crew.kill(number)
        return self.log.note("kill", f"worker {number} killed", number)

    def pause_worker(self, number: int) -> str:
        """SIGSTOP; after five seconds its lease is lost."""
        self.crew.pause(number)
        return self.log.note("pause", f"worker {number} paused", number)

    def resume_worker(self, number: int) -> str:
        """SIGCONT."""
        self.crew.resume(number)
        return self.log.note("resume", f"worker {number} resumed", number)

    # The server. Each raises NotOurServer where it was not started here, else tells in words what was done.

    def pause_server(self) -> str:
        """SIGSTOP: connections stay open and nothing answers."""
        self.server.pause()
        self.server_paused = True
        return self.log.note("pause server", "server paused")

    def resume_server(self) -> str:
        """SIGCONT."""
        self.server.resume()
        self.server_paused = False
        return self.log.note("resume server", "server resumed")

    def restart_server(self) -> str:
        """An orderly stop, and a start."""
        self._must_be_ours()
        self.server.stop()
        self.server.start()
        self.server_paused = False
        return self.log.note("restart server", "server restarted")

    def flush_server(self) -> str:
        """FLUSHALL: the queue loses everything at once. There is no store that could bring it back."""
        self._must_be_ours()
        if self.backend != "redis":
            raise ValueError(f"flushall: only Redis has it, not {BACKENDS[self.backend]}")
        with redis.Redis.from_url(self.server.url, socket_timeout=5.0) as client:
            client.flushall()
        return self.log.note("flushall", "server flushed: every job is gone")

    def _staying(self) -> list[int]:
        return sorted(number for number, worker in self.crew.workers.items() if not worker.leaving)

    def _must_be_ours(self) -> None:
        if not self.server.owned:
            raise NotOurServer(
                f"the {BACKENDS[self.backend]} server is the one of {_VARIABLES[self.backend]} and is left unharmed; "
                "install a server, and one of its own is started for the lab"
            )

    def _erase(self) -> None:
        # What is on a server of ours goes with it, and asking one that is away takes time.
        if not self.server.owned:
            with suppress(AllocatorError):
                erase(self.queue)
        self.queue.close()


def check_backend(backend: str) -> None:
    """Raises ValueError where the lab has no such backend."""
    if backend not in BACKENDS:
        raise ValueError(
            f"backend: must be {' or '.join(BACKENDS)}, not {backend!r}; a queue in process is reached by one process "
            "alone, and in the lab everybody has one of their own"
        )


def _server(backend: str) -> Server:
    opened = open_redis if backend == "redis" else open_postgres
    try:
        return opened(use_url=False)
    except ServiceUnavailable:
        if not os.environ.get(_VARIABLES[backend]):
            raise
        return opened()
