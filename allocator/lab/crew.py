"""The programs of a session: its workers and its load, started here, watched, and replaced when they die."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from allocator.domain.errors import AllocatorError
from allocator.lab import tallies
from allocator.lab.orders import Orders
from allocator.lab.settings import Settings

WORKER, LOAD = "allocator.lab.worker", "allocator.lab.load"
LOOK_S = 0.1
BETWEEN_STARTS_S = 1.0
"""At least so long passes from one start of a program to the next, should it die at once."""

END_S = 8.0
SAID_CHARS = 600


class NoSuchWorker(AllocatorError, LookupError):
    """There is no worker of that number."""


@dataclass
class Program:
    """A program that is to run, and the process that runs it now."""

    label: str
    module: str
    process: subprocess.Popen[bytes] | None = None
    pids: list[int] = field(default_factory=list)
    """All that ever ran it."""
    started_at: float = 0.0
    paused: bool = False
    leaving: bool = False
    """Asked to finish its job and end."""
    hit: bool = False
    """Killed from here, which is no trouble to tell of."""

    @property
    def pid(self) -> int | None:
        return None if self.process is None else self.process.pid

    @property
    def restarts(self) -> int:
        """How often another process took the place of one that had died."""
        return max(0, len(self.pids) - 1)

    def signal(self, number: signal.Signals) -> None:
        """Send it, if it runs."""
        if self.process is not None:
            self.process.send_signal(number)


class Crew:
    """
    Workers and load of a session. Thread-safe.

    One thread starts them all and lives as long as they do: the kernel ends a program with the thread that started it.

    Attributes:
        problem: What was last said by a program that died by itself; empty: none has.
    """

    def __init__(self, orders: Orders, settings: Settings, workers: int) -> None:
        self._orders = orders
        self._settings = settings
        self._failing = tallies.new_share(orders.path)
        self._failing[0] = settings.failing_share
        self._numbers = itertools.count()
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._closing = False
        self.problem = ""
        self.load = Program("load", LOAD)
        self._workers: dict[int, Program] = {}
        for _ in range(workers):
            self.add()
        self._keeper = threading.Thread(target=self._keep, name="lab-keeper", daemon=True)
        self._keeper.start()

    @property
    def workers(self) -> dict[int, Program]:
        """Number -> worker, of those there are; a copy."""
        with self._lock:
            return dict(self._workers)

    def change(self, settings: Settings) -> None:
        """Let the load go on like this."""
        with self._lock:
            self._settings = settings
            self._failing[0] = settings.failing_share
            self._tell_load()

    def add(self) -> int:
        """One worker more; gives its number."""
        with self._lock:
            number = next(self._numbers)
            self._workers[number] = Program(f"worker {number}", WORKER)
        self._wake.set()
        return number

    def remove(self, number: int) -> None:
        """Let a worker finish what it does, and end."""
        with self._lock:
            worker = self._worker(number)
            worker.leaving, worker.paused = True, False
            worker.signal(signal.SIGCONT)
            worker.signal(signal.SIGTERM)
        self._wake.set()

    def kill(self, number: int) -> None:
        """SIGKILL; it is replaced at once."""
        with self._lock:
            worker = self._worker(number)
            worker.hit = True
            worker.signal(signal.SIGKILL)
        self._wake.set()

    def pause(self, number: int) -> None:
        """SIGSTOP: it holds what it has, and its lease runs out."""
        with self._lock:
            worker = self._worker(number)
            worker.signal(signal.SIGSTOP)
            # One that is being replaced is not there to be paused.
            worker.paused = worker.process is not None

    def resume(self, number: int) -> None:
        """SIGCONT."""
        with self._lock:
            worker = self._worker(number)
            worker.signal(signal.SIGCONT)
            worker.paused = False

    def close(self) -> None:
        """End them all: in order where they can within eight seconds. Idempotent."""
        with self._lock:
            self._closing = True
            programs = [self.load, *self._workers.values()]
            for program in programs:
                program.signal(signal.SIGCONT)
                program.signal(signal.SIGTERM)
        self._wake.set()
        deadline = time.monotonic() + END_S
        for program in programs:
            if program.process is not None:
                with suppress(subprocess.TimeoutExpired):
                    program.process.wait(max(0.0, deadline - time.monotonic()))
                program.process.kill()
                program.process.wait()
                if program.process.stdin is not None:
                    with suppress(OSError):
                        program.process.stdin.close()
        self._keeper.join()

    def _worker(self, number: int) -> Program:
        if number not in self._workers:
            there = ", ".join(map(str, self._workers)) or "none"
            raise NoSuchWorker(f"there is no worker {number}: it was removed. There are: {there}")
        return self._workers[number]

    def _keep(self) -> None:
        while True:
            with self._lock:
                if self._closing:
                    return
                try:
                    self._look_after_all()
                except Exception as error:
                    # Whatever it is, a machine without room for another process above all: without this thread nothing
                    # would ever be replaced again.
                    self.problem = f"no program can be started or looked after; trying again: {error}"
            self._wake.wait(LOOK_S)
            self._wake.clear()

    def _look_after_all(self) -> None:
        self._look_after(self.load)
        for number, worker in list(self._workers.items()):
            self._look_after(worker)
            if worker.leaving and worker.process is None:
                del self._workers[number]

    def _look_after(self, program: Program) -> None:
        process = program.process
        if process is not None:
            if process.poll() is None:
                return
            if not (program.hit or program.leaving):
                self.problem = f"{program.label} ended with status {process.returncode}: {self._said(program)}"
            program.process, program.paused, program.hit = None, False, False
        if not program.leaving and time.monotonic() - program.started_at >= BETWEEN_STARTS_S:
            self._start(program)

    def _start(self, program: Program) -> None:
        program.started_at = time.monotonic()
        orders = msgspec.json.encode(msgspec.structs.replace(self._orders, parent=os.getpid())).decode()
        with self._log(program).open("ab") as log:
            program.process = subprocess.Popen(
                [sys.executable, "-m", program.module, orders],
                stdin=subprocess.PIPE if program is self.load else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # An interrupt of the kernel is not for them.
                start_new_session=True,
            )
        program.pids.append(program.process.pid)
        if program is self.load:
            self._tell_load()

    def _tell_load(self) -> None:
        process = self.load.process
        if process is not None and process.stdin is not None:
            # Who has died is told again when it is started anew.
            with suppress(BrokenPipeError):
                process.stdin.write(msgspec.json.encode(self._settings) + b"\n")
                process.stdin.flush()

    def _log(self, program: Program) -> Path:
        return self._orders.path / f"{program.label.replace(' ', '-')}.log"

    def _said(self, program: Program) -> str:
        text = self._log(program).read_text("utf-8", "replace").strip()
        return text[-SAID_CHARS:] or "it said nothing"
