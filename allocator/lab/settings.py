"""What the controls of the lab say of the load, and the workload that this is."""

import math
from typing import Any, Literal

import msgspec

from allocator.bench.workload import Workload
from allocator.lab.orders import TYPES

Arrivals = Literal["poisson", "constant", "onoff"]

URGENT, USUAL = 100, 0
BURST_S = 2.0
"""How long a burst lasts, and the lull after it."""

BURST_SHARE = 0.9
"""Of the jobs arrive in bursts, the others between them."""

BACKOFF_S = 0.5
LEAST_EXPECTED = 20
"""Arrivals in a piece of load: with so many expected, one without any comes once in 485 million pieces."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """
    What arrives and what it takes.

    Args:
        arrivals: `poisson` (at random), `constant` (evenly spaced) or `onoff` (bursts of two seconds).
        rate_per_s: Jobs that arrive, on average; 0 is none.
        service_s: How long an attempt works, on average: exponential.
        failing_share: Share of the attempts that raise an error.
        max_retries: Attempts after the first, before a job becomes a dead letter.
        urgent_share: Share of the jobs with priority 100; that of the others is 0.
    """

    arrivals: Arrivals = "poisson"
    rate_per_s: float = 100.0
    service_s: float = 0.01
    failing_share: float = 0.0
    max_retries: int = 1
    urgent_share: float = 0.1

    def workload(self, duration_s: float, **more: Any) -> Workload:
        """
        The workload that sends like this for so long.

        Args:
            more: Further fields; those given here replace its own.
        Raises:
            InvalidWorkload: Names the field that is out of range.
        """
        fields: dict[str, Any] = {
            "name": "lab",
            "arrival": self.arrival(),
            "duration_s": duration_s,
            "service": _service(self.service_s),
            "failure": {"p_error": self.failing_share},
            "retry": {"max_retries": self.max_retries, "base_s": BACKOFF_S},
            "types": TYPES,
            "priorities": {URGENT: self.urgent_share, USUAL: 1.0 - self.urgent_share},
        }
        return Workload.model_validate(fields | more)

    def arrival(self) -> dict[str, Any]:
        """The arrival model, as a workload has it. Not of a rate of 0, for which there is none."""
        if self.arrivals != "onoff":
            return {"model": self.arrivals, "rate_per_s": self.rate_per_s}
        return {
            "model": "onoff",
            "on_s": BURST_S,
            "off_s": BURST_S,
            "on_rate_per_s": 2 * self.rate_per_s * BURST_SHARE,
            "off_rate_per_s": 2 * self.rate_per_s * (1 - BURST_SHARE),
        }

    def told_since(self, before: "Settings") -> str:
        """What is other than before, in words; empty where nothing is."""
        return ", ".join(f"{name} = {getattr(self, name)}" for name in self.changed_since(before))

    def changed_since(self, before: "Settings") -> list[str]:
        """The names of those that are other than before."""
        return [name for name in self.__struct_fields__ if getattr(self, name) != getattr(before, name)]

    def check(self) -> None:
        """Raises InvalidWorkload, which names the field that is out of range."""
        msgspec.structs.replace(self, rate_per_s=self.rate_per_s or 1.0).workload(1.0)

    def piece(self, seed: int) -> Workload:
        """
        A few seconds of it: whole bursts, and long enough that jobs arrive.

        Whether an attempt fails is for the workers to say when they make it: who mends the cause and puts dead letters
        back wants to see them done.
        """
        cycle_s = 2 * BURST_S
        cycles = max(1, math.ceil(LEAST_EXPECTED / (self.rate_per_s * cycle_s)))
        return self.workload(cycle_s * cycles, seed=seed, failure={"p_error": 0.0})


def _service(mean_s: float) -> dict[str, Any]:
    return {"model": "exponential", "mean_s": mean_s} if mean_s else {"model": "constant", "seconds": 0.0}
