"""The delay before the next attempt."""

import math
import random

import msgspec

MAX_CAP_S = 10 * 365 * 86400.0
"""The longest delay that a queue takes: ten years."""


class Backoff(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    Exponential backoff: `base * factor**(n - 1)` seconds after failed attempt number n, at most `cap`.

    Args:
        base: Seconds after the first failed attempt.
        factor: Ratio of one delay to the one before it.
        cap: The longest delay, in seconds; at most ten years.
        jitter: In [0, 1]: the share of the delay that may be taken off at random. 0 is off, 1 is the
            "full jitter" of Brooker, Exponential Backoff And Jitter (2015). Jitter never adds.
        seed: Makes the jitter a pure function of (seed, key, n); without it each call draws anew.
    """

    base: float = 1.0
    factor: float = 2.0
    cap: float = 3600.0
    jitter: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        for field in ("base", "factor", "cap"):
            value = getattr(self, field)
            if isinstance(value, bool) or not math.isfinite(value) or value < 0:
                raise ValueError(f"backoff.{field} must be a finite number of at least 0, not {value!r}")
        if self.cap > MAX_CAP_S:
            raise ValueError(f"backoff.cap must be at most {MAX_CAP_S:.0f} seconds (ten years), not {self.cap!r}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"backoff.jitter must be between 0 and 1, not {self.jitter!r}")

    def delay(self, failed_count: int, *, key: str = "") -> float:
        """
        Seconds to wait after failed attempt number `failed_count` (1, 2, …).

        `key`, by habit the job's id, keeps seeded jitter from moving all jobs in step.
        """
        if failed_count < 1:
            raise ValueError(f"failed_count counts from 1, not {failed_count}")
        try:
            delay = min(self.cap, self.base * self.factor ** (failed_count - 1))
        except OverflowError:
            delay = self.cap if self.base else 0.0
        if self.jitter:
            source = random.Random(None if self.seed is None else f"{self.seed}:{key}:{failed_count}")
            delay *= 1 - self.jitter * source.random()
        return delay
