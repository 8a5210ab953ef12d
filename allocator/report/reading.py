"""A report, read from its folder: its claims, what was found of each, and what follows for the whole."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from allocator.bench.checker.verdicts import Promise
from allocator.report.claims import BACKENDS, COMPONENTS, OWN_COMPONENT, load_claims
from allocator.report.evidence import Evidence, Recorded
from allocator.report.made import COMPARING, FAILED, OWN_CLAIMS, PASSED, TIMED_OUT, Made
from allocator.report.status import Finding, Status, gating_failures, judge

WORST_FIRST = (Status.FAIL, Status.INCONCLUSIVE, Status.NOT_MEASURED, Status.PASS)


@dataclass(frozen=True)
class Component:
    """
    A part of the system.

    Args:
        status: FAIL or INCONCLUSIVE if one of its claims is; PASS if some passed and none of these; else NOT MEASURED.
        tested: Tests that passed, and that ran; each counted once.
    """

    name: str
    title: str
    findings: list[Finding]
    tested: tuple[int, int]

    @property
    def is_partly(self) -> bool:
        """Whether it holds as far as it was measured, which was not all of it."""
        return self.status is Status.PASS and self.passed < len(self.findings)

    @property
    def passed(self) -> int:
        return self.count(Status.PASS)

    def count(self, status: str) -> int:
        return sum(each.status == status for each in self.findings)

    @property
    def status(self) -> Status:
        found = {each.status for each in self.findings}
        for status in (Status.FAIL, Status.INCONCLUSIVE, Status.PASS):
            if status in found:
                return status
        return Status.NOT_MEASURED


@dataclass(frozen=True)
class Unmeasured:
    """Claims that were not measured for one reason, and the commands that would measure them."""

    reason: str
    findings: list[Finding]

    @property
    def commands(self) -> list[str]:
        return list(dict.fromkeys(each.claim.how for each in self.findings))


class Report:
    """
    A report's folder, judged.

    Raises:
        NoReport: It holds none.
        BadClaim, BadMeasure: Its claims or measures cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.made = Made.read(folder)
        self.evidence = Evidence(self.folder)
        if self.made.tests.error:
            self.evidence.untested = self.made.tests.error
        if self.made.tests.status in (FAILED, TIMED_OUT):
            self.evidence.cut_short = f"the tests {self.made.tests.status}: {self.made.tests.error}"
        unmade = [f"{step.name}: {step.status}" for step in self.made.notebooks if step.status != PASSED]
        if unmade:
            self.evidence.unmeasured += f" ({', '.join(unmade)})"
        if self.made.baseline:
            ended = [each for each in unmade if each.startswith(COMPARING)]
            self.evidence.uncompared = ", ".join(ended) or f"{COMPARING} was told not to compare it"
        own = self.folder / OWN_CLAIMS
        self.findings = judge(load_claims(*([own] if own.exists() else [])), self.evidence)

    @property
    def id(self) -> str:
        return self.made.id

    def having(self, status: Status) -> list[Finding]:
        return [each for each in self.findings if each.status is status]

    @property
    def counts(self) -> dict[str, int]:
        """Status -> claims."""
        counted = Counter(str(each.status) for each in self.findings)
        return {str(status): counted[str(status)] for status in Status}

    @property
    def exit_status(self) -> int:
        """1: a claim that gates fails; 2: the harness or the set-up broke; else 0."""
        if gating_failures(self.findings):
            return 1
        return 2 if self.made.broken or self.evidence.damaged else 0

    @cached_property
    def components(self) -> list[Component]:
        """In the order of the page; the user's own last, if there are any."""
        titles = COMPONENTS | {OWN_COMPONENT: "Your claims"}
        of: dict[str, list[Finding]] = defaultdict(list)
        for finding in self.findings:
            of[finding.claim.component].append(finding)
        return [Component(name, title, of[name], self._tested(of[name])) for name, title in titles.items() if of[name]]

    def _tested(self, findings: list[Finding]) -> tuple[int, int]:
        claims = [each.claim for each in findings]
        tests = {
            test.id: test.outcome
            for claim in claims
            for test in self.evidence.tests_of(claim.tests, claim.backend)
            if test.outcome != "skipped"
        }
        return sum(outcome == "passed" for outcome in tests.values()), len(tests)

    @cached_property
    def unmeasured(self) -> list[Unmeasured]:
        """What was not measured, by reason, the most claims first."""
        groups: dict[str, list[Finding]] = defaultdict(list)
        for finding in self.having(Status.NOT_MEASURED):
            groups[finding.reason].append(finding)
        found = [Unmeasured(reason, findings) for reason, findings in groups.items()]
        return sorted(found, key=lambda group: -len(group.findings))

    @cached_property
    def runs(self) -> list[Recorded]:
        """Whose servers kept what they accepted."""
        return [run for run in self.evidence.runs.values() if run.is_kept]

    @property
    def kept(self) -> list[Recorded]:
        """Those runs in which it was looked whether jobs are lost, and none was."""
        return [run for run in self.runs if run.promises.get(Promise.LOST) == "holds" and not run.has_lost]

    @property
    def lost_on(self) -> list[str]:
        """Where accepted jobs were lost or never came to an end, in words."""
        where = {run.about.backend for run in self.runs if run.has_lost}
        return [title for backend, title in BACKENDS.items() if backend in where]

    @property
    def kept_on(self) -> list[str]:
        """Where it was looked whether jobs are lost, and none was."""
        where = {run.about.backend for run in self.kept}
        return [title for backend, title in BACKENDS.items() if backend in where and title not in self.lost_on]
