"""
How long jobs take, how long they are delayed, and how large they are.

Each model draws one value a job from a stream of its own, so that job number n gets the same value however many follow.
"""

from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import Field, model_validator

from allocator.bench.models import (
    Bytes,
    Integers,
    Model,
    Numbers,
    Seconds,
    Share,
    Sigma,
    SomeSeconds,
    SomeWeight,
    Weight,
    draw_weighted,
)

Stream: TypeAlias = np.random.Generator


class ConstantSeconds(Model):
    """Every job the same."""

    model: Literal["constant"] = "constant"
    seconds: Seconds

    def draw(self, stream: Stream, count: int) -> Numbers:
        """Seconds, one a job."""
        return np.full(count, self.seconds)


class UniformSeconds(Model):
    """Evenly spread from `low_s` to `high_s`."""

    model: Literal["uniform"] = "uniform"
    low_s: Seconds
    high_s: Seconds

    @model_validator(mode="after")
    def _in_order(self) -> "UniformSeconds":
        if self.low_s > self.high_s:
            raise ValueError(f"low_s ({self.low_s:g}) is above high_s ({self.high_s:g})")
        return self

    def draw(self, stream: Stream, count: int) -> Numbers:
        """Seconds, one a job."""
        return self.low_s + (self.high_s - self.low_s) * stream.random(count)


class ExponentialSeconds(Model):
    """Exponential: the service time of an M/M/c queue."""

    model: Literal["exponential"] = "exponential"
    mean_s: SomeSeconds

    def draw(self, stream: Stream, count: int) -> Numbers:
        """Seconds, one a job."""
        return self.mean_s * stream.standard_exponential(count)


class LognormalSeconds(Model):
    """Lognormal: half of the jobs take less than `median_s`, and a few take many times as long."""

    model: Literal["lognormal"] = "lognormal"
    median_s: SomeSeconds
    sigma: Sigma = Field(description="Standard deviation of the logarithm.")

    def draw(self, stream: Stream, count: int) -> Numbers:
        """Seconds, one a job."""
        return self.median_s * np.exp(self.sigma * stream.standard_normal(count))


class BimodalSeconds(Model):
    """Two kinds of job: a share of `p` takes `a_s`, the others `b_s`."""

    model: Literal["bimodal"] = "bimodal"
    p: Share = Field(description="Share of the jobs that take `a_s`.")
    a_s: Seconds
    b_s: Seconds

    def draw(self, stream: Stream, count: int) -> Numbers:
        """Seconds, one a job."""
        return np.where(stream.random(count) < self.p, self.a_s, self.b_s)


Durations: TypeAlias = Annotated[
    ConstantSeconds | UniformSeconds | ExponentialSeconds | LognormalSeconds | BimodalSeconds,
    Field(discriminator="model"),
]


class ConstantBytes(Model):
    """Every payload the same size."""

    model: Literal["constant"] = "constant"
    bytes: Bytes

    def draw(self, stream: Stream, count: int) -> Integers:
        """Bytes, one number a job."""
        return np.full(count, self.bytes, dtype=np.int64)


class UniformBytes(Model):
    """Evenly spread from `low_bytes` to `high_bytes`, both included."""

    model: Literal["uniform"] = "uniform"
    low_bytes: Bytes
    high_bytes: Bytes

    @model_validator(mode="after")
    def _in_order(self) -> "UniformBytes":
        if self.low_bytes > self.high_bytes:
            raise ValueError(f"low_bytes ({self.low_bytes}) is above high_bytes ({self.high_bytes})")
        return self

    def draw(self, stream: Stream, count: int) -> Integers:
        """Bytes, one number a job."""
        # Not stream.integers, of which each draw may take more than one number from the stream.
        return self.low_bytes + np.floor((self.high_bytes - self.low_bytes + 1) * stream.random(count)).astype(np.int64)


class LognormalBytes(Model):
    """Lognormal, rounded to whole bytes: most payloads small, a few very large."""

    model: Literal["lognormal"] = "lognormal"
    median_bytes: Annotated[Bytes, Field(ge=1)]
    sigma: Sigma = Field(description="Standard deviation of the logarithm.")

    def draw(self, stream: Stream, count: int) -> Integers:
        """Bytes, one number a job."""
        drawn: Integers = np.rint(self.median_bytes * np.exp(self.sigma * stream.standard_normal(count))).astype(
            np.int64
        )
        return drawn


class ChoiceOfBytes(Model):
    """One of several sizes, each as often as its weight says."""

    model: Literal["choice"] = "choice"
    weights: Annotated[dict[Bytes, Weight], SomeWeight] = Field(description="Bytes -> weight.")

    def draw(self, stream: Stream, count: int) -> Integers:
        """Bytes, one number a job."""
        sizes: Integers = np.array(sorted(self.weights), dtype=np.int64)
        return sizes[draw_weighted(self.weights, stream, count)]


Sizes: TypeAlias = Annotated[
    ConstantBytes | UniformBytes | LognormalBytes | ChoiceOfBytes,
    Field(discriminator="model"),
]
