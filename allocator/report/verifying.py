"""Whether a report says what its raw rows say."""

from collections.abc import Iterator
from pathlib import Path

from allocator.bench.runs.run import NoRun
from allocator.report.page import Page
from allocator.report.results import read_results


def verify(folder: Path) -> Iterator[str]:
    """
    What does not agree, a sentence each.

    Nothing where all figures of all runs follow from their rows, and the status of every claim from the evidence.

    Raises:
        NoReport, BadClaim, BadMeasure: The folder holds no report, or one whose parts cannot be read.
    """
    kept = read_results(folder)
    page = Page(folder)
    for id, why in page.report.evidence.damaged.items():
        yield f"run {id}: {why}"
    evidence = page.report.evidence
    for id, recorded in (*evidence.runs.items(), *evidence.baseline.items()):
        try:
            yield from (f"run {id}: {problem}" for problem in recorded.run.verify())
        except NoRun as error:
            yield f"run {id}: {error}"
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
