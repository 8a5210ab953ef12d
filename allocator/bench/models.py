"""What the models of a workload share: frozen, without unknown fields, and with finite numbers only."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from allocator.domain.job import MAX_DELAY_S, MAX_PAYLOAD_BYTES, PRIORITY_MAX, PRIORITY_MIN

MAX_PADDING_BYTES = MAX_PAYLOAD_BYTES - 4096
"""What a payload can carry beside the plan of its job."""

MOST = 1e12
"""Of rates and weights: so far from what a number can be at most that products and sums of them are numbers too."""

Numbers: TypeAlias = NDArray[np.float64]
"""One number a job, in the order of the jobs."""
Integers: TypeAlias = NDArray[np.int64]
"""The same of integers."""


class Model(BaseModel):
    """A part of a workload. Raises pydantic's ValidationError, which names the field, when it is made by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _no_flag(value: Any) -> Any:
    # YAML reads yes, no, on and off as flags, and a flag would pass for 1 or 0.
    if isinstance(value, bool):
        raise ValueError("a number is needed, not a flag (YAML takes yes, no, on and off for flags)")
    return value


def _with_weight(weights: Mapping[Any, float]) -> Mapping[Any, float]:
    if not sum(weights.values()) > 0:
        raise ValueError("the weights sum to nothing, so that nothing can be drawn; give one of them more than 0")
    return weights


def _in_utf8(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        # An error of its own, which is a ValueError as well, would name neither the field nor what to do.
        raise ValueError("holds half of a character, which cannot be written down") from None
    return text


_Number = Annotated[float, BeforeValidator(_no_flag)]
_Integer = Annotated[int, BeforeValidator(_no_flag)]

Seconds = Annotated[_Number, Field(ge=0, le=MAX_DELAY_S)]
"""A duration or an instant of the run, 0 included; ten years at most, as everywhere in a queue."""
SomeSeconds = Annotated[_Number, Field(gt=0, le=MAX_DELAY_S)]
"""A duration that takes time."""
Text = Annotated[str, AfterValidator(_in_utf8)]
"""For a reader, or for a queue."""
Rate = Annotated[_Number, Field(gt=0, le=MOST)]
"""Jobs a second."""
RateFromZero = Annotated[_Number, Field(ge=0, le=MOST)]
"""Jobs a second, where there may be none for a while."""
Sigma = Annotated[_Number, Field(ge=0, le=5)]
"""Standard deviation of the logarithm; at 5 the mean is 268,337 times the median, and more is a mistake."""
Factor = Annotated[_Number, Field(gt=0)]
"""A factor."""
Share = Annotated[_Number, Field(ge=0, le=1)]
"""A probability."""
Weight = Annotated[_Number, Field(ge=0, le=MOST)]
"""How often, beside the others."""
Count = Annotated[_Integer, Field(ge=1)]
"""How many, at least one."""
CountFromZero = Annotated[_Integer, Field(ge=0)]
"""How many, or none."""
Priority = Annotated[_Integer, Field(ge=PRIORITY_MIN, le=PRIORITY_MAX)]
"""Of a job; higher goes first."""
Bytes = Annotated[_Integer, Field(ge=0, le=MAX_PADDING_BYTES)]
"""A size that a payload can have."""
SomeWeight = AfterValidator(_with_weight)
"""Of a mapping to weights: refuses one from which nothing can be drawn."""


def draw_weighted(weights: Mapping[Any, float], stream: np.random.Generator, count: int) -> Integers:
    """
    For each job the position of its value in `sorted(weights)`, each as often as its weight says.

    By inversion of one uniform draw a job. Sorted, since two documents that are equal must draw the same.
    """
    bounds = np.cumsum([weights[key] for key in sorted(weights)])
    # Against the bounds themselves: what has no weight is an empty interval, and is never drawn.
    drawn: Integers = np.searchsorted(bounds, stream.random(count) * bounds[-1], side="right").astype(np.int64)
    return drawn
