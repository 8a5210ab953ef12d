"""What was done in a session, each with its time, so that it can be shown, and written down for a machine to repeat."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from allocator.lab.settings import Settings

TOGETHER_S = 1.0
"""Settings that change so soon after each other are one step: a slider passes many on its way."""


@dataclass(frozen=True)
class Action:
    """
    One thing that was done.

    Args:
        at_s: Seconds since the session began.
        kind: settings, rest, go on; kill, pause, resume, add, remove of a worker; pause server, resume server, restart
            server, flushall; put back, purged.
        told: The same in words.
        number: Of the worker.
        settings: From then on.
    """

    at_s: float
    kind: str
    told: str
    number: int | None = None
    settings: Settings | None = None


class Log:
    """
    Of a session. Thread-safe.

    Args:
        settings, workers: With which it begins.
        now: A clock, in seconds.
    """

    def __init__(self, settings: Settings, workers: int, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._began_at = now()
        self.settings, self.workers = settings, workers
        self._ended_at: float | None = None
        self._lock = threading.Lock()
        self._actions: list[Action] = []

    @property
    def now_s(self) -> float:
        """Seconds since the session began; once it is over, how long it took."""
        return (self._now() if self._ended_at is None else self._ended_at) - self._began_at

    def end(self) -> None:
        """The session is over."""
        self._ended_at = self._now()

    @property
    def actions(self) -> list[Action]:
        """All of them so far, in order; a copy."""
        with self._lock:
            return list(self._actions)

    def note(self, kind: str, told: str, number: int | None = None, settings: Settings | None = None) -> str:
        """It was done just now; gives `told`."""
        with self._lock:
            last = self._actions[-1] if self._actions else None
            if settings is not None and last is not None and last.kind == kind and self.now_s - last.at_s < TOGETHER_S:
                self._actions.pop()
            self._actions.append(Action(self.now_s, kind, told, number, settings))
        return told
