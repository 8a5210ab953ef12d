"""Job ids: UUID version 7 (RFC 9562), which sort by the time they were made."""

import os
import time
from itertools import product


class _Ids:
    """
    The ids of one process: 48 bits of milliseconds, a 12-bit counter, 50 random bits that are the process's own, and 12
    more bits of the counter.

    Section 6.2 of the RFC allows a counter in place of randomness within one generator. It makes the ids of a process
    unique by construction, rather than by luck, and costs a third. The 12 bits in front are not enough: a loop that
    does nothing else makes more than 4,096 ids in a millisecond. Do not use these ids as secrets.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        # Wall clock once, monotonic from then on: a clock that is set back must not give an id twice.
        self._offset_ns = time.time_ns() - time.monotonic_ns()
        # One tuple, replaced as a whole, so that threads never see half of a change.
        self._prefix = (0, "")
        self._shuffle()

    def _shuffle(self) -> None:
        random_bits = int.from_bytes(os.urandom(8)) >> 2
        node = random_bits & 0xFFFF_FFFF_F000
        suffixes = [f"-{0x8000 | random_bits >> 48:04x}-{node | block:012x}" for block in range(4096)]
        # Written out once: formatting was half the cost of an id. `next` on it is one step, so threads share it.
        self._tails = product(suffixes, [f"{number:03x}" for number in range(4096)])

    def new(self) -> str:
        """A new UUIDv7 as text."""
        now_ms = (time.monotonic_ns() + self._offset_ns) // 1_000_000
        ms, prefix = self._prefix
        if ms != now_ms:
            text = f"{now_ms:012x}"
            prefix = f"{text[:8]}-{text[8:]}-7"
            self._prefix = (now_ms, prefix)
        try:
            suffix, number = next(self._tails)
        except StopIteration:
            # After 16 million ids: other random bits.
            self._shuffle()
            return self.new()
        return f"{prefix}{number}{suffix}"


_ids = _Ids()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ids.reset)

new_id = _ids.new
