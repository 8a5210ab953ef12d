"""
The page, section by section: what each is given, bound into its template.

`90-report.ipynb` shows one section a cell; nothing on the page is computed anywhere else. A section that cannot be made
says so in its place, and the report ends with exit status 2.
"""

import traceback
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from textwrap import shorten
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import escape

from allocator.bench.checker.verdicts import Promise
from allocator.bench.statistics.intervals import LEVEL
from allocator.report import history, numbers, pictures, tables
from allocator.report.artefacts import read_tables
from allocator.report.claims import BACKENDS, COMPONENTS
from allocator.report.evidence import Recorded
from allocator.report.reading import Report
from allocator.report.results import Results, is_comparable, results
from allocator.report.status import Finding, Status
from allocator.report.tables import Table, of_frame

SECTIONS = {
    "claims": "Components and claims",
    "latency": "Latency",
    "throughput": "Throughput",
    "retries": "Retries and dead letters",
    "faults": "Faults and workers",
    "changed": "What changed",
    "method": "Method and provenance",
}
"""Anchor -> title, below the verdict."""

LIMIT = 3
"""Lines of each list on the first screen."""

SHORT = 200
"""Characters of a line there: every claim that comes along is shown in whole, with what became of it."""


class Html:
    """A piece of a page, which a notebook shows as it is."""

    def __init__(self, text: str) -> None:
        self.text = text

    def _repr_html_(self) -> str:
        return self.text


class Page:
    """
    A report's page.

    Args:
        folder: Of the report.

    Attributes:
        unmade: Section -> why it could not be made.
    """

    def __init__(self, folder: Path | str) -> None:
        self.report = Report(Path(folder))
        self.unmade: dict[str, str] = {}

    @cached_property
    def results(self) -> Results:
        """The report in plain values, with its sentences."""
        return results(self.report, " ".join(sentences(self.report)))

    @cached_property
    def _earlier(self) -> list[Results]:
        made = self.report.made
        return history.earlier(self.report.folder, made.started_at, made.profile)

    @cached_property
    def _changes(self) -> list[str] | None:
        return history.changes(self._earlier[-1], self.results) if self._earlier else None

    @cached_property
    def _elsewhere(self) -> bool:
        """Whether the last report was made on another machine, or with other versions."""
        return bool(self._earlier) and not is_comparable(self._earlier[-1], self.results)

    def verdict(self) -> Html:
        """The first screen: a sentence, a tile a component, and three short lists."""
        return self._section("verdict", self._verdict)

    def _verdict(self) -> dict[str, Any]:
        report = self.report
        first, second = sentences(report)
        return {
            "first": first,
            "second": second,
            "made": report.made,
            "broken": [*report.made.broken, *(f"{part}: {why}" for part, why in report.evidence.damaged.items())],
            "components": report.components,
            "fails": [
                {"title": COMPONENTS.get(each.claim.component, "Your claim"), "text": each.claim.sentence}
                for each in report.having(Status.FAIL)
            ],
            "changes": self._changes,
            "elsewhere": self._elsewhere,
            "unmeasured": report.unmeasured,
            "sections": SECTIONS.items(),
            "limit": LIMIT,
        }

    def claims(self) -> Html:
        """Components, the picture of how they stand to each other, and every claim with its evidence."""
        return self._section("claims", self._claims)

    def _claims(self) -> dict[str, Any]:
        report = self.report
        old: dict[str, list[Finding]] = defaultdict(list)
        for finding in report.findings:
            if finding.claim.origin:
                old[finding.claim.origin].append(finding)
        states = [f"{each.title}: {each.status.lower()}" for each in report.components]
        return {
            "components": report.components,
            "by_name": {each.name: each for each in report.components},
            "architecture_alt": f"The parts of the system and their status. {'; '.join(states)}.",
            "actions": _actions(report.having(Status.FAIL) + report.having(Status.INCONCLUSIVE)),
            "limit": LIMIT,
            "old": old.items(),
            "unmeasured": report.unmeasured,
        }

    def latency(self) -> Html:
        """Percentiles and what they did over time."""
        return self._section("latency", self._latency)

    def _latency(self) -> dict[str, Any]:
        found, table = pictures.latencies(self.report)
        return {"pictures": found, "table": table, "nothing": self._why(pictures.LATENCY_CLAIM)}

    def throughput(self) -> Html:
        """Rates, load and scaling."""
        return self._section("throughput", self._throughput)

    def _throughput(self) -> dict[str, Any]:
        found, table = pictures.throughputs(self.report)
        return {"pictures": found, "table": table, "nothing": self._why("throughput_per_s")}

    def retries(self) -> Html:
        """Retries against their due time, and dead letters."""
        return self._section("retries", self._retries)

    def _retries(self) -> dict[str, Any]:
        reasons, letters = tables.dead_letters(self.report.runs)
        nothing = self._why("backoff_error_max_s")
        return {"pictures": pictures.retried(self.report), "reasons": reasons, "letters": letters, "nothing": nothing}

    def faults(self) -> Html:
        """What was broken on purpose, and what the checker found."""
        return self._section("faults", self._faults)

    def _faults(self) -> dict[str, Any]:
        broken = [run for run in self.report.runs if run.about.faults]
        judged = [run for run in broken if run.promises.get(Promise.LOST) in ("holds", "broken")]
        losing = sum(run.has_lost for run in judged)
        measures = self.report.evidence.measures
        recovery = {
            backend: numbers.shown(each.value, each.unit)
            for backend in BACKENDS
            if (each := measures.get(f"{backend}/recovery_s")) is not None and each.value is not None
        }
        controls = read_tables(self.report.folder, "controls")
        return {
            "table": tables.of_faults(broken, recovery),
            "histories": len(judged),
            "losing": losing,
            # The rule of three: with no event in n trials its probability is below 3/n at 95 %.
            "bound": 3 / len(judged) if len(judged) > 3 and not losing else None,
            "level": LEVEL,
            "controls": of_frame("Controls", controls) if controls is not None else Table("", [], []),
            "pictures": pictures.timelines(self.report),
            "nothing": self._why("faults_lost"),
        }

    def changed(self) -> Html:
        """Against a baseline, and against the last report."""
        return self._section("changed", self._changed)

    def _changed(self) -> dict[str, Any]:
        trends = []
        for id, values in history.series(self._earlier, self.results).items():
            unit = next(claim.unit for claim in self.results.claims if claim.id == id)
            words = f"{id}: {', '.join(numbers.shown(value, unit) for value in values)}"
            trends.append(
                {"name": id, "now": numbers.shown(values[-1], unit), "spark": pictures.sparkline(values, words)}
            )
        return {
            "baseline": self.report.made.baseline,
            "pictures": pictures.compared(self.report),
            "nothing": self.report.evidence.uncompared,
            "changes": self._changes,
            "elsewhere": self._elsewhere,
            "last": self._earlier[-1].id if self._earlier else "",
            "history": trends,
        }

    def method(self) -> Html:
        """How it was made, and on what."""
        return self._section("method", self._method)

    def _method(self) -> dict[str, Any]:
        report = self.report
        runs = [*report.evidence.runs.values(), *report.evidence.baseline.values()]
        machine = {**report.made.fingerprint, **{f"server, {name}": said for name, said in report.made.servers.items()}}
        return {
            "made": report.made,
            "steps": tables.of_steps(report),
            "runs": tables.of_runs(runs),
            "gates": [(run.about.id, tables.of_gates(run)) for run in runs],
            "workloads": list(_documents(runs).items()),
            "hashes": Table(
                "SHA-256 of the raw rows",
                ["File", "SHA-256"],
                [[f"{run.path}/{name}", digest] for run in runs for name, digest in run.about.sha256.items()],
            ),
            "machine": Table("Machine and versions", ["What", "Which"], list(machine.items())),
        }

    def _why(self, name: str) -> str:
        """Why nothing measured it, on whatever backend."""
        reasons = [each.reason for each in self.report.findings if (each.claim.measure or "").endswith(f"/{name}")]
        return f"{next(filter(None, reasons), 'no notebook of this report measures it')}."

    def _section(self, name: str, given: Callable[[], dict[str, Any]]) -> Html:
        try:
            return Html(environment().get_template(f"{name}.html.j2").render(given()))
        except Exception as error:
            # Whatever it is, the rest of the report is worth having; the build sees `unmade`.
            self.unmade[name] = f"{type(error).__name__}: {error}"
            title, trace = escape(SECTIONS.get(name, "Verdict")), escape(traceback.format_exc())
            return Html(
                f'<h2 id="{name}">{title}</h2><div class="broken"><strong>This section could not be made.</strong>'
                f'<details><summary>Why</summary><pre tabindex="0">{trace}</pre></details></div>'
            )


