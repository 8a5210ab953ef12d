"""Who works in a run: programs with a supervisor each, or, on a queue in process, a supervisor in this one."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Protocol

import msgspec
import psutil

from allocator.bench.recorder import record_to
from allocator.bench.worker import AWAY, Orders, supervisor
from allocator.domain.errors import AllocatorError
from allocator.queue.base import Queue
from allocator.supervisor import Supervisor

MODULE = "allocator.bench.worker"
READY_S = 60.0
STOP_S = 45.0


class WorkerFailed(AllocatorError):
    """A supervisor of the run could not start, or ended by itself."""


class Workers(Protocol):
    """All of them."""

    def start(self) -> None:
        """Begin to start them."""

    def wait(self) -> None:
        """Return when they take jobs. Raises WorkerFailed when one does not."""

    def check(self) -> None:
        """Raises WorkerFailed when one has ended by itself."""

    def stop(self) -> bool:
        """Let them finish what they do, and end; whether all ended in order. Idempotent."""
        ...

    def all_processes(self) -> frozenset[int]:
        """Of those that run outside of this process."""
        ...

    @property
    def slots(self) -> int:
        """Jobs that one of them runs at a time."""
        ...


class Programs:
    """Programs on the queue of a server. Thread-safe."""

    def __init__(self, orders: Orders, count: int) -> None:
        self._orders = orders
        self._folder = Path(orders.folder)
        self._running: list[subprocess.Popen[bytes] | None] = [None] * count
        self._busy = threading.RLock()
        self._started = False
        self.slots = orders.workers + orders.processes

    def start(self) -> None:
        for number in range(len(self._running)):
            self._start_one(number)

    def wait(self) -> None:
        deadline = time.monotonic() + READY_S
        while not all(self._ready(number).exists() for number in range(len(self._running))):
            self.check()
            if time.monotonic() > deadline:
                raise WorkerFailed(f"the workers were not ready within {READY_S:g} s; see {self._folder}/worker-*.log")
            time.sleep(0.01)
        self._started = True

    def check(self) -> None:
        with self._busy:
            for number, program in enumerate(self._running):
                status = None if program is None else program.poll()
                if status == AWAY and self._started:
                    # It was started again while the server was away, and has said so.
                    self._start_one(number)
                elif status is not None:
                    log = (self._folder / f"worker-{number}.log").read_text("utf-8", "replace")
                    raise WorkerFailed(f"worker {number} ended by itself with status {status}: …{log[-800:].strip()}")

    def stop(self) -> bool:
        with self._busy:
            for program in self._running:
                if program is not None and program.poll() is None:
                    program.send_signal(signal.SIGTERM)
            # Each is waited for, however the one before has ended.
            ends = [self._end(number, program) for number, program in enumerate(self._running)]
        return all(ends)

    def all_processes(self) -> frozenset[int]:
        return frozenset(pid for number in range(len(self._running)) for pid in self.processes(number))

    def processes(self, number: int) -> list[int]:
        """A program and its worker processes, that one first."""
        program = self._running[number]
        assert program is not None
        with suppress(psutil.NoSuchProcess):
            return [program.pid, *(child.pid for child in psutil.Process(program.pid).children())]
        return [program.pid]

    def replace(self, number: int) -> None:
        """SIGKILL to a program, and start another in its place."""
        with self._busy:
            program = self._running[number]
            assert program is not None
            program.kill()
            program.wait()
            self._start_one(number)

    def _start_one(self, number: int) -> None:
        self._ready(number).unlink(missing_ok=True)
        path = self._folder / f"worker-{number}.json"
        orders = msgspec.structs.replace(self._orders, ready=str(self._ready(number)), parent=os.getpid())
        path.write_bytes(msgspec.json.encode(orders))
        with path.with_suffix(".log").open("ab") as log:
            self._running[number] = subprocess.Popen(
                [sys.executable, "-m", MODULE, str(path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the run, which then stops its workers.
                start_new_session=True,
            )

    def _ready(self, number: int) -> Path:
        return self._folder / f"worker-{number}.ready"

    def _end(self, number: int, program: subprocess.Popen[bytes] | None) -> bool:
        """Wait for the end of a program; whether it is in order: one that was just starting knows no other way."""
        if program is None:
            return True
        try:
            status = program.wait(STOP_S)
        except subprocess.TimeoutExpired:
            program.kill()
            status = program.wait()
        return status == 0 or (status in (-signal.SIGTERM, AWAY) and not self._ready(number).exists())


class InProcess:
    """Supervisors in this process, which an in-process queue needs. They share its interpreter with the producers."""

    def __init__(self, orders: Orders, queue: Queue, count: int) -> None:
        self._orders = orders
        self._queue = queue
        self._count = count
        self._running: list[Supervisor] = []
        self._stack = ExitStack()
        self.slots = orders.workers + orders.processes

    def start(self) -> None:
        recorder = self._stack.enter_context(record_to(Path(self._orders.folder)))
        assert recorder is not None
        for _ in range(self._count):
            working = supervisor(self._queue, self._orders, recorder, self._stack, handle_signals=False)
            self._running.append(working.start())

    def wait(self) -> None:
        self.check()

    def check(self) -> None:
        if any(working.failed for working in self._running):
            raise WorkerFailed("so many workers hang in jobs over their timeout that no more jobs are taken")

    def stop(self) -> bool:
        ended = [working.stop(STOP_S) for working in self._running]
        self._stack.close()
        return all(ended)

    def all_processes(self) -> frozenset[int]:
        return frozenset()
