"""Waiting for what other processes do, which gives no signal."""

import time
from collections.abc import Callable

BOUND_S = 60.0


def until(holds: Callable[[], object], what: str) -> None:
    """Return once it holds; a machine that runs tests may be busy."""
    deadline = time.monotonic() + BOUND_S
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {BOUND_S:g} s"
        time.sleep(0.05)
