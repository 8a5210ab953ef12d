"""Who works in a run: programs with a supervisor each, or, on a queue in process, a supervisor in this one."""

import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Protocol

import msgspec
import psutil

from allocator.bench.recorder import record_to
from allocator.bench.runs.worker import Orders, supervisor
from allocator.domain.errors import AllocatorError
from allocator.queue.base import Queue
from allocator.supervisor import Supervisor

READY_S = 60.0
STOP_S = 45.0


class WorkerFailed(AllocatorError):
    """A supervisor of the run could not start, or ended by itself."""


class Workers(Protocol):
    """All of them."""

    def start(self) -> None:
        """Return when they take jobs."""

    def check(self) -> None:
        """Raises WorkerFailed when one has ended by itself."""

    def stop(self) -> bool:
        """Let them finish what they do, and end; whether all ended in order."""
        ...

    @property
    def slots(self) -> int:
        """Jobs that one of them runs at a time."""
        ...


class Programs:
    """Programs on the queue of a server."""

    def __init__(self, orders: Orders, count: int) -> None:
        self._orders = orders
        self._folder = Path(orders.folder)
        self._running: list[subprocess.Popen[bytes] | None] = [None] * count
        self.slots = orders.workers + orders.processes

    def start(self) -> None:
        for number in range(len(self._running)):
            self.start_one(number)
        deadline = time.monotonic() + READY_S
        while not all(self._ready(number).exists() for number in range(len(self._running))):
            self.check()
            if time.monotonic() > deadline:
                raise WorkerFailed(f"the workers were not ready within {READY_S:g} s; see {self._folder}/worker-*.log")
            time.sleep(0.01)

    def start_one(self, number: int) -> None:
        """Start a program, in the place of the one before."""
        self._ready(number).unlink(missing_ok=True)
        path = self._folder / f"worker-{number}.json"
        orders = msgspec.structs.replace(self._orders, ready=str(self._ready(number)))
        path.write_bytes(msgspec.json.encode(orders))
        with path.with_suffix(".log").open("ab") as log:
            self._running[number] = subprocess.Popen(
                [sys.executable, "-m", "allocator.bench.runs.worker", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the run, which then stops its workers.
                start_new_session=True,
            )

    def check(self) -> None:
        for number, program in enumerate(self._running):
            status = None if program is None else program.poll()
            if status is not None:
                log = (self._folder / f"worker-{number}.log").read_text("utf-8", "replace")
                raise WorkerFailed(f"worker {number} ended by itself with status {status}: …{log[-800:]}")

    def stop(self) -> bool:
        for program in self._running:
            if program is not None and program.poll() is None:
                program.send_signal(signal.SIGTERM)
        ended = [program is None or self._wait(program) == 0 for program in self._running]
        return all(ended)

    def processes(self, number: int) -> list[int]:
        """A program and its worker processes, that one first."""
        program = self._running[number]
        assert program is not None
        with suppress(psutil.NoSuchProcess):
            return [program.pid, *(child.pid for child in psutil.Process(program.pid).children())]
        return [program.pid]

    def kill(self, number: int) -> None:
        """SIGKILL; returns when it is gone."""
        program = self._running[number]
        assert program is not None
        program.kill()
        program.wait()

    def _ready(self, number: int) -> Path:
        return self._folder / f"worker-{number}.ready"

    @staticmethod
    def _wait(program: subprocess.Popen[bytes]) -> int:
        try:
            return program.wait(STOP_S)
        except subprocess.TimeoutExpired:
            program.kill()
            return program.wait()


class InProcess:
    """Supervisors in this process, which an in-process queue needs. They share its interpreter with the producers."""

    def __init__(self, orders: Orders, queue: Queue, count: int) -> None:
        self._orders = orders
        self._queue = queue
        self._count = count
        self._running: list[Supervisor] = []
        self._recording = ExitStack()
        self.slots = orders.workers + orders.processes

    def start(self) -> None:
        recorder = self._recording.enter_context(record_to(Path(self._orders.folder)))
        assert recorder is not None
        for _ in range(self._count):
            self._running.append(supervisor(self._queue, self._orders, recorder, handle_signals=False).start())

    def check(self) -> None:
        if any(working.failed for working in self._running):
            raise WorkerFailed("so many workers hang in jobs over their timeout that no more jobs are taken")

    def stop(self) -> bool:
        ended = [working.stop(STOP_S) for working in self._running]
        self._recording.close()
        return all(ended)
