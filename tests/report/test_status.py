"""A status follows from the evidence of its report, and from nothing else."""

from pathlib import Path

import numpy as np
import pytest

from allocator.bench.runs.run import Run
from allocator.report.artefacts import Artefacts
from allocator.report.claims import Claim
from allocator.report.evidence import Evidence
from allocator.report.made import TIMED_OUT, Made
from allocator.report.page import sentences
from allocator.report.reading import Report
from allocator.report.status import Finding, Status, gating_failures, judge
from tests.bench.statistics.runs import one_server
from tests.report.builders import JOBS, a_case, a_report, a_run, forgetful, late, lossy

P95 = "memory-overall-p95"


def a_claim(**fields: object) -> Claim:
    """Of a figure, unless it says otherwise."""
    usual = {"id": "c", "component": "memory", "backend": "memory", "text": "x"}
    return Claim.model_validate(usual | fields)


def of_figure(folder: Path, value: float, low: float | None = None, high: float | None = None) -> Finding:
    """What comes of a figure whose target is at most a tenth of a second."""
    Artefacts(folder, "n").measure("memory/x_s", value, "s", low=low, high=high, level=None if low is None else 0.95)
    return judge([a_claim(measure="memory/x_s", target="<= 0.1 s")], Evidence(folder))[0]


def found(folder: Path) -> dict[str, Finding]:
    """By the id of the claim."""
    return {each.claim.id: each for each in Report(folder).findings}


@pytest.mark.parametrize(
    ("figure", "status"),
    [
        ((0.05,), Status.PASS),
        ((0.1,), Status.PASS),
        ((0.2,), Status.FAIL),
        ((0.05, 0.04, 0.09), Status.PASS),
        ((0.09, 0.08, 0.12), Status.INCONCLUSIVE),
        ((0.12, 0.09, 0.14), Status.INCONCLUSIVE),
        ((0.2, 0.15, 0.3), Status.FAIL),
    ],
)
def test_a_figure_is_held_against_its_target(tmp_path: Path, figure: tuple[float, ...], status: Status) -> None:
    """An interval decides only where all of it lies on one side."""
    assert of_figure(tmp_path, *figure).status is status


def test_a_figure_in_another_unit_decides_nothing(tmp_path: Path) -> None:
    """50 of one unit are not 50 of another."""
    Artefacts(tmp_path, "n").measure("memory/x_s", 50.0, "ms")

    finding = judge([a_claim(measure="memory/x_s", target="<= 0.1 s")], Evidence(tmp_path))[0]

    assert (finding.status, "measured in ms" in finding.reason) == (Status.INCONCLUSIVE, True)


def test_without_its_notebook_exactly_its_claims_are_not_measured(tmp_path: Path) -> None:
    """What was taken out of a report turns to NOT MEASURED, and the rest stays."""
    a_report(tmp_path, a_run(tmp_path / "runs", "r1"))
    Artefacts(tmp_path, "20-throughput").measure("memory/throughput_per_s", 5000, "jobs/s")
    before = found(tmp_path)

    (tmp_path / "measures" / "20-throughput.json").unlink()

    after = found(tmp_path)
    changed = {id for id in after if after[id].status is not before[id].status}
    assert changed == {"memory-throughput"}
    assert (before["memory-throughput"].status, after["memory-throughput"].status) == (
        Status.PASS,
        Status.NOT_MEASURED,
    )


def test_a_failed_gate_makes_its_claims_inconclusive_and_is_named(tmp_path: Path) -> None:
    """A generator that ran behind says nothing of the queue."""
    a_report(tmp_path, a_run(tmp_path / "runs", "r1", rows=late()))

    finding = found(tmp_path)[P95]

    assert finding.status is Status.INCONCLUSIVE
    assert "the generator kept its schedule" in finding.reason


def test_a_lossy_run_fails_its_claims_and_its_figures_are_struck(tmp_path: Path) -> None:
    """The promise fails with its witness, and so does what was computed from that run; CI hears of it."""
    a_report(tmp_path, a_run(tmp_path / "runs", "r1", rows=lossy()))

    findings = found(tmp_path)

    assert findings["memory-lost-nothing"].status is Status.FAIL
    assert "j7" in findings["memory-lost-nothing"].reason
    assert (findings[P95].status, findings[P95].struck) == (Status.FAIL, True)
    assert findings["memory-lost-nothing"] in gating_failures(findings.values())
    assert Report(tmp_path).exit_status == 1


def test_a_job_that_is_nowhere_fails_a_claim(tmp_path: Path) -> None:
    """Neither queue nor records know of it, and so it is lost; the first screen says where."""
    a_report(tmp_path, a_run(tmp_path / "runs", "r1", rows=forgetful()))

    report = Report(tmp_path)

    assert report.lost_on == ["in process"]
    assert "memory-lost-nothing" in {each.claim.id for each in gating_failures(report.findings)}


def test_what_another_backend_did_decides_nothing(tmp_path: Path) -> None:
    """A run in process is no evidence for Redis."""
    a_report(tmp_path, a_run(tmp_path / "runs", "r1"))

    findings = found(tmp_path)

    assert findings["memory-lost-nothing"].status is Status.PASS
    assert findings["redis-lost-nothing"].status is Status.NOT_MEASURED


