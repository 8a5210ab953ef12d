"""Whether a report says what its raw rows say."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from allocator.bench.runs.run import NoRun
from allocator.bench.statistics.intervals import median_interval
from allocator.report.artefacts import Measure
from allocator.report.evidence import Evidence
from allocator.report.measuring import Runs, figures_of, floods_of
from allocator.report.outcomes import retries_of
from allocator.report.page import Page
from allocator.report.results import read_results

OVER_RUNS: dict[str, Callable[[Runs], pd.DataFrame]] = {
    each.__name__: each for each in (figures_of, floods_of, retries_of)
}
"""What gives a figure for each run, of which a measure is the median."""


def verify(folder: Path) -> Iterator[str]:
    """
    What does not agree, a sentence each.

    Nothing where all figures of all runs follow from their rows, and the status of every claim from the evidence.

    Raises:
        NoReport, BadClaim, BadMeasure: The folder holds no report, or one whose parts cannot be read.
    """
    kept = read_results(folder)
    page = Page(folder)
    for part, why in page.report.evidence.damaged.items():
        yield f"{part}: {why}"
    evidence = page.report.evidence
    for id, recorded in (*evidence.runs.items(), *evidence.baseline.items()):
        try:
            yield from (f"run {id}: {problem}" for problem in recorded.run.verify())
        except NoRun as error:
            yield f"run {id}: {error}"
    for measure in evidence.measures.values():
        yield from _measured_otherwise(measure, evidence)
    found = {claim.id: claim for claim in page.results.claims}
    for claim in kept.claims:
        now = found.get(claim.id)
        if now is None:
            yield f"claim {claim.id}: it is in the results, and in no file of claims"
        elif (now.status, now.value) != (claim.status, claim.value):
            yield (
                f"claim {claim.id}: the results say {claim.status} ({claim.value}), and the evidence {now.status} "
                f"({now.value})"
            )


def _measured_otherwise(measure: Measure, evidence: Evidence) -> Iterator[str]:
    """Where a figure over several runs is not what these runs give."""
    runs = {("", number): evidence.runs[id].run for number, id in enumerate(measure.runs) if id in evidence.runs}
    if not measure.by or len(runs) < len(measure.runs):
        return
    try:
        figures = OVER_RUNS[measure.by](runs)
    except (NoRun, LookupError) as error:
        yield f"measure {measure.name}: it cannot be computed again: {error}"
        return
    again = median_interval(list(figures[measure.name.rpartition("/")[2]]))
    several = again.runs > 1
    now = (again.value, again.low if several else None, again.high if several else None)
    if now != (kept := (measure.value, measure.low, measure.high)):
        yield f"measure {measure.name}: {kept} was kept, and its runs give {now}"
