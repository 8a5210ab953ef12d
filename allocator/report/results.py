"""What machines read of a report: results.json with its schema, junit.xml and summary.md."""

import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from allocator.report.artefacts import write_atomically
from allocator.report.made import Made, NoReport, Step
from allocator.report.reading import Report
from allocator.report.status import Finding, Status

VERSION = 1
"""Of the form of results.json; a field that changes its meaning raises it, one that is added does not."""

RESULTS, JUNIT, SUMMARY = "results.json", "junit.xml", "summary.md"
MARKUP = re.compile(r"[\\`*_\[\]<>&|~]")
"""What Markdown might take for its own."""

NO_XML = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no place for (section 2.2), and the carriage return, of which it makes another line."""

SUMMARY_BYTES = 60_000
"""A forge shows a job summary of up to 1 MiB; more than this nobody reads."""


class TargetResult(msgspec.Struct):
    comparison: str
    value: float
    unit: str


class ClaimResult(msgspec.Struct, kw_only=True):
    """A claim and what became of it; `struck` says that its figure comes from a run that broke a promise."""

    id: str
    component: str
    text: str
    status: str
    reason: str
    gates: bool
    value: float | None
    low: float | None
    high: float | None
    level: float | None
    unit: str
    n: str
    struck: bool
    target: TargetResult | None
    runs: list[str]
    origin: str
    command: str


class ComponentResult(msgspec.Struct, kw_only=True):
    name: str
    title: str
    status: str
    passed: int
    claims: int


class Results(msgspec.Struct, kw_only=True):
    """
    All of a report in plain values.

    Args:
        version: Of this form.
        verdict: One sentence.
        exit_status: Of `allocator report`.
        counts: Status -> claims.
    """

    version: int
    id: str
    started_at: float
    took_s: float
    profile: str
    command: str
    verdict: str
    exit_status: int
    counts: dict[str, int]
    components: list[ComponentResult]
    claims: list[ClaimResult]
    backends: list[str]
    missing: dict[str, str]
    tests: Step
    notebooks: list[Step]
    problems: list[str]
    fingerprint: dict[str, str]


def results(report: Report, verdict: str) -> Results:
    """The report in plain values; `verdict` is its sentence."""
    made = report.made
    return Results(
        version=VERSION,
        id=report.id,
        started_at=made.started_at,
        took_s=made.took_s,
        profile=made.profile,
        command=made.command,
        verdict=verdict,
        exit_status=report.exit_status,
        counts=report.counts,
        components=[
            ComponentResult(
                name=each.name,
                title=each.title,
                status=str(each.status),
                passed=each.passed,
                claims=len(each.findings),
            )
            for each in report.components
        ],
        claims=[_claim(each) for each in report.findings],
        backends=made.backends,
        missing=made.missing,
        tests=made.tests,
        notebooks=made.notebooks,
        problems=made.broken,
        fingerprint=made.fingerprint,
    )


def _claim(finding: Finding) -> ClaimResult:
    claim = finding.claim
    target = claim.target
    return ClaimResult(
        id=claim.id,
        component=claim.component,
        text=claim.sentence,
        status=str(finding.status),
        reason=finding.reason,
        gates=claim.gates,
        value=finding.value,
        low=finding.low,
        high=finding.high,
        level=finding.level,
        unit=finding.unit,
        n=finding.n,
        struck=finding.struck,
        target=None if target is None else TargetResult(target.comparison, target.value, target.unit),
        runs=list(finding.runs),
        origin=claim.origin,
        command=claim.how,
    )


def schema() -> dict[str, Any]:
    """The JSON Schema of results.json; the package ships it as results-1.schema.json."""
    found = msgspec.json.schema(Results)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"allocator report, version {VERSION}",
    } | found


def read_results(folder: Path) -> Results:
    """
    What another report found, without judging it again.

    Raises:
        NoReport: It has no results, or in a form that this release does not know.
    """
    path = folder / RESULTS
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Results)
    except (OSError, msgspec.MsgspecError) as error:
        raise NoReport(f"{path}: these results cannot be read: {error}") from error
    if found.version > VERSION:
        raise NoReport(
            f"{path}: version {found.version} is newer than this release knows ({VERSION}); upgrade allocator"
        )
    try:
        # Over these the index and a comparison would stumble, and with them all reports beside this one.
        datetime.fromtimestamp(found.started_at, UTC)
        for status in (*found.counts, *(claim.status for claim in found.claims)):
            Status(status)
    except (OSError, OverflowError, ValueError) as error:
        raise NoReport(f"{path}: these are no results of a report: {error}") from error
    return found


def write_results(folder: Path, found: Results) -> None:
    """All three files."""
    write_atomically(folder / RESULTS, msgspec.json.format(msgspec.json.encode(found)))
    write_atomically(folder / JUNIT, junit(found))
    write_atomically(folder / SUMMARY, summary(found).encode())


def junit(found: Results) -> bytes:
    """A case a claim: FAIL is a failure; what is undecided or was not measured is skipped, with the reason."""
    failed = found.counts[Status.FAIL]
    skipped = found.counts[Status.INCONCLUSIVE] + found.counts[Status.NOT_MEASURED]
    suite = ET.Element(
        "testsuite", name="claims", tests=str(len(found.claims)), failures=str(failed), skipped=str(skipped), errors="0"
    )
    for claim in found.claims:
        case = ET.SubElement(
            suite, "testcase", classname=f"claims.{claim.component}", name=_xml(f"{claim.id}: {claim.text}")
        )
        if claim.status == Status.FAIL:
            ET.SubElement(case, "failure", message=_xml(claim.reason)).text = _xml(claim.command)
        elif claim.status != Status.PASS:
            ET.SubElement(case, "skipped", message=_xml(f"{claim.status}: {claim.reason}"))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))


def summary(found: Results) -> str:
    """Markdown for a forge's job summary: the verdict, the components, and what did not pass."""
    lines = [f"## {_plain(found.verdict)}", "", "| component | status | claims that hold |", "|---|---|---|"]
    lines += [f"| {each.title} | {each.status} | {each.passed} of {each.claims} |" for each in found.components]
    for status in (Status.FAIL, Status.INCONCLUSIVE, Status.NOT_MEASURED):
        chosen = [claim for claim in found.claims if claim.status == status]
        if chosen:
            lines += ["", f"### {status} ({len(chosen)})", ""]
            lines += [
                f"- **{claim.id}**: {_plain(claim.text)} {_plain(claim.reason)} {_code(claim.command)}"
                for claim in chosen
            ]
    if found.problems:
        lines += ["", "### What did not work", "", *(f"- {_plain(problem)}" for problem in found.problems)]
    text, kept = "", 0
    for kept, line in enumerate(lines):
        if len((text + line).encode()) > SUMMARY_BYTES - 200:
            return f"{text}\n{len(lines) - kept} more lines were left out; results.json has all.\n"
        text += line + "\n"
    return text


def is_comparable(one: Made | Results, other: Made | Results) -> bool:
    """Whether machine and versions are the same, so that figures of both may be set side by side."""
    ignored = {"commit", "load before", "load after"}
    return {key: value for key, value in one.fingerprint.items() if key not in ignored} == {
        key: value for key, value in other.fingerprint.items() if key not in ignored
    }


def _plain(text: str) -> str:
    """In one line, and as it is: no error of a test becomes a tag or a link."""
    return MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


def _code(text: str) -> str:
    """In one line, within more backticks than it has itself."""
    said = " ".join(text.split())
    fence = "`" * (max(map(len, re.findall("`+", said)), default=0) + 1)
    return f"{fence} {said} {fence}" if "`" in said else f"`{said}`"


def _xml(text: str) -> str:
    """Without the control characters that XML has no place for."""
    return NO_XML.sub("�", text)
