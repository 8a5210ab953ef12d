"""Waiting for an instant, more exactly than `time.sleep` does."""

import ctypes
import sys
import threading
import time
from collections.abc import Callable

SPIN_NS = 300_000
"""Sleep overshoots by less than this, so the last part of a wait is spent looking at the clock."""

LOOK_NS = 50_000_000
"""How long at most it takes until a wait notices that it is to end."""

_PR_SET_TIMERSLACK = 29

_local = threading.local()


def be_punctual() -> None:
    """
    Let sleeps of this thread end as soon as the kernel can: Linux adds 50 us to each otherwise.

    See PR_SET_TIMERSLACK in prctl(2). Does nothing elsewhere.
    """
    if not getattr(_local, "is_punctual", False):
        _local.is_punctual = True
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


def wait_until(at_ns: int, ended: Callable[[], bool]) -> bool:
    """
    Return at an instant of CLOCK_MONOTONIC, or at once where it has passed: by sleep, then by looking at the clock.

    Returns:
        False where `ended` said so before; it is asked every 50 ms.
    """
    while (left_ns := at_ns - time.monotonic_ns()) > SPIN_NS:
        if ended():
            return False
        time.sleep(min(left_ns - SPIN_NS, LOOK_NS) / 1e9)
    while time.monotonic_ns() < at_ns:
        pass
    return not ended()
