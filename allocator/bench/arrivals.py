"""
When jobs arrive: the intended instants of each model, made before the run.

The four random models are one Poisson process of rate 1, each read on a clock of its own: the inverse of the expected
number of arrivals until t (Çinlar, Introduction to Stochastic Processes, 1975, on non-stationary Poisson processes). So
the same seed gives the same bursts of luck at every rate.
"""

from typing import Annotated, ClassVar, Literal, Protocol, TypeAlias

import numpy as np
from pydantic import Field, model_validator

from allocator.bench.errors import InvalidWorkload
from allocator.bench.models import Count, Factor, Model, Numbers, Rate, RateFromZero, Seconds, SomeSeconds
from allocator.bench.trace import read_trace

MAX_JOBS = 10_000_000
"""Most jobs of one plan, which is held in memory."""


class Schedule(Protocol):
    """What every model of an open loop does."""

    def instants(self, stream: np.random.Generator, duration_s: float | None, jobs: int | None) -> Numbers:
        """
        Seconds from the start of the schedule, never decreasing: all below `duration_s`, or the first `jobs`.

        Raises:
            InvalidWorkload: There would be more than MAX_JOBS.
        """
        ...


class Closed(Model):
    """
    A closed loop: each client enqueues its next job when its last one has ended.

    It slows down with the system, so that its waiting hides stalls: use it for the drain rate, never for latency.
    """

    OPEN: ClassVar[bool] = False
    model: Literal["closed"] = "closed"
    clients: Count = Field(description="Jobs under way at a time.")


class Constant(Model):
    """Arrivals evenly spaced, the first at 0."""

    OPEN: ClassVar[bool] = True
    model: Literal["constant"] = "constant"
    rate_per_s: Rate

    def instants(self, stream: np.random.Generator, duration_s: float | None, jobs: int | None) -> Numbers:
        """See Schedule."""
        if jobs is None:
            assert duration_s is not None
            jobs = int(np.ceil(_few(duration_s * self.rate_per_s, "arrival.rate_per_s")))
        at = np.arange(jobs) / self.rate_per_s
        return at if duration_s is None else at[at < duration_s]


class Poisson(Model):
    """Arrivals that know nothing of each other: exponential gaps."""

    OPEN: ClassVar[bool] = True
    model: Literal["poisson"] = "poisson"
    rate_per_s: Rate

    def instants(self, stream: np.random.Generator, duration_s: float | None, jobs: int | None) -> Numbers:
        """See Schedule."""
        expected = None if duration_s is None else duration_s * self.rate_per_s
        return _unit_poisson(stream, expected, jobs, "arrival.rate_per_s") / self.rate_per_s


class OnOff(Model):
    """Bursts: Poisson at one rate for `on_s`, then at another for `off_s`, and so on, beginning with a burst."""

    OPEN: ClassVar[bool] = True
    model: Literal["onoff"] = "onoff"
    on_s: SomeSeconds
    off_s: SomeSeconds
    on_rate_per_s: Rate
    off_rate_per_s: RateFromZero = 0.0

    def instants(self, stream: np.random.Generator, duration_s: float | None, jobs: int | None) -> Numbers:
        """See Schedule."""
        burst = self.on_s * self.on_rate_per_s
        cycle, cycle_s = burst + self.off_s * self.off_rate_per_s, self.on_s + self.off_s
        expected = None
        if duration_s is not None:
            cycles, rest_s = divmod(duration_s, cycle_s)
            expected = cycles * cycle + float(np.interp(rest_s, [0, self.on_s, cycle_s], [0, burst, cycle]))
        cycles_before, rest = np.divmod(_unit_poisson(stream, expected, jobs, "arrival.on_rate_per_s"), cycle)
        at = cycles_before * cycle_s + np.interp(rest, [0, burst, cycle], [0, self.on_s, cycle_s])
        # Where one cycle meets the next, rounding may put two arrivals in the wrong order, by their last digit.
        return np.maximum.accumulate(at)


