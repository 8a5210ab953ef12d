"""Two arms against each other: a ratio with an interval and a margin, and a verdict only where they allow one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from allocator.bench.statistics.intervals import LEAST_RUNS, Interval, ratio_interval


class Verdict(StrEnum):
    """Of the candidate."""

    BETTER = "better"
    EQUIVALENT = "equivalent"
    WORSE = "worse"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Figure:
    """
    What is compared.

    Args:
        margin: Practical difference: 0.1 calls ratios from 1/1.1 to 1.1 the same.
    """

    name: str
    unit: str
    higher_is_better: bool
    margin: float


THROUGHPUT = Figure("throughput", "jobs/s", higher_is_better=True, margin=0.10)
P99 = Figure("p99", "s", higher_is_better=False, margin=0.20)


@dataclass(frozen=True)
class Arms:
    """
    A figure of each run, in the order of the schedules that the arms share: run i of each arm replays the same one.

    Args:
        again: The baseline measured a second time, interleaved with the others (A/A): what the machine makes of no
            change at all.
    """

    baseline: Sequence[float]
    candidate: Sequence[float]
    again: Sequence[float]


@dataclass(frozen=True)
class Comparison:
    """
    What came of it.

    Args:
        ratio: Candidate over baseline, of medians over runs.
        same: The baseline's second measurement over its first.
        margin: The one that was applied: the figure's, or twice the spread of A/A, whichever is larger.
        confirmed: Whether a second set said *worse* as well; only then may it fail anything.
        sentence: The verdict and its reason.
    """

    figure: Figure
    ratio: Interval
    same: Interval
    margin: float
    verdict: Verdict
    confirmed: bool
    sentence: str

    @property
    def fails(self) -> bool:
        """Whether a build may fail over it."""
        return self.verdict is Verdict.WORSE and self.confirmed


def compare(figure: Figure, arms: Arms, confirming: Arms | None = None) -> Comparison:
    """
    Compare the candidate with the baseline, run by run.

    Args:
        confirming: A second set, measured because the first said *worse*. Where it does not say so too, nothing is
            decided.
    """
    ratio, same = ratio_interval(arms.baseline, arms.candidate), ratio_interval(arms.baseline, arms.again)
    margin = max(figure.margin, 2 * spread(same))
    verdict, confirmed = judge(figure, ratio, margin), False
    said = f"{figure.name}: {_said(ratio)} of the baseline, margin {margin:.0%}"
    idle = judge(figure, same, figure.margin)
    if ratio.level is None:
        reason = f"a verdict takes {LEAST_RUNS} runs of each arm, there are {ratio.runs}"
    elif math.isinf(margin):
        verdict, reason = Verdict.UNDECIDED, "the baseline itself got nothing done in some runs: look at those"
    elif idle in (Verdict.WORSE, Verdict.BETTER):
        verdict = Verdict.UNDECIDED
        reason = f"the baseline against itself is already {idle} ({_said(same)}): measure on a quieter machine"
    elif verdict is Verdict.WORSE and confirming is None:
        reason = "not confirmed yet: measure a second set before anything fails"
    elif verdict is Verdict.WORSE and confirming is not None:
        second = compare(figure, confirming)
        confirmed = second.verdict is Verdict.WORSE
        verdict = Verdict.WORSE if confirmed else Verdict.UNDECIDED
        reason = f"the second set says {second.verdict} ({_said(second.ratio)})"
    elif verdict is Verdict.UNDECIDED:
        reason = "the interval reaches across the margin: more or longer runs would narrow it"
    else:
        reason = "the whole interval lies " + ("within" if verdict is Verdict.EQUIVALENT else "beyond") + " the margin"
    return Comparison(figure, ratio, same, margin, verdict, confirmed, f"{verdict}: {said}; {reason}.")


def judge(figure: Figure, ratio: Interval, margin: float) -> Verdict:
    """
    Where an interval lies to a margin; undecided where it is none.

    The margin is the same factor in both directions, so that exchanging the arms exchanges better and worse.
    """
    if ratio.level is None:
        return Verdict.UNDECIDED
    above, below = 1 + margin, 1 / (1 + margin)
    if ratio.low >= below and ratio.high <= above:
        return Verdict.EQUIVALENT
    if ratio.low > above:
        return Verdict.BETTER if figure.higher_is_better else Verdict.WORSE
    if ratio.high < below:
        return Verdict.WORSE if figure.higher_is_better else Verdict.BETTER
    return Verdict.UNDECIDED


def spread(same: Interval) -> float:
    """How far one arm differs from itself: half the width of the interval of A/A, as a factor less one."""
    if same.low <= 0:
        return math.inf
    return math.sqrt(same.high / same.low) - 1


def _said(ratio: Interval) -> str:
    return f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
