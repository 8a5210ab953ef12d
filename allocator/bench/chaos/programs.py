"""Programs that work through the jobs of a chaos run, to be killed, stopped and started anew."""

import ctypes
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil

from allocator.bench.chaos.body import PROCESSOR, TRACE, TYPE
from allocator.domain.job import Job

STOP_S = 60.0
"""A program that has not ended this long after SIGTERM has hung."""

_PR_SET_PDEATHSIG = 1


class Gone(Exception):
    """The program ended while something was asked of it."""


class Program:
    """
    One program, started again and again.

    Args:
        command: After the interpreter.
        log: Where its standard error goes.
        trace: See `allocator.bench.chaos.body`.
        slots: Jobs that it runs at a time.
        talks: Whether it is spoken to over standard input and output.
    """

    def __init__(self, command: Sequence[str], log: Path, trace: Path, slots: int, *, talks: bool = False) -> None:
        self.slots = slots
        self._command = [sys.executable, *command]
        self._log = log
        self._environment = {**os.environ, TRACE: str(trace)}
        self._talks = talks
        self._talking = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, in the place of the one before. From the main thread, or it ends with the thread."""
        pipe = subprocess.PIPE if self._talks else subprocess.DEVNULL
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=pipe,
                stdout=subprocess.PIPE if self._talks else log,
                stderr=log,
                env=self._environment,
                preexec_fn=_die_with_parent,
            )

    def children(self) -> list[int]:
        """Its worker processes at the moment."""
        with suppress(psutil.NoSuchProcess):
            return [child.pid for child in psutil.Process(self.pid).children()]
        return []

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def ended_with(self) -> int | None:
        """Its exit status; None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def stop(self) -> int:
        """SIGTERM, or the end of its input; gives its exit status. One that hangs is killed and gives that status."""
        assert self._process is not None
        if self._process.stdin is not None:
            # What is being asked is answered first.
            with self._talking, suppress(OSError):
                self._process.stdin.close()
        elif self._process.poll() is None:
            self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(STOP_S)
        self.kill()
        return self._process.wait()

    def ask(self, line: bytes) -> bytes:
        """
        Say a line, and return the line that it answers.

        Raises:
            Gone: It ended first; whether it has done what was asked is unknown.
        """
        with self._talking:
            process = self._process
            assert process is not None
            assert process.stdin is not None
            assert process.stdout is not None
            # A ValueError: it was asked to stop meanwhile.
            with suppress(OSError, ValueError):
                process.stdin.write(line + b"\n")
                process.stdin.flush()
                if answer := process.stdout.readline():
                    return answer
        raise Gone


def _die_with_parent() -> None:
    """Linux: SIGKILL when the one who started it is gone; elsewhere it is left to the one who started it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def worker_programs(
    url: str, name: str, store_url: str, lease_s: float, folder: Path, sabotage: str | None
) -> list[Program]:
    """Three times `allocator worker` on one queue: twice with threads, once with processes."""
    start = ["-m", "allocator.cli"] if sabotage is None else ["-m", "allocator.bench.chaos.sabotage", sabotage]
    programs = []
    for number, (option, slots) in enumerate((("--workers", 4), ("--workers", 2), ("--processes", 2))):
        command = [*start, "worker", "-q", url, "-n", name, "-p", f"{TYPE}={PROCESSOR}", "-s", store_url]
        command += ["--lease", f"{lease_s:g}", "--reconcile", f"{lease_s / 2:g}", option, str(slots)]
        programs.append(Program(command, folder / f"worker-{number}.log", folder / "trace", slots))
    return programs


def in_process_program(name: str, store_url: str, lease_s: float, folder: Path, sabotage: str | None) -> Program:
    """One program that holds the queue too."""
    start = ["-m", "allocator.bench.chaos.inprocess"]
    if sabotage is not None:
        start = ["-m", "allocator.bench.chaos.sabotage", sabotage, "inprocess"]
    command = [*start, name, store_url, f"{lease_s:g}"]
    return Program(command, folder / "worker.log", folder / "trace", 4, talks=True)


def submit_to(program: Program, jobs: Sequence[Job]) -> bool:
    """Have a program that holds the queue accept jobs; False where it was killed meanwhile."""
    try:
        return program.ask(msgspec.json.encode(jobs)) == b"accepted\n"
    except Gone:
        return False


def choose(draw: random.Random, programs: Sequence[Program]) -> tuple[Program, int | None]:
    """Whom the next fault hits: a program, or one of its worker processes."""
    program = draw.choice(programs)
    children = program.children()
    return program, draw.choice(children) if children and draw.random() < 0.5 else None
