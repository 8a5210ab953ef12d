"""What may be claimed of so many runs of so many jobs."""

from dataclasses import dataclass

from allocator.bench.statistics.intervals import LEAST_RELAXATIONS, LEAST_RUNS, LEVEL
from allocator.bench.statistics.percentiles import SHOWN, least_count


@dataclass(frozen=True)
class Claimable:
    """
    What a page may print.

    Args:
        percentiles: Names of those with enough jobs.
        level: Of intervals over the runs; None: the range of the runs only.
        verdict: Whether two arms of so many runs may be compared to a verdict.
        sentences: What may not be claimed, why, and what it would take; empty where all may.
    """

    percentiles: tuple[str, ...]
    level: float | None
    verdict: bool
    sentences: tuple[str, ...]


def claimable(runs: int, jobs: int, relaxation_times: float | None = None) -> Claimable:
    """
    What may be claimed.

    Args:
        jobs: Measured in the run that has the fewest, warm-up left out.
        relaxation_times: That the shortest run lasted (see `intervals.relaxation_times`); None if it is not known.
    """
    sentences = []
    percentiles = tuple(name for name, probability in SHOWN.items() if jobs >= least_count(probability))
    for name, probability in SHOWN.items():
        if name not in percentiles:
            sentences.append(f"{name}: too few; it takes {least_count(probability):,} jobs a run, there are {jobs:,}.")
    is_long = relaxation_times is None or relaxation_times >= LEAST_RELAXATIONS
    if runs < LEAST_RUNS:
        sentences.append(
            f"No interval and no verdict: it takes {LEAST_RUNS} runs, there are {runs}; the range of the runs is shown."
        )
    if relaxation_times is not None and not is_long:
        sentences.append(
            f"No interval of percentiles: a run must last {LEAST_RELAXATIONS:g} relaxation times of the queue, it "
            f"lasted {relaxation_times:.0f}; run longer, or at a lower utilisation."
        )
    level = LEVEL if runs >= LEAST_RUNS and is_long else None
    return Claimable(percentiles, level, runs >= LEAST_RUNS, tuple(sentences))
