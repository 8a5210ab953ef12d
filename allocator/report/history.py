"""Reports beside each other: what changed from one to the next, and figures over many."""

from collections.abc import Iterable
from pathlib import Path

from allocator.report.made import NoReport
from allocator.report.numbers import shown
from allocator.report.results import RESULTS, Results, is_comparable, read_results
from allocator.report.status import Status

KEPT = 20
"""Reports that a trend goes back."""


def earlier(folder: Path, started_at: float, profile: str) -> list[Results]:
    """Reports beside this folder that are older and of the same profile, oldest first; damaged ones are left out."""
    found = [each for each in readable(folder.parent) if each.started_at < started_at and each.profile == profile]
    return sorted(found, key=lambda each: each.started_at)[-KEPT:]


def readable(reports: Path) -> list[Results]:
    """All reports of a folder that can be read, in no order."""
    found = []
    for path in reports.glob(f"*/{RESULTS}"):
        try:
            found.append(read_results(path.parent))
        except NoReport:
            continue
    return found


def changes(before: Results, after: Results) -> list[str]:
    """A sentence for each claim that has another status, or that only one of the two makes; failures first."""
    old, new = ({claim.id: claim for claim in each.claims} for each in (before, after))
    order = {Status.FAIL: 0, Status.INCONCLUSIVE: 1, Status.PASS: 2, Status.NOT_MEASURED: 3}
    changed = [
        (order[Status(claim.status)], f"{id}: {old[id].status} before, {claim.status} now. {claim.text}")
        for id, claim in new.items()
        if id in old and old[id].status != claim.status
    ]
    told = [text for _, text in sorted(changed, key=lambda pair: pair[0])]
    told += [f"{id}: a new claim, {new[id].status}" for id in new if id not in old]
    return told + [f"{id}: no longer claimed, {old[id].status} before" for id in old if id not in new]


def figures_that_differ(before: Results, after: Results) -> list[tuple[str, str, str, str]]:
    """
    Claim id, the figure before, the figure now, and now over before, of claims that both measured.

    Of two single reports this says what happened, not what changed: only a baseline that is measured beside the
    candidate decides that.
    """
    old = {claim.id: claim for claim in before.claims}
    rows = []
    for claim in after.claims:
        other = old.get(claim.id)
        if claim.value is not None and other is not None and other.value is not None and other.unit == claim.unit:
            ratio = f"{claim.value / other.value:.2f}" if other.value else "–"
            rows.append((claim.id, shown(other.value, other.unit), shown(claim.value, claim.unit), ratio))
    return rows


def series(reports: Iterable[Results], now: Results) -> dict[str, list[float]]:
    """Claim id -> its figure in each comparable report that has it, oldest first, `now` last."""
    comparable = [each for each in reports if is_comparable(each, now)]
    found: dict[str, list[float]] = {}
    for claim in now.claims:
        if claim.value is None:
            continue
        values = [
            each.value
            for report in comparable
            for each in report.claims
            if each.id == claim.id and each.value is not None and each.unit == claim.unit
        ]
        if values:
            found[claim.id] = [*values, claim.value]
    return found
