"""What SIGTERM and SIGINT do while a supervisor runs."""

import logging
import signal
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)

NUMBERS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """
    The first one asks for a stop, the second ends the process at once.

    Args:
        stopping: Set when a stop is asked for; where somebody else has done so, the first signal ends at once.
    """

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._previous: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}
        self._arrived: SimpleQueue[int | None] = SimpleQueue()
        self._came = False
        self._over = False

    def install(self) -> None:
        """
        Handle them from now on.

        Raises:
            ValueError: This is not the main thread.
        """
        if threading.current_thread() is not threading.main_thread():
            raise ValueError("handle_signals: signals can only be handled from the main thread; start it there")
        threading.Thread(target=self._pass_on, name="allocator-signals", daemon=True).start()
        for number in NUMBERS:
            self._previous[number] = signal.signal(number, self._on_signal)

    def put_back(self) -> None:
        """Let those handle them that did before; outside the main thread that must wait until one comes."""
        self._over = True
        self._arrived.put(None)
        if threading.current_thread() is threading.main_thread():
            self._put_back()

    def _put_back(self) -> None:
        for number, handler in self._previous.items():
            # Who has taken it since shall keep it.
            if signal.getsignal(number) == self._on_signal:
                # None: it was not installed from Python, and cannot be from here.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._over:
            self._put_back()
            previous = self._previous[number]
            if callable(previous):
                previous(number, frame)
            elif previous != signal.SIG_IGN:
                _end_at_once(number)
        elif self._came or self._stopping.is_set():
            _end_at_once(number)
        else:
            self._came = True
            # Nothing else is allowed here: the thread that was interrupted may hold the lock of the event or of the
            # log, and would wait for itself.
            self._arrived.put(number)

    def _pass_on(self) -> None:
        number = self._arrived.get()
        if number is not None:
            log.warning("signal %d: stopping; once more ends at once", number)
            self._stopping.set()


def _end_at_once(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
