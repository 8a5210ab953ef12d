"""Calls in threads, and waiting for them within a bound."""

import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

LONG_S = 60.0
"""More than anything here takes on a busy machine: whoever waits so long has hung."""


class Running(Generic[T]):
    """
    A call in a thread of its own.

    Args:
        call: What to run.
        arguments: For it.
    """

    def __init__(self, call: Callable[..., T], *arguments: Any) -> None:
        self._call = call
        self._arguments = arguments
        self._value: list[T] = []
        self._error: BaseException | None = None
        # A daemon: one that hangs fails its test and does not keep the process from ending.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value.append(self._call(*self._arguments))
        except BaseException as error:
            self._error = error

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self, within_s: float = LONG_S) -> T:
        """What the call returned or raised; fails if it has done neither in time."""
        self._thread.join(within_s)
        assert self.done, f"{self._call} did not return within {within_s:g} s"
        if self._error is not None:
            raise self._error
        return self._value[0]


def until(holds: Callable[[], Any], what: str, within_s: float = LONG_S) -> None:
    """Wait for what gives no signal."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {within_s:g} s"
        time.sleep(0.005)


def raised_within(seconds: float, call: Callable[..., Any], *arguments: Any) -> Exception:
    """The error that a call raises within this time; fails if it raises none."""
    try:
        value = Running(call, *arguments).result(seconds)
    except AssertionError:
        raise
    except Exception as error:
        return error
    raise AssertionError(f"{call} raised nothing and returned {value!r}")
