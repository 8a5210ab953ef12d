"""What became of each claim: computed from the evidence of this report, and never written anywhere else."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from allocator.bench.statistics.comparison import Comparison, Verdict
from allocator.report.artefacts import RUNS, Compared, Measure
from allocator.report.claims import BACKENDS, Claim, Target
from allocator.report.evidence import Evidence, Recorded, Tested
from allocator.report.numbers import between, counted, shown

SHOWN_RUNS = 3
GROWING = ("wait_", "sojourn_")
"""Times that grow with the length of a run which does not keep up."""


class Status(StrEnum):
    """Of a claim."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_MEASURED = "NOT MEASURED"


@dataclass(frozen=True)
class Finding:
    """
    A claim, and what this report found of it.

    Args:
        reason: In words; of a PASS what it rests on.
        value, low, high: The figure and its interval in `unit`; None where the evidence is none.
        n: What it is of: runs, tests, jobs.
        struck: Whether the figure comes from a run that broke a promise, and so says nothing.
        runs: Ids of the runs it rests on.
    """

    claim: Claim
    status: Status
    reason: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    unit: str = ""
    n: str = ""
    struck: bool = False
    notebook: str = ""
    runs: Sequence[str] = field(default_factory=tuple)

    @property
    def shown_value(self) -> str:
        return "" if self.value is None else shown(self.value, self.unit)

    @property
    def shown_interval(self) -> str:
        text = between(self.low, self.high, self.unit)
        return text and (f"{text} ({shown(self.level, 'share')})" if self.level else f"{text} (least, most)")

    @property
    def links(self) -> list[tuple[str, str]]:
        """Text and path, within the report's folder, of what it rests on."""
        found = [(self.notebook, f"notebooks/{self.notebook}.ipynb")] if self.notebook else []
        found += [(f"run {number}", f"{RUNS}/{id}/") for number, id in enumerate(self.runs[:SHOWN_RUNS], 1)]
        return found + ([("tests", "tests.xml")] if self.claim.tests and self.n else [])


def judge(claims: Iterable[Claim], evidence: Evidence) -> list[Finding]:
    """A finding for each claim, in their order."""
    return [_judge(claim, evidence) for claim in claims]


def gating_failures(findings: Iterable[Finding]) -> list[Finding]:
    """What makes `allocator report` end with exit status 1."""
    return [each for each in findings if each.status is Status.FAIL and each.claim.gates]


def _judge(claim: Claim, evidence: Evidence) -> Finding:
    if claim.tests:
        return _by_tests(claim, evidence.tests_of(claim.tests, claim.backend), evidence)
    if claim.compared is not None:
        return _by_comparison(claim, evidence.compared.get(claim.compared), evidence)
    if claim.promise is not None:
        return _by_promise(claim, [run for run in evidence.runs_on(claim.backend) if run.is_kept])
    return _by_measure(claim, evidence.measures.get(claim.measure or ""), evidence)


def _by_tests(claim: Claim, tests: list[Tested], evidence: Evidence) -> Finding:
    counts = Counter(test.outcome for test in tests)
    ran = len(tests) - counts["skipped"]
    passed = f"{counts['passed']:,} of {counted(ran, 'test')}"
    for outcome, status, word in (("failed", Status.FAIL, "failed"), ("error", Status.INCONCLUSIVE, "could not start")):
        if counts[outcome]:
            first = next(test for test in tests if test.outcome == outcome)
            said = f"{counted(counts[outcome], 'test')} {word}, first {first.name}: {_line(first.said)}"
            return Finding(claim, status, said, n=passed)
    if not tests:
        return Finding(claim, Status.NOT_MEASURED, claim.reason or evidence.untested)
    if not ran:
        return Finding(claim, Status.NOT_MEASURED, f"its tests were skipped: {_line(tests[0].said)}")
    if evidence.cut_short:
        said = f"{counted(ran, 'test')} passed, but not all may have run: {_line(evidence.cut_short)}"
        return Finding(claim, Status.INCONCLUSIVE, said, n=passed)
    skipped = f"; {counts['skipped']} skipped" if counts["skipped"] else ""
    return Finding(claim, Status.PASS, f"{counted(ran, 'test')} passed{skipped}", n=passed)


def _by_promise(claim: Claim, runs: list[Recorded]) -> Finding:
    promise = str(claim.promise)
    judged = [run for run in runs if run.promises.get(promise) in ("holds", "broken")]
    broken = [run for run in judged if run.promises[promise] == "broken"]
    ids, n = [run.about.id for run in broken or judged], counted(len(judged), "run")
    if broken:
        witness = broken[0].witnesses.get(promise, "")
        return Finding(claim, Status.FAIL, f"broken in {len(broken)} of {n}: {witness}", n=n, runs=ids)
    if judged:
        jobs = sum(run.figures["accepted"] for run in judged)
        return Finding(claim, Status.PASS, f"held in {n} with {counted(jobs, 'accepted job')}", n=n, runs=ids)
    where = BACKENDS.get(claim.backend or "", "")
    none = f"no run on {where} shows it" if runs else f"there was no run on {where}".replace("on in", "in")
    return Finding(claim, Status.NOT_MEASURED, claim.reason or none)


