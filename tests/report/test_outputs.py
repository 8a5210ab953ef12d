"""What machines read: results with their schema, JUnit, a summary, an index, and what changed."""

import json
import xml.etree.ElementTree as ET
from importlib import resources
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest

from allocator.report import index
from allocator.report.artefacts import Artefacts, read_measures
from allocator.report.claims import load_claims
from allocator.report.history import changes
from allocator.report.made import TIMED_OUT, Made, Step
from allocator.report.measuring import figures_of, measure_runs
from allocator.report.page import Page, environment
from allocator.report.pictures import sparkline
from allocator.report.reading import Report
from allocator.report.results import RESULTS, SUMMARY_BYTES, junit, read_results, schema, summary
from allocator.report.status import Status
from allocator.report.tables import UNTOLD, dead_letters
from allocator.report.verifying import verify
from tests.bench.statistics.runs import one_server
from tests.report.builders import JOBS, a_report, a_run, lossy, written


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of one run that holds, and one that lost a job."""
    folder = tmp_path_factory.mktemp("reports") / "20260101T000000-smoke-abcd"
    good, bad = a_run(folder / "runs", "r1"), a_run(folder / "runs", "r2", "redis", rows=lossy(), faults=1)
    return written(a_report(folder, good, bad))


def test_results_follow_their_schema(report: Path) -> None:
    """The one that the package ships, which is that of the code."""
    shipped = json.loads((resources.files("allocator.report") / "results-1.schema.json").read_text("utf-8"))

    jsonschema.validate(json.loads((report / "results.json").read_text("utf-8")), shipped)

    assert shipped == schema()


def test_junit_has_a_case_for_each_claim(report: Path) -> None:
    """FAIL is a failure; what was not decided is skipped, with its reason."""
    found = read_results(report)

    suite = ET.parse(report / "junit.xml").getroot()[0]

    assert len(suite) == len(found.claims)
    failures = {case.get("name", "").partition(":")[0] for case in suite if case.find("failure") is not None}
    assert failures == {claim.id for claim in found.claims if claim.status == "FAIL"}
    assert "redis-lost-nothing" in failures
    assert all(skipped.get("message") for skipped in suite.iter("skipped"))


def test_what_errors_say_is_text_to_every_reader(report: Path) -> None:
    """No tag or code of theirs ends up in a forge's page, and XML stays XML."""
    found = read_results(report)
    claim = next(claim for claim in found.claims if claim.status == "FAIL")
    claim.text, claim.reason, claim.command = "a\x01b\uffff", "got <object | at> `x` and\n_more_", "echo `id`"

    suite = ET.fromstring(junit(found))[0]
    line = next(line for line in summary(found).splitlines() if line.startswith(f"- **{claim.id}**"))

    assert f"{claim.id}: a\ufffdb\ufffd" in [case.get("name") for case in suite]
    assert line.endswith(r" got \<object \| at\> \`x\` and \_more\_ `` echo `id` ``")


def test_a_line_of_figures_obeys_no_text_beside_it() -> None:
    """A unit of a user's own may have any characters."""
    line = ET.fromstring(sparkline([1.0, 2.0], 'x: 1 "<b>"'))

    assert line.get("aria-label") == 'x: 1 "<b>"'


def test_a_last_report_of_another_machine_is_said_to_be_one(tmp_path: Path) -> None:
    """Wherever it says what changed since: the machine alone may be the reason."""
    last = written(a_report(tmp_path / "last", a_run(tmp_path / "last" / "runs", "r1"), id="last", at=1e9))
    now = a_report(tmp_path / "now", a_run(tmp_path / "now" / "runs", "r1"), id="now", at=2e9)

    def told() -> list[bool]:
        page = Page(now)
        return ["another machine" in section.text for section in (page.verdict(), page.changed())]

    assert told() == [False, False]
    document = json.loads((last / RESULTS).read_text("utf-8"))
    document["fingerprint"]["Python"] = "2"
    (last / RESULTS).write_text(json.dumps(document), "utf-8")
    assert told() == [True, True]


def test_a_long_summary_is_cut_and_says_so(report: Path) -> None:
    """A forge would drop it as a whole."""
    found = read_results(report)
    for claim in found.claims:
        claim.reason = "because " * 200

    text = summary(found)

    assert len(text.encode()) < SUMMARY_BYTES
    assert "lines were left out" in text


def test_the_sentence_names_where_jobs_were_lost(report: Path) -> None:
    """In plain words, first."""
    assert Page(report).results.verdict.startswith("Accepted jobs were lost, or never came to an end, on Redis.")


def test_a_report_that_is_as_it_was_verifies(report: Path) -> None:
    """Every figure follows from the rows, every status from the evidence."""
    assert list(verify(report)) == []


@pytest.mark.parametrize("part", ["runs/r1/jobs.parquet", "runs/r1/figures.json", "results.json"])
def test_what_was_edited_afterwards_is_found(report: Path, part: str) -> None:
    """Rows, figures and statuses alike."""
    path = report / part
    before = path.read_bytes()
    edited = before + b" " if part.endswith("parquet") else before.replace(b"PASS", b"FAIL").replace(b"2000", b"2001")
    path.write_bytes(edited)
    try:
        assert list(verify(report)) != []
    finally:
        path.write_bytes(before)


