"""Clocks: seconds since the Unix epoch, as a float, that never go backwards."""

import threading
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """What a queue asks for the time."""

    @property
    def now(self) -> Callable[[], float]:
        """Gives seconds since the Unix epoch. Never less than an earlier answer."""
        ...


class SystemClock:
    """The wall clock as it was when this object was made, carried on by the monotonic clock.

    A wall clock that is set while a process runs would expire leases early or never.
    """

    def __init__(self) -> None:
        monotonic = time.monotonic
        offset = time.time() - monotonic()
        # A function rather than a method: asked three times for each job in process, look-ups show.
        self.now: Callable[[], float] = lambda: monotonic() + offset


class ManualClock:
    """A clock that a test moves by hand."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []

    def now(self) -> float:
        """Seconds since the Unix epoch, as far as this clock was moved."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the time forward by `seconds`, and wake whoever waits for it."""
        if seconds < 0:
            raise ValueError(f"a clock never goes backwards; advance({seconds}) was asked")
        with self._lock:
            self._now += seconds
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def on_advance(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every advance, in the thread that advances."""
        with self._lock:
            self._listeners.append(listener)