def _by_measure(claim: Claim, measure: Measure | None, evidence: Evidence) -> Finding:
    target = claim.target
    assert target is not None
    if measure is None:
        return Finding(claim, Status.NOT_MEASURED, claim.reason or evidence.unmeasured)
    if measure.value is None:
        return Finding(claim, Status.NOT_MEASURED, measure.reason, notebook=measure.notebook)
    runs = [evidence.runs[id] for id in measure.runs if id in evidence.runs]
    struck = any(run.verdict == "broken" for run in runs)
    status, reason = _decide(target, measure, runs, len(measure.runs))
    return Finding(
        claim, status, reason, measure.value, measure.low, measure.high, measure.level, measure.unit,
        "" if measure.n is None else f"{measure.n:,}", struck, measure.notebook, measure.runs,
    )  # fmt: skip


def _by_comparison(claim: Claim, compared: Compared | None, evidence: Evidence) -> Finding:
    if compared is None:
        told = evidence.measures.get(claim.compared or "")
        return Finding(claim, Status.NOT_MEASURED, told.reason if told else claim.reason or evidence.uncompared)
    try:
        comparison = evidence.compare(compared)
        own, others = evidence.sides(compared)
    except (KeyError, ValueError) as error:
        return Finding(claim, Status.INCONCLUSIVE, f"its runs cannot be compared: {error}", notebook=compared.notebook)
    failed = sorted({gate for run in (*own, *others) for gate in run.gates})
    left_out = f"; rounds in which a gate failed were left out ({', '.join(failed)})" if failed else ""
    if comparison is None:
        none = f"there is no round in which every run has it{left_out}"
        return Finding(claim, Status.INCONCLUSIVE, none, notebook=compared.notebook)
    status, reason = _decide_comparison(comparison, own, others)
    ratio, struck = comparison.ratio, any(run.verdict == "broken" for run in (*own, *others))
    return Finding(
        claim, status, reason + left_out, ratio.value, ratio.low, ratio.high, ratio.level, "×",
        f"{counted(ratio.runs, 'run')} of each", struck, compared.notebook,
        [run.about.id for run in own],
    )  # fmt: skip


def _decide_comparison(comparison: Comparison, own: list[Recorded], others: list[Recorded]) -> tuple[Status, str]:
    """In the order of `_decide`; the margin, which the machine's own restlessness widens, is in the verdict."""
    for run in own:
        if run.verdict == "broken":
            return Status.FAIL, f"its run broke a promise: {'; '.join(run.broken) or run.about.problem}"
    for run in others:
        if run.verdict == "broken":
            return Status.INCONCLUSIVE, f"the baseline broke a promise: {'; '.join(run.broken) or run.about.problem}"
    held = comparison.verdict in (Verdict.BETTER, Verdict.EQUIVALENT)
    status = Status.FAIL if comparison.fails else Status.PASS if held else Status.INCONCLUSIVE
    return status, comparison.sentence.removesuffix(".")


def _decide(target: Target, measure: Measure, runs: list[Recorded], named: int) -> tuple[Status, str]:
    """In this order: what the figure rests on, whether it may be used, and only then the figure itself."""
    value = measure.value
    assert value is not None
    if len(runs) < named:
        return Status.INCONCLUSIVE, f"{counted(named - len(runs), 'run')} that it rests on cannot be read"
    for run in runs:
        if run.verdict == "broken":
            return Status.FAIL, f"its run broke a promise: {'; '.join(run.broken) or run.about.problem}"
    if measure.unit != target.unit:
        return (
            Status.INCONCLUSIVE,
            f"it was measured in {measure.unit or 'no unit'}, and the target is in {target.unit or 'no unit'}",
        )
    for run in runs:
        if run.gates:
            return Status.INCONCLUSIVE, f"a gate of its run failed: {'; '.join(run.gates)}"
        if run.about.interrupted:
            return Status.INCONCLUSIVE, "its run was interrupted"
        if measure.name.rpartition("/")[2].startswith(GROWING) and run.saturated:
            return Status.INCONCLUSIVE, "the run was saturated: times grow with its length"
    ends = [value] if measure.low is None or measure.high is None else [measure.low, value, measure.high]
    met = [target.met_by(end) for end in ends]
    if all(met):
        return Status.PASS, measure.note
    if not any(met):
        return Status.FAIL, f"the target is {target}"
    what = "interval" if measure.level else "range of the runs"
    return Status.INCONCLUSIVE, f"the {what} reaches across the target of {target}"


def _line(text: str) -> str:
    return text.strip().splitlines()[0][:300] if text.strip() else "no reason given"
