"""This tree beside a baseline: what comes of runs whose figures are known."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from allocator.bench.runs.comparing import AGAIN, BASELINE, CANDIDATE
from allocator.bench.runs.run import Run
from allocator.report.artefacts import Artefacts
from allocator.report.made import COMPARING, Made
from allocator.report.page import Page
from allocator.report.reading import Report
from allocator.report.status import Finding, Status, gating_failures
from allocator.report.verifying import verify
from tests.bench.statistics.runs import one_server
from tests.report.builders import JOBS, a_report, a_run, late, lossy, written

SLOWER = 1.5
"""By so much everything takes longer on a slow queue: beyond the margin of any figure."""

FIRST, SECOND = [1, 2, 3, 4, 5], [6, 7, 8, 9, 10]
"""Seeds of the rounds of two sets."""

CLAIMS = {"memory-no-later", "memory-no-slower"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of each seed of a queue that is as fast as the baseline, and of one that is slow: `same-1`, `slow-1`."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in FIRST + SECOND:
        for name, factor in (("same", 1.0), ("slow", SLOWER)):
            rows = one_server(np.random.default_rng(seed), JOBS, 0.5, 0.01 * factor, polls_per_s=50.0)
            a_run(folder, f"{name}-{seed}", seed=seed, rows=rows)
    return folder


class Beside:
    """A report in which this tree was measured beside a baseline."""

    def __init__(self, folder: Path, made: Path) -> None:
        self.folder, self._made = a_report(folder), made
        self._sets: list[dict[str, list[Run]]] = []
        about = Made.read(folder)
        about.baseline = "main (0123456789ab)"
        about.write(folder)

    def add(self, seeds: Sequence[int], name: str) -> dict[str, list[Run]]:
        """A set of these rounds; those of this tree are of that name."""
        self._sets.append({arm: [] for arm in (BASELINE, CANDIDATE, AGAIN)})
        for seed in seeds:
            own, other = self._run("runs", f"{name}-{seed}"), self._run("baseline", f"same-{seed}")
            for arm, run in ((BASELINE, other), (CANDIDATE, own), (AGAIN, other)):
                self._sets[-1][arm].append(run)
        return self._sets[-1]

    def findings(self) -> dict[str, Finding]:
        """By the id of the claim."""
        Artefacts(self.folder, COMPARING).compare("memory", ["wait_p99", "sojourn_p99"], "main", self._sets)
        return {each.claim.id: each for each in Report(self.folder).findings}

    def _run(self, part: str, id: str) -> Run:
        return Run(shutil.copytree(self._made / id, self.folder / part / id))


@pytest.fixture
def beside(tmp_path: Path, made: Path) -> Beside:
    """One to which sets are added."""
    return Beside(tmp_path, made)


def test_a_slower_queue_fails_once_a_second_set_says_the_same(beside: Beside) -> None:
    """CI hears of it; the page says by how much; and all of it follows from the rows."""
    beside.add(FIRST, "slow")
    beside.add(SECOND, "slow")

    findings = beside.findings()

    assert {findings[id].status for id in CLAIMS} == {Status.FAIL}
    assert findings["memory-no-slower"].value == pytest.approx(SLOWER)
    assert {each.claim.id for each in gating_failures(findings.values())} >= CLAIMS
    assert "worse twice" in Page(beside.folder).changed().text
    assert list(verify(written(beside.folder))) == []


@pytest.mark.parametrize("second", [None, "same"])
def test_what_only_one_set_says_fails_nothing(beside: Beside, second: str | None) -> None:
    """A machine that was busy for a while is no slower queue."""
    beside.add(FIRST, "slow")
    if second:
        beside.add(SECOND, second)

    findings = beside.findings()

    assert {findings[id].status for id in CLAIMS} == {Status.INCONCLUSIVE}


def test_a_queue_that_is_as_fast_passes(beside: Beside) -> None:
    """What was not compared says so, with its command; of the baseline's runs nothing is claimed of this tree."""
    beside.add(FIRST, "same")

    findings = beside.findings()

    assert {findings[id].status for id in CLAIMS} == {Status.PASS}
    assert (findings["memory-no-fewer"].status, findings["redis-no-later"].status) == (Status.NOT_MEASURED,) * 2
    assert findings["redis-no-later"].claim.how == "allocator report --baseline REF --backends redis"
    assert findings["memory-lost-nothing"].n == "5 runs"


@pytest.mark.parametrize(("arm", "status"), [(CANDIDATE, Status.FAIL), (BASELINE, Status.INCONCLUSIVE)])
def test_a_broken_promise_decides_by_whose_it_is(beside: Beside, arm: str, status: Status) -> None:
    """Beside a lossy queue no other is slow; that this one is lossy says enough."""
    runs = beside.add(FIRST, "same")[arm]
    runs[0] = a_run(runs[0].folder.parent, "lossy", rows=lossy())

    findings = beside.findings()

    assert {findings[id].status for id in CLAIMS} == {status}
    assert findings["memory-no-slower"].struck
    assert findings["memory-lost-nothing"].status is (Status.FAIL if arm == CANDIDATE else Status.PASS)


def test_a_round_in_which_a_gate_failed_is_left_out(beside: Beside) -> None:
    """It is counted and the gate named; a sixth round takes its place, and without one nothing is decided."""
    arms = beside.add([*FIRST, SECOND[0]], "same")
    arms[AGAIN][2] = a_run(beside.folder / "baseline", "behind", rows=late())
    enough = beside.findings()["memory-no-slower"]
    for runs in arms.values():
        runs.pop()

    short = beside.findings()["memory-no-slower"]

    assert (enough.status, enough.n) == (Status.PASS, "5 runs of each")
    assert (short.status, short.n) == (Status.INCONCLUSIVE, "4 runs of each")
    assert all("left out (the generator kept its schedule)" in each.reason for each in (enough, short))


def test_a_run_that_is_gone_decides_nothing(beside: Beside) -> None:
    """It is named."""
    beside.add(FIRST, "same")
    (beside.folder / "baseline" / "same-3" / "figures.json").unlink()

    finding = beside.findings()["memory-no-slower"]

    assert (finding.status, "same-3" in finding.reason) == (Status.INCONCLUSIVE, True)


def test_without_a_baseline_its_claims_are_not_measured(tmp_path: Path) -> None:
    """Nor is anything guessed from earlier reports."""
    finding = next(each for each in Report(a_report(tmp_path)).findings if each.claim.id == "redis-no-fewer")

    assert finding.status is Status.NOT_MEASURED
    assert finding.reason == "no baseline was measured beside this run"
    assert finding.reason in Page(tmp_path).changed().text
