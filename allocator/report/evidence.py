"""What decides the claims of a report: the tests, runs and measures in its folder, and nothing that was said before."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from allocator.bench.checker.verdicts import Promise
from allocator.bench.runs import comparing
from allocator.bench.runs.run import FIGURES, About, NoRun, Run
from allocator.bench.statistics.comparison import Comparison
from allocator.report.artefacts import BASELINE, RUNS, TESTS, Compared, Measure, read_comparisons, read_measures

BACKEND_OF_TEST = {
    "inprocess": "memory",
    "memory": "memory",
    "redis": "redis",
    "valkey": "redis",
    "postgres": "postgres",
}
"""The parameter of a test that names its backend -> the backend."""


@dataclass(frozen=True)
class Tested:
    """
    What became of one test.

    Args:
        file, name: As pytest has them: tests/contract/test_order.py, test_order[redis].
        outcome: passed, failed, error (in its set-up) or skipped.
        said: Why, where it did not pass.
    """

    file: str
    name: str
    outcome: str
    took_s: float
    said: str

    @property
    def id(self) -> str:
        return f"{self.file}::{self.name}"

    @property
    def backend(self) -> str | None:
        """Which one it ran on, if its parameters name one."""
        _, _, parameters = self.name.rstrip("]").partition("[")
        return next((BACKEND_OF_TEST[part] for part in parameters.split("-") if part in BACKEND_OF_TEST), None)

    def is_of(self, pattern: str) -> bool:
        """Whether it is what `pattern` names: a folder, a file, a test with all its parameters, or with these."""
        every = f"{self.file}::{self.name.partition('[')[0]}"
        return pattern in (every, self.id) or self.file == pattern or self.file.startswith(pattern.rstrip("/") + "/")


@dataclass(frozen=True)
class Recorded:
    """
    A run of this report, by what was computed of its rows when it was made; `allocator report verify` computes it anew.

    Args:
        gates: Names of those that failed.
        gate_results: All: name, status, value, bound, sentence.
        promises: What the checker said: promise -> holds, broken or not judged.
        figures: See `allocator.bench.statistics.summary.Summary`.
    """

    run: Run
    about: About
    verdict: str
    gates: list[str]
    gate_results: list[dict[str, Any]]
    promises: dict[str, str]
    witnesses: dict[str, str]
    figures: dict[str, Any]

    @property
    def path(self) -> str:
        """Of its folder, within that of the report."""
        return "/".join(self.run.folder.parts[-2:])

    @property
    def broken(self) -> list[str]:
        return [promise for promise, status in self.promises.items() if status == "broken"]

    @property
    def has_lost(self) -> bool:
        """Whether a job that was accepted is gone, or had not come to its end when there had been time for all."""
        return "broken" in (self.promises.get(Promise.LOST), self.promises.get(Promise.DRAINED))

    @property
    def is_kept(self) -> bool:
        """Whether its server kept what it accepted on disk: one that does not may lose jobs by its settings."""
        durability = self.run.workload.durability
        return durability.redis_appendfsync != "none" and durability.postgres_synchronous_commit

    @property
    def saturated(self) -> bool:
        return bool(self.figures["steadiness"]["saturated"])


class Evidence:
    """
    All of a report's folder.

    Attributes:
        damaged: Run folder, or file of tests -> why it cannot be read.
        untested, unmeasured, uncompared: Why a test, a figure or a comparison is not there, where nothing else says so.
        cut_short: Why not all tests may have run; empty: all have.

    Raises:
        BadMeasure: A file of measures is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged: dict[str, str] = {}
        self.untested = "its tests were not run"
        self.cut_short = ""
        self.unmeasured = "no notebook of this report measured it"
        self.uncompared = "no baseline was measured beside this run"
        self.measures: dict[str, Measure] = read_measures(folder)
        self.compared: dict[str, Compared] = read_comparisons(folder)

    @cached_property
    def tests(self) -> list[Tested]:
        """Of `tests.xml`; none where no test was run."""
        path = self.folder / TESTS
        try:
            return read_tests(path) if path.exists() else []
        except (OSError, ValueError) as error:
            # As pytest leaves it that was killed while it wrote: all else of the report is worth having.
            self.damaged[TESTS] = self.untested = str(error)
            return []

    @cached_property
    def runs(self) -> dict[str, Recorded]:
        """Id -> run, in the order in which they were made."""
        return self._recorded(self.folder / RUNS)

    @cached_property
    def baseline(self) -> dict[str, Recorded]:
        """The same, of the commit that this tree was compared with: what they lost was not lost by this tree."""
        return self._recorded(self.folder / BASELINE)

    def _recorded(self, folder: Path) -> dict[str, Recorded]:
        found = {}
        for path in sorted(folder.iterdir() if folder.is_dir() else ()):
            try:
                recorded = _recorded(path)
            except (NoRun, OSError, ValueError, LookupError, TypeError) as error:
                unread = isinstance(error, LookupError | TypeError)
                self.damaged[path.name] = f"{FIGURES} holds no figures: {error!r}" if unread else str(error)
            else:
                found[recorded.about.id] = recorded
        return dict(sorted(found.items(), key=lambda item: item[1].about.started_at))

    def tests_of(self, patterns: Sequence[str], backend: str | None) -> list[Tested]:
        """Those that the patterns name; of a backend only those that ran on it, where tests say so."""
        named = [test for test in self.tests if any(test.is_of(pattern) for pattern in patterns)]
        return [test for test in named if backend is None or test.backend in (backend, None)]

    def compare(self, compared: Compared) -> Comparison | None:
        """
        This tree beside the baseline, by one figure of the rounds in which no gate failed.

        None where there is no such round, or a run is too short to have the figure.

        Raises:
            KeyError: A run cannot be read.
            ValueError: A run of the baseline got nothing done.
        """
        runs = self.baseline | self.runs
        sets = []
        for each in compared.sets:
            arms = {arm: [runs[id] for id in each[arm]] for arm in comparing.ARMS}
            kept = comparing.usable(arms, lambda run: run.gates)
            sets.append([[(run.run.workload, run.figures) for run in arm] for arm in kept.values()])
        return comparing.compare_figure(compared.name.rpartition("/")[2], *sets)

    def sides(self, compared: Compared) -> tuple[list[Recorded], list[Recorded]]:
        """
        The runs of this tree, and those of the baseline.

        Raises:
            KeyError: One cannot be read.
        """
        own = compared.ids(comparing.CANDIDATE)
        others = compared.ids(comparing.BASELINE, comparing.AGAIN)
        return [self.runs[id] for id in own], [self.baseline[id] for id in others]

    def runs_on(self, backend: str | None) -> list[Recorded]:
        return [run for run in self.runs.values() if backend in (None, run.about.backend)]


def read_tests(path: Path) -> list[Tested]:
    """A JUnit file of pytest's, family xunit1, in which each case names its file; raises ValueError on any other."""
    try:
        root = ET.parse(path).getroot()
    except ET.ParseError as error:
        raise ValueError(f"{path}: this is no JUnit file: {error}") from error
    found = []
    for case in root.iter("testcase"):
        outcome, said = "passed", ""
        for tag, word in (("skipped", "skipped"), ("failure", "failed"), ("error", "error")):
            if (element := case.find(tag)) is not None:
                outcome, said = word, element.get("message") or ""
        file = case.get("file") or case.get("classname", "").replace(".", "/") + ".py"
        found.append(Tested(file, case.get("name", ""), outcome, float(case.get("time", 0)), said))
    return found


def _recorded(path: Path) -> Recorded:
    run = Run(path)
    computed = json.loads((path / FIGURES).read_text("utf-8"))
    return Recorded(
        run,
        run.about,
        computed["verdict"],
        [gate["name"] for gate in computed["gates"] if gate["status"] == "failed"],
        computed["gates"],
        {each["promise"]: each["status"] for each in computed["verdicts"]},
        {each["promise"]: each["witness"] for each in computed["verdicts"] if each["witness"]},
        computed["figures"],
    )
