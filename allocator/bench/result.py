"""What a benchmark gives: rows for a table and a page, and how the run was made."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from allocator.bench.statistics.percentiles import rank


@dataclass
class Row:
    """
    One line of the table.

    Args:
        target: In words; empty where the figure is only reported.
        reached: Whether this run reached it; None where there is no target, or it could not be decided.
        rounds: How many runs the figure is the median of.
        load: How busy the machine was before them.
    """

    backend: str
    operation: str
    value: str
    beside: str
    ratio: str
    target: str
    reached: bool | None
    rounds: int = 0
    load: str = ""


@dataclass
class Run:
    """One execution of a benchmark: when, how, on what, and what it left out."""

    started_at: str
    command: str
    rounds: int
    quick: bool
    fingerprint: dict[str, str]
    not_measured: list[str] = field(default_factory=list)


def quantile(values: Sequence[float], probability: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    return sorted(values)[rank(probability, len(values))]
