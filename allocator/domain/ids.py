"""Job ids: UUID version 7 (RFC 9562), which sort by the time they were made."""

import os
import time
from itertools import cycle


class _Ids:
    """
    The ids of one process: 48 bits of milliseconds, a 12-bit counter, 62 random bits that are the process's own.

    Section 6.2 of the RFC allows a counter in place of randomness within one generator. It makes the ids of a process
    unique by construction (4,096 each millisecond is more than Python can make), rather than by luck, and costs
    a third. Do not use these ids as secrets.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        # Wall clock once, monotonic from then on: a clock that is set back must not give an id twice.
        self._offset_ns = time.time_ns() - time.monotonic_ns()
        random_bits = int.from_bytes(os.urandom(8)) >> 2
        suffix = f"-{0x8000 | random_bits >> 48:04x}-{random_bits & 0xFFFF_FFFF_FFFF:012x}"
        # Written out once: formatting was half the cost of an id. `next` on it is one step, so threads share it.
        self._tails = cycle([f"{number:03x}{suffix}" for number in range(4096)])
        # One tuple, replaced as a whole, so that threads never see half of a change.
        self._prefix = (0, "")

    def new(self) -> str:
        """A new UUIDv7 as text."""
        now_ms = (time.monotonic_ns() + self._offset_ns) // 1_000_000
        ms, prefix = self._prefix
        if ms != now_ms:
            text = f"{now_ms:012x}"
            prefix = f"{text[:8]}-{text[8:]}-7"
            self._prefix = (now_ms, prefix)
        return prefix + next(self._tails)


_ids = _Ids()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ids.reset)

new_id = _ids.new