def test_a_figure_whose_run_is_damaged_decides_nothing(tmp_path: Path) -> None:
    """And the harness is said to have broken."""
    a_report(tmp_path, a_run(tmp_path / "runs", "r1"))
    (tmp_path / "runs" / "r1" / "figures.json").write_text("{", "utf-8")

    report = Report(tmp_path)
    finding = next(each for each in report.findings if each.claim.id == P95)

    assert (finding.status, "r1" in report.evidence.damaged, report.exit_status) == (Status.INCONCLUSIVE, True, 2)


ORDER = "tests/contract/test_order.py"


@pytest.mark.parametrize(
    ("cases", "status", "said"),
    [
        ([(f"{ORDER}::test_a[inprocess]", "")], Status.PASS, "1 test passed"),
        ([(f"{ORDER}::test_a[redis]", "")], Status.NOT_MEASURED, "not run"),
        (
            [(f"{ORDER}::test_a[inprocess]", ""), (f"{ORDER}::test_b[inprocess-x]", "<failure message='no'/>")],
            Status.FAIL,
            "test_b",
        ),
        ([(f"{ORDER}::test_a[inprocess]", "<error message='no room'/>")], Status.INCONCLUSIVE, "no room"),
        ([(f"{ORDER}::test_a[inprocess]", "<skipped message='no Redis'/>")], Status.NOT_MEASURED, "no Redis"),
    ],
)
def test_tests_decide_by_their_results(tmp_path: Path, cases: list[tuple[str, str]], status: Status, said: str) -> None:
    """Those of the claim's backend, and no others."""
    a_report(tmp_path, tests="".join(a_case(test, outcome) for test, outcome in cases))

    finding = found(tmp_path)["memory-order"]

    assert (finding.status, said in finding.reason) == (status, True)


def test_tests_that_were_cut_short_decide_nothing_that_they_did_not_refute(tmp_path: Path) -> None:
    """The one that was not reached might have failed; one that did fail is enough."""
    passed, failed = a_case(f"{ORDER}::test_a[inprocess]"), a_case(f"{ORDER}::test_a[redis]", "<failure message='no'/>")
    a_report(tmp_path, tests=passed + failed)
    made = Made.read(tmp_path)
    made.tests.status, made.tests.error = TIMED_OUT, "not over after 300 s"
    made.write(tmp_path)

    findings = found(tmp_path)

    assert findings["memory-order"].status is Status.INCONCLUSIVE
    assert findings["memory-order"].reason.endswith("not all may have run: the tests timed out: not over after 300 s")
    assert findings["redis-order"].status is Status.FAIL


@pytest.mark.parametrize(
    ("part", "content"), [("tests.xml", "<testsuites><test"), ("runs/r1/figures.json", "[]")], ids=["tests", "run"]
)
def test_a_part_that_is_damaged_leaves_the_rest_of_a_report(tmp_path: Path, part: str, content: str) -> None:
    """It is named, what rests on it is not decided, and the harness is said to have broken."""
    a_report(tmp_path, a_run(tmp_path / "runs", "r1"), tests=a_case(f"{ORDER}::test_a[inprocess]"))
    (tmp_path / part).write_text(content, "utf-8")

    report = Report(tmp_path)

    assert (list(report.evidence.damaged), report.exit_status) == ([part.split("/")[1 if "/" in part else 0]], 2)
    assert len(report.having(Status.PASS)) > 0


def test_only_runs_that_show_it_count_among_those_that_lost_nothing(tmp_path: Path) -> None:
    """And of jobs those that were accepted: what was refused, or never sent, cannot be lost."""
    refused = one_server(np.random.default_rng(1), JOBS, 0.5)
    refused.jobs.loc[[7, 8], "enqueued_at"] = np.nan
    refused.jobs.loc[[7, 8], "state"] = "unknown"
    refused.attempts = refused.attempts[~refused.attempts["job"].isin(["j7", "j8"])].reset_index(drop=True)
    silent = a_run(tmp_path / "runs", "r2")
    judged = (silent.folder / "figures.json").read_text("utf-8").replace('"status": "holds"', '"status": "not judged"')
    (silent.folder / "figures.json").write_text(judged, "utf-8")
    a_report(tmp_path, a_run(tmp_path / "runs", "r1", rows=refused), silent)

    first, _ = sentences(Report(tmp_path))

    assert first == f"Nothing was lost in 1 run with {JOBS - 2:,} accepted jobs in process."
    assert found(tmp_path)["memory-lost-nothing"].reason == f"held in 1 run with {JOBS - 2:,} accepted jobs"


def test_a_saturated_run_decides_no_time(tmp_path: Path) -> None:
    """Its times grow with its length; its rates are as good as any."""
    run: Run = a_run(tmp_path / "runs", "r1", rows=one_server(np.random.default_rng(3), JOBS, 2.0))
    artefacts = Artefacts(tmp_path, "n")
    artefacts.measure("memory/wait_p99_s", 0.05, "s", runs=[run])
    artefacts.measure("memory/rate", 50.0, "jobs/s", runs=[run])
    claims = [
        a_claim(measure="memory/wait_p99_s", target="<= 0.1 s"),
        a_claim(id="d", measure="memory/rate", target="> 1 jobs/s"),
    ]

    time, rate = judge(claims, Evidence(tmp_path))

    assert (time.status, "saturated" in time.reason) == (Status.INCONCLUSIVE, True)
    assert rate.status is Status.PASS
