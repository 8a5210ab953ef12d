"""`reports/index.html`: every report of a folder, newest first. Damaged ones are named, and harm nothing."""

from pathlib import Path
from typing import Any

from allocator.report import numbers
from allocator.report.artefacts import write_atomically
from allocator.report.export import TEMPLATES
from allocator.report.history import series
from allocator.report.made import MADE, NoReport
from allocator.report.page import environment
from allocator.report.pictures import sparkline
from allocator.report.results import RESULTS, Results, read_results
from allocator.report.status import Status

INDEX, PAGE = "index.html", "report.html"
TRENDS = 12


def write(reports: Path) -> Path:
    """Write the index of a folder of reports; returns its path."""
    found: list[tuple[str, Results]] = []
    damaged: list[tuple[str, str]] = []
    for folder in sorted(each for each in reports.iterdir() if each.is_dir()):
        if not (folder / RESULTS).exists() and not (folder / MADE).exists():
            continue
        try:
            page = f"{folder.name}/{PAGE}"
            found.append((page if (reports / page).exists() else "", read_results(folder)))
        except NoReport as error:
            damaged.append((folder.name, str(error)))
    found.sort(key=lambda each: each[1].started_at)
    html = (
        environment()
        .get_template("index.html.j2")
        .render(
            css=(TEMPLATES / "page" / "page.css").read_text("utf-8"),
            reports=list(reversed(found)),
            damaged=damaged,
            trends=_trends([each for _, each in found]),
        )
    )
    write_atomically(reports / INDEX, html.encode())
    return reports / INDEX


def _trends(found: list[Results]) -> list[dict[str, Any]]:
    """Of the newest report's profile and machine: claims that hold, then each figure, as lines."""
    if not found:
        return []
    now = found[-1]
    same = [each for each in found[:-1] if each.profile == now.profile]
    holding = [float(each.counts.get(Status.PASS, 0)) for each in [*same, now]]
    rows = [_trend("claims that hold", holding, "")] if same else []
    for id, values in list(series(same, now).items())[:TRENDS]:
        rows.append(_trend(id, values, next(claim.unit for claim in now.claims if claim.id == id)))
    return rows


def _trend(name: str, values: list[float], unit: str) -> dict[str, Any]:
    words = f"{name}: {', '.join(numbers.shown(value, unit) for value in values)}"
    return {"name": name, "now": numbers.shown(values[-1], unit), "spark": sparkline(values, words)}