def sentences(report: Report) -> tuple[str, str]:
    """The whole report in two sentences, in plain words: what became of jobs, and of claims."""
    template = environment().get_template("sentence.txt.j2")
    text = template.render(
        lost_on=report.lost_on,
        kept_on=report.kept_on,
        runs=len(report.kept),
        jobs=sum(run.figures["accepted"] for run in report.kept),
        faults=sum(len(run.about.faults) for run in report.kept),
        counts=report.counts,
        claims=len(report.findings),
    )
    first, _, second = text.strip().partition("\n")
    return first, second


def _actions(findings: list[Finding]) -> list[dict[str, Any]]:
    """What to do about claims that do not hold, those with one reason and one command together."""
    groups: dict[tuple[Status, str, str], list[str]] = defaultdict(list)
    for each in findings:
        groups[each.status, each.reason, each.claim.how].append(each.claim.id)
    return [
        {"status": status, "reason": reason, "command": command, "ids": ids}
        for (status, reason, command), ids in groups.items()
    ]


@cache
def environment() -> Environment:
    """Where templates come from, and how they write figures."""
    environment = Environment(
        loader=PackageLoader("allocator.report", "templates/sections"),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
    )
    environment.filters.update(
        shown=numbers.shown,
        digits=numbers.digits,
        counted=numbers.counted,
        times=lambda count: "once" if count == 1 else f"{count:,} times",
        places=_places,
        short=lambda text: shorten(text, SHORT, placeholder=" …"),
        title_of=lambda name: COMPONENTS.get(name, name),
        utc=lambda instant: f"{datetime.fromtimestamp(instant, UTC):%d %B %Y, %H:%M} UTC",
    )
    # Templates hold no figures, so that each figure on the page is bound to a value; this one is grammar.
    environment.globals["one"] = 1
    return environment


def _places(names: list[str]) -> str:
    """In process, on Redis and on PostgreSQL."""
    said = [name if name.startswith("in ") else f"on {name}" for name in names]
    return " and ".join(filter(None, [", ".join(said[:-1]), said[-1]]))


def _documents(runs: list[Recorded]) -> dict[str, str]:
    """Each workload once, by its name and hash."""
    found = {f"{run.about.name}, {run.about.workload_hash[:12]}": run.run.workload.to_yaml() for run in runs}
    return dict(sorted(found.items()))
