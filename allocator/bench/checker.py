"""
The checker: whether what was seen of a run can be believed of a queue that loses nothing.

It knows nothing of queue, supervisor and store. It compares what was accepted, what the job bodies wrote down
themselves, what the database says and which faults were made, all on one clock, and gives a verdict for each promise.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

SETTLE_GROUP = 64
"""Ends of attempts that are told at a time: what a kill may repeat besides what ran."""

SETTLE_WITHIN_S = 5.0
"""A finished body is told to the database within this time, else a later fault does not explain that it was not."""


@dataclass(frozen=True, slots=True)
class Expected:
    """
    A job that was accepted.

    Args:
        failures: Attempts that fail on purpose: the first so many.
        poison: It fails on purpose in every attempt, and must end as a dead letter.
        max_retries: As it was submitted.
    """

    id: str
    failures: int = 0
    poison: bool = False
    max_retries: int = 3


@dataclass(frozen=True, slots=True)
class Run:
    """
    One run of a job's body, as the body wrote it down.

    Args:
        token: Of the lease that it ran under.
        process: That ran it.
        parent: The parent of that process: the supervisor's, where jobs run in processes of their own.
        started: Seconds since the epoch.
        ended: None where the body never came to its end.
        failed: Whether it ended in the failure that was planned.
    """

    job: str
    attempt: int
    token: str
    process: int
    parent: int
    started: float
    ended: float | None = None
    failed: bool = False

    @property
    def finished(self) -> bool:
        return self.ended is not None and not self.failed


@dataclass(frozen=True, slots=True)
class RecordedAttempt:
    """An attempt in the database; outcome is done, failed, released, cancelled, lost or running."""

    job: str
    token: str
    outcome: str
    leased_at: float


@dataclass(frozen=True, slots=True)
class RecordedJob:
    """A job in the database; the result of a body is the token that it ran under."""

    id: str
    state: str
    result: str | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """
    Something that was done to the system.

    Args:
        kind: Such as `kill`.
        began, ended: Seconds since the epoch.
        processes: Which it hit; None where it hit all, such as the restart of a server.
        running: Jobs that could run at a time in what was hit.
    """

    kind: str
    began: float
    ended: float
    processes: frozenset[int] | None = None
    running: int = 0


@dataclass(slots=True)
class Verdict:
    """Whether one promise held, how often it did not, and the first case where it did not."""

    name: str
    count: int = 0
    witness: str = ""

    @property
    def holds(self) -> bool:
        return self.count == 0

    def against(self, witness: str) -> None:
        self.count += 1
        if self.count == 1:
            self.witness = witness


@dataclass(slots=True)
class Judgement:
    """
    The verdicts, and what was counted on the way.

    Attributes:
        repeats: Kind of fault -> runs that did not count because of it.
        most_repeats: Of one kill.
    """

    verdicts: list[Verdict]
    jobs: int = 0
    runs: int = 0
    done: int = 0
    dead: int = 0
    planned_failures: int = 0
    repeats: Counter[str] = field(default_factory=Counter)
    most_repeats: int = 0

    @property
    def holds(self) -> bool:
        return all(verdict.holds for verdict in self.verdicts)

    def broken(self) -> list[str]:
        """Names of the promises that did not hold."""
        return [verdict.name for verdict in self.verdicts if not verdict.holds]


LOST = "nothing is lost"
INVENTED = "nothing is invented"
DONE_ONCE = "done once in the database"
NO_STALE_END = "only the attempt that has the lease ends a job"
EXPLAINED = "every repeat has a fault that explains it"
BOUNDED = "a kill repeats no more than what ran and one settle group"
RETRIED = "retries are made, and no more than promised"
DRAINED = "everything drains when the faults are over"


def check(
    accepted: Iterable[Expected],
    runs: Iterable[Run],
    jobs: Iterable[RecordedJob],
    attempts: Iterable[RecordedAttempt],
    faults: Sequence[Fault],
    left_in_queue: int = 0,
) -> Judgement:
    """
    Judge a run that has ended.

    Args:
        accepted: Every job whose submit returned, or may have taken effect and was then repeated until it returned.
        runs: In any order.
        jobs: Everything in the database.
        attempts: Everything in the database.
        faults: All that was done to the system, whether it had an effect or not.
        left_in_queue: Jobs that the queue still has as waiting or leased.
    """
    expected = {job.id: job for job in accepted}
    found = {job.id: job for job in jobs}
    recorded = {(attempt.job, attempt.token): attempt for attempt in attempts}
    runs_of: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        runs_of[run.job].append(run)
    attempts_of: dict[str, list[RecordedAttempt]] = defaultdict(list)
    for attempt in recorded.values():
        attempts_of[attempt.job].append(attempt)

    judgement = Judgement([], jobs=len(expected), runs=sum(map(len, runs_of.values())))
    verdicts = {
        name: Verdict(name) for name in (LOST, INVENTED, DONE_ONCE, NO_STALE_END, EXPLAINED, BOUNDED, RETRIED, DRAINED)
    }
    judgement.verdicts = list(verdicts.values())

    for job in expected.values():
        tried = attempts_of[job.id]
        record = found.get(job.id) or RecordedJob(job.id, "")
        _judge_end(job, record, runs_of[job.id], tried, verdicts)
        judgement.done += record.state == "done"
        judgement.dead += record.state == "dead"
    for job_id in sorted((found.keys() | runs_of.keys()) - expected.keys()):
        verdicts[INVENTED].against(f"job {job_id} was submitted by nobody")

    explain = _Explanations(faults)
    for job_runs in runs_of.values():
        for run in job_runs:
            own = recorded.get((run.job, run.token))
            if own is None:
                verdicts[INVENTED].against(f"{_said(run)} ran, and no attempt of this token is in the database")
                continue
            if own.outcome == "done":
                continue
            if own.outcome == "failed" and run.failed:
                judgement.planned_failures += 1
                continue
            fault = explain.find(run, own)
            if fault is None:
                verdicts[EXPLAINED].against(
                    f"{_said(run)} did not count (it is recorded as {own.outcome}), and no fault hit its process"
                )
            else:
                judgement.repeats[fault.kind] += 1
    for cause, count in explain.explained.items():
        if cause.kind == "kill":
            judgement.most_repeats = max(judgement.most_repeats, count)
            if count > cause.running + SETTLE_GROUP:
                verdicts[BOUNDED].against(
                    f"the kill at {cause.began:.3f} repeated {count} runs; {cause.running} jobs could run there"
                )
    if left_in_queue:
        verdicts[DRAINED].count = left_in_queue
        verdicts[DRAINED].witness = f"{left_in_queue} jobs still wait in the queue or are leased"
    return judgement


def _judge_end(
    job: Expected, record: RecordedJob, runs: list[Run], attempts: list[RecordedAttempt], verdicts: dict[str, Verdict]
) -> None:
    done = [attempt for attempt in attempts if attempt.outcome == "done"]
    if len(done) > 1:
        verdicts[DONE_ONCE].against(f"job {job.id} was done {len(done)} times")
    match record.state:
        case "":
            verdicts[LOST].against(f"job {job.id} was accepted, and the database does not know it")
        case "done":
            if not any(run.finished for run in runs):
                swallowed = any(run.failed for run in runs)
                verdicts[RETRIED if swallowed else LOST].against(
                    f"job {job.id} is done in the database, and none of its {len(runs)} runs came to its end"
                )
            _judge_done(record, runs, done, verdicts[NO_STALE_END])
        case "dead":
            charged = sum(attempt.outcome in ("failed", "lost") for attempt in attempts)
            if not job.poison:
                verdicts[LOST].against(f"job {job.id} is dead after {charged} attempts, and was not to die")
            elif charged <= job.max_retries:
                verdicts[RETRIED].against(
                    f"job {job.id} was given up after {charged} charged attempts; {job.max_retries + 1} were promised"
                )
        case _:
            verdicts[LOST].against(f"job {job.id} never ended: the database has it as {record.state}")


def _judge_done(job: RecordedJob, runs: list[Run], done: list[RecordedAttempt], verdict: Verdict) -> None:
    """The attempt that is recorded as done must be the one whose result was kept, and have come to its end itself."""
    tokens = {attempt.token for attempt in done}
    own = [run for run in runs if run.token in tokens]
    if not done:
        verdict.against(f"job {job.id} is done in the database, and none of its attempts is")
    elif job.result not in tokens:
        verdict.against(
            f"job {job.id}: attempt {done[0].token} is done in the database, with the result of {job.result}"
        )
    elif any(run.finished for run in runs) and not any(run.finished for run in own):
        verdict.against(f"job {job.id}: the attempt that the database has as done never came to its end; another did")


class _Explanations:
    """Faults, to be looked up by the process that they hit."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.explained: Counter[Fault] = Counter()
        self._of_all = sorted((fault for fault in faults if fault.processes is None), key=lambda fault: fault.ended)
        self._ends = [fault.ended for fault in self._of_all]
        self._of_process: dict[int, list[Fault]] = defaultdict(list)
        for fault in faults:
            for process in fault.processes or ():
                self._of_process[process].append(fault)

    def find(self, run: Run, attempt: RecordedAttempt) -> Fault | None:
        """The first fault that hit the run's process, or everything, between its lease and the time to settle it."""
        begin = min(run.started, attempt.leased_at)
        end = float("inf") if run.ended is None else run.ended + SETTLE_WITHIN_S
        hits = [
            fault
            for process in (run.process, run.parent)
            for fault in self._of_process[process]
            if fault.began <= end and fault.ended >= begin
        ]
        at = bisect_left(self._ends, begin)
        if at < len(self._of_all) and self._of_all[at].began <= end:
            hits.append(self._of_all[at])
        if not hits:
            return None
        first = min(hits, key=lambda fault: fault.began)
        self.explained[first] += 1
        return first


def _said(run: Run) -> str:
    return f"attempt {run.attempt} of job {run.job} (process {run.process}, token {run.token})"
