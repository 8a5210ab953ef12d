"""What the store says of a job, against the attempts that it recorded: states that led to one another."""

from collections.abc import Sequence

from allocator.bench.checker.case import Case, OfJob, said
from allocator.bench.checker.history import Attempt, Record
from allocator.bench.checker.verdicts import Judgement, Promise


def judge_store(case: Case, judgement: Judgement) -> None:
    """TRANSITIONS, and what results tell of STALE."""
    history = case.history
    if not history.by_store or history.records is None or history.attempts is None:
        return
    transitions = judgement[Promise.TRANSITIONS]
    for of_job in case.jobs.values():
        record = of_job.record
        if record is None:
            continue
        transitions.checked += 1
        if problem := _illegal(record, of_job.attempts):
            transitions.against(f"job {record.job} {problem}")
        if record.state == "done":
            _judge_done(case, judgement, record, of_job)


def _illegal(record: Record, attempts: Sequence[Attempt]) -> str:
    """What cannot have happened; empty if all can."""
    done = [attempt for attempt in attempts if attempt.outcome == "done" and attempt.taken is not False]
    running = [attempt for attempt in attempts if attempt.outcome == "running"]
    if len(done) > 1:
        return f"was done {len(done)} times, by {said(done[0])} and {said(done[1])}"
    if done and record.state != "done":
        return f"was done by {said(done[0])}, and went on to {record.state}"
    if record.state == "done" and not done:
        return f"is done, and none of its {len(attempts)} attempts is"
    if done and done[0] is not attempts[-1] and attempts[-1].leased_at > done[0].told_at:
        return f"was done by {said(done[0])}, and went on to {said(attempts[-1])}"
    if len(running) > 1 or (running and record.state not in ("processing", "leased")):
        return f"is {record.state}, and {said(running[-1])} runs"
    return ""


def _judge_done(case: Case, judgement: Judgement, record: Record, of_job: OfJob) -> None:
    """The attempt that is recorded as done must be the one whose result was kept, and have come to its end itself."""
    stale = judgement[Promise.STALE]
    done = [attempt.token for attempt in of_job.attempts if attempt.outcome == "done"]
    runs = of_job.runs
    if not done or (record.result is None and case.history.runs is None):
        return
    stale.checked += 1
    if record.result is not None and record.result not in done:
        stale.against(f"job {record.job}: attempt {done[0]} is done in the store, with the result of {record.result}")
    elif any(run.finished for run in runs) and not any(run.finished for run in runs if run.token in done):
        stale.against(
            f"job {record.job}: attempt {done[0]} is done in the store and never came to its end; another did"
        )
