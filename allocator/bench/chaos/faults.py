"""The faults of a chaos run: made at random instants, and written down for the checker."""

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from allocator.bench.chaos.programs import Program, choose
from allocator.bench.checker import Fault, Stop

KILL, PAUSE, RESTART, FLUSH, STOP = "kill", "pause", "server restart", "flush", "stop"

STOPPED_IN_ORDER = (0, -signal.SIGTERM)
"""How a program may end when it is told to; the second where it was just starting up."""

NEVER_UP = 2
"""How one ends that was starting while the server was down; it has said so."""


def draw_faults(kills: int, draw: random.Random, *, restarts: bool, flushes: bool) -> list[str]:
    """
    The kinds of faults in the order in which they are made.

    To twelve kills four pauses, one restart and one flush; and two stops, which are no faults and must do no harm.
    """
    kinds = [KILL] * kills + [PAUSE] * max(2, kills // 3)
    kinds += [RESTART] * (max(1, kills // 12) if restarts else 0)
    kinds += [FLUSH] * (max(1, kills // 12) if flushes else 0)
    draw.shuffle(kinds)
    # Here and there among the others, whose order they leave as it was.
    for number in range(stops := max(1, kills // 6)):
        kinds.insert((2 * number + 1) * len(kinds) // (2 * stops), STOP)
    return kinds


class Faults:
    """
    Makes faults. From the main thread only.

    Args:
        restart: Kills the server and starts it again.
        flush: Wipes everything that the server holds.
        at_work: Waits until a job begins in a process or a child of it; None: in any. Not for ever.
        holds_queue: Whether a program holds the queue itself, which ends with it.
    Attributes:
        made, stops: What was done, for the checker.
        crashed: Programs that ended by themselves, and not for want of a server.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        draw: random.Random,
        lease_s: float,
        restart: Callable[[], None],
        flush: Callable[[], None],
        at_work: Callable[[int | None], None],
        *,
        holds_queue: bool,
    ) -> None:
        self._programs = programs
        self._draw = draw
        self._draw_stops = random.Random(len(programs))
        self._pause_s = 1.5 * lease_s
        self._restart = restart
        self._flush = flush
        self._at_work = at_work
        self._holds_queue = holds_queue
        self._paused: list[tuple[Program, int, float]] = []
        self.made: list[Fault] = []
        self.stops: list[Stop] = []
        self.crashed = 0

    def make(self, kind: str) -> None:
        """Make one; a pause goes on by itself, and ends in a later call or in `end`."""
        self._resume(time.time())
        match kind:
            case "kill":
                self._kill(*choose(self._draw, self._programs))
            case "pause":
                # Not a worker process: that would be a slow job to its supervisor, and no lease would be lost.
                program = self._draw.choice(self._programs)
                pid = program.pid
                if all(pid != paused for _, paused, _ in self._paused):
                    self._at_work(pid)
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGSTOP)
                        self._paused.append((program, pid, time.time()))
            case "server restart" | "flush":
                self._at_work(None)
                began = time.time()
                self._restart() if kind == RESTART else self._flush()
                self.made.append(Fault(kind, began, time.time(), forgets=kind == FLUSH))
            case "stop":
                self._stop()
        self.revive()

    def revive(self) -> None:
        """Start again what has ended by itself."""
        for program in self._programs:
            if (status := program.ended_with()) is not None:
                self.crashed += status != NEVER_UP
                program.start()

    def end(self) -> None:
        """Let everything that is stopped go on."""
        self._resume(float("inf"))

    def _kill(self, program: Program, child: int | None) -> None:
        if all(program is not paused for paused, _, _ in self._paused):
            self._at_work(program.pid if child is None else child)
        began = time.time()
        if child is None:
            pid = program.pid
            program.kill()
            self._settle_pauses(program)
            program.start()
            self.made.append(
                Fault(KILL, began, time.time(), frozenset([pid]), program.slots, forgets=self._holds_queue)
            )
            return
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
            self.made.append(Fault(KILL, began, time.time(), frozenset([child]), 1))

    def _stop(self) -> None:
        """Ask a program to stop, wait until it has, and start it again."""
        paused = [program for program, _, _ in self._paused]
        able = [program for program in self._programs if program not in paused]
        program = self._draw_stops.choice(able or self._programs)
        # One that stands still cannot hear.
        self._settle_pauses(program)
        processes = frozenset([program.pid, *program.children()])
        began = time.time()
        if (status := program.stop()) != NEVER_UP:
            self.stops.append(Stop(began, time.time(), processes, status in STOPPED_IN_ORDER))
        program.start()

    def _resume(self, now: float) -> None:
        for program, pid, since in list(self._paused):
            if now >= since + self._pause_s:
                self._go_on(program, pid, since)

    def _settle_pauses(self, program: Program) -> None:
        """Pauses in a program that ends are over with it; what of it is stopped must go on in order to end."""
        for paused_program, pid, since in list(self._paused):
            if paused_program is program:
                self._go_on(program, pid, since)

    def _go_on(self, program: Program, pid: int, since: float) -> None:
        self._paused.remove((program, pid, since))
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        self.made.append(Fault(PAUSE, since, time.time(), frozenset([pid]), program.slots))