class Ramp(Model):
    """Poisson at a rate that changes evenly over the whole duration."""

    OPEN: ClassVar[bool] = True
    model: Literal["ramp"] = "ramp"
    from_rate_per_s: RateFromZero
    to_rate_per_s: RateFromZero

    @model_validator(mode="after")
    def _not_nothing(self) -> "Ramp":
        if not self.from_rate_per_s + self.to_rate_per_s > 0:
            raise ValueError("from_rate_per_s and to_rate_per_s are both 0, so that no job would arrive")
        return self

    def instants(self, stream: np.random.Generator, duration_s: float | None, jobs: int | None) -> Numbers:
        """See Schedule. Over `duration_s`, which a ramp needs."""
        assert duration_s is not None
        low, high = self.from_rate_per_s, self.to_rate_per_s
        arrived = _unit_poisson(stream, duration_s * (low + high) / 2, None, "arrival.to_rate_per_s")
        # The root of low*t + (high - low)*t**2 / (2*duration_s) = arrived, in the form that loses no digits.
        under_root = np.maximum(low**2 + 2 * (high - low) * arrived / duration_s, 0.0)
        return np.maximum.accumulate(2 * arrived / (low + np.sqrt(under_root)))


class RateStep(Model):
    """From an instant on, a rate."""

    at_s: Seconds
    rate_per_s: RateFromZero


class Steps(Model):
    """Poisson at a rate that changes at instants, the first of them 0: what a hand on a slider does."""

    OPEN: ClassVar[bool] = True
    model: Literal["steps"] = "steps"
    rates: Annotated[tuple[RateStep, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _in_order(self) -> "Steps":
        at = [step.at_s for step in self.rates]
        if at[0] != 0 or sorted(set(at)) != at:
            raise ValueError(f"the instants of rates must begin with 0 and ascend, not {at}")
        return self

    def instants(self, stream: np.random.Generator, duration_s: float | None, jobs: int | None) -> Numbers:
        """See Schedule. Over `duration_s`, which steps need."""
        assert duration_s is not None
        ends = np.array([step.at_s for step in self.rates if step.at_s < duration_s] + [duration_s])
        rates = [step.rate_per_s for step in self.rates][: len(ends) - 1]
        expected = np.concatenate([[0.0], np.cumsum(rates * np.diff(ends))])
        arrived = _unit_poisson(stream, float(expected[-1]), None, "arrival.rates")
        at: Numbers = np.interp(arrived, expected, ends)
        return at


class Trace(Model):
    """The replay of recorded arrivals; see `read_trace` for the file. The whole trace, unless less is asked for."""

    OPEN: ClassVar[bool] = True
    model: Literal["trace"] = "trace"
    file: Annotated[str, Field(min_length=1)] = Field(description="Path of a CSV file, or the name of a shipped one.")
    speed: Factor = Field(1.0, description="2 replays an hour in half an hour.")

    def instants(self, stream: np.random.Generator, duration_s: float | None, jobs: int | None) -> Numbers:
        """See Schedule."""
        at = read_trace(self.file) / self.speed
        return at[:jobs] if duration_s is None else at[at < duration_s]


Arrival: TypeAlias = Annotated[
    Closed | Constant | Poisson | OnOff | Ramp | Steps | Trace,
    Field(discriminator="model"),
]


def _unit_poisson(stream: np.random.Generator, expected: float | None, jobs: int | None, field: str) -> Numbers:
    """Arrivals of a Poisson process of rate 1: all below `expected`, or the first `jobs`."""
    if expected is None:
        assert jobs is not None
        return np.cumsum(stream.standard_exponential(jobs))
    _few(expected, field)
    # Ten standard deviations more than expected nearly always reach it; else as many again are drawn.
    gaps = stream.standard_exponential(int(expected + 10 * np.sqrt(expected) + 20))
    while (at := np.cumsum(gaps))[-1] < expected:
        gaps = np.concatenate([gaps, stream.standard_exponential(len(gaps))])
    return at[at < expected]


def _few(expected: float, field: str) -> float:
    if expected > MAX_JOBS:
        raise InvalidWorkload(
            field, f"{expected:,.0f} jobs would arrive, of which {MAX_JOBS:,} are the most in one run"
        )
    return expected