def test_a_figure_over_several_runs_is_computed_again(tmp_path: Path) -> None:
    """From their rows, with its interval; also where no claim rests on it."""
    runs = {("memory", number): a_run(tmp_path / "runs", f"r{number}", seed=number) for number in (1, 2)}
    a_report(tmp_path)
    measure_runs(Artefacts(tmp_path, "n"), runs, figures_of, ["wait_p50_s", "sojourn_p95_s"], "s")
    written(tmp_path)
    path = tmp_path / "measures" / "n.json"
    sound = list(verify(tmp_path))
    high = f'"high": {read_measures(tmp_path)["memory/wait_p50_s"].high}'

    path.write_text(path.read_text("utf-8").replace(high, '"high": 9.5'), "utf-8")

    assert (sound, len(found := list(verify(tmp_path)))) == ([], 1)
    assert found[0].startswith("measure memory/wait_p50_s: ")


def test_the_index_survives_missing_and_damaged_reports(report: Path) -> None:
    """They are named, and harm nothing; a folder that is no report is left out."""
    reports = report.parent
    (reports / "20260102T000000-smoke-dead").mkdir()
    (reports / "20260102T000000-smoke-dead" / "results.json").write_text('{"version": 1', "utf-8")
    (reports / "runs").mkdir()
    for name, old, new in (
        ("20260103T000000-smoke-when", '"started_at": 1000000000.0', '"started_at": 1e300'),
        ("20260104T000000-smoke-what", '"status": "PASS"', '"status": "SPLENDID"'),
    ):
        (reports / name).mkdir()
        sound = (report / "results.json").read_text("utf-8")
        (reports / name / "results.json").write_text(sound.replace(old, new), "utf-8")

    text = index.write(reports).read_text("utf-8")

    assert all(name in text for name in ("smoke-dead", "smoke-when", "smoke-what"))
    assert "Accepted jobs were lost" in text
    assert "<svg" not in text


def test_the_index_leads_to_a_report_that_was_renamed(report: Path, tmp_path: Path) -> None:
    """By the folder that it is in, whatever its results say of its name."""
    moved = tmp_path / "kept for later"
    moved.mkdir()
    (moved / "results.json").write_bytes((report / "results.json").read_bytes())
    (moved / "report.html").write_text("<!doctype html>", "utf-8")

    assert 'href="kept%20for%20later/report.html"' in index.write(tmp_path).read_text("utf-8")


def test_a_change_is_told_worst_first(report: Path, tmp_path: Path) -> None:
    """Of the same claims, in two reports."""
    after = read_results(report)
    before = read_results(report)
    for claim in before.claims:
        if claim.id in ("redis-lost-nothing", "memory-lost-nothing"):
            claim.status = {"PASS": "FAIL", "FAIL": "PASS"}[claim.status]

    told = changes(before, after)

    assert told[0].startswith("redis-lost-nothing: PASS before, FAIL now")
    assert told[1].startswith("memory-lost-nothing: FAIL before, PASS now")
    assert len(told) == 2


def test_the_first_screen_tells_what_became_of_a_claim_in_whole() -> None:
    """Of every claim that comes along, in the longest words that a status has; what is longer ends with a word."""
    short = environment().filters["short"]
    told = [
        f"{claim.id}: {Status.NOT_MEASURED} before, {Status.INCONCLUSIVE} now. {claim.text}" for claim in load_claims()
    ]

    assert [line for line in told if short(line) != line] == []
    assert short("a server was started " * 50).endswith((" a …", " server …", " was …", " started …"))


def test_a_failed_notebook_is_named_and_its_claims_say_so(tmp_path: Path) -> None:
    """The report is made all the same, and its exit status is 2: the harness broke, not a claim."""
    folder = a_report(tmp_path, a_run(tmp_path / "runs", "r1"))
    made = Made.read(folder)
    made.notebooks.append(Step(name="50-ingest", status=TIMED_OUT, error="it was not over after 90 s"))
    made.write(folder)

    found = Page(folder).results

    placed = next(claim for claim in found.claims if claim.id == "ingest-placed")
    assert (placed.status, "50-ingest: timed out" in placed.reason) == ("NOT MEASURED", True)
    assert found.problems == ["50-ingest timed out: it was not over after 90 s"]
    assert found.exit_status == 2
    assert "50-ingest timed out" in Page(folder).verdict().text


def test_a_dead_letter_whose_workers_were_killed_is_among_the_others(tmp_path: Path) -> None:
    """Nobody recorded an error of its attempts, and each of them counts all the same; what was given back does not."""
    rows = one_server(np.random.default_rng(1), JOBS, 0.5)
    rows.jobs.loc[[7, 8], "state"] = "dead"
    rows.attempts.loc[[7, 8], "outcome"] = ["lost", "failed"]
    rows.attempts.loc[8, "error"] = "no such file"
    more = rows.attempts.loc[[7, 7, 8]].assign(attempt=[2, 2, 2], outcome=["lost", "released", "lost"], error=None)
    rows.attempts = pd.concat([rows.attempts, more], ignore_index=True).astype({"error": "str"})
    a_run(tmp_path / "runs", "r1", rows=rows)

    reasons, letters = dead_letters(Report(a_report(tmp_path)).runs)

    assert sum(int(row[1]) for row in reasons.rows) == 2
    assert sorted(row[:1] + row[2:] for row in letters.rows) == [
        ["j7", "2", UNTOLD, UNTOLD],
        ["j8", "2", "no such file", UNTOLD],
    ]
