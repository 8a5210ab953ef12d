"""Runs that did not count: each needs a fault that hit it, and one kill repeats no more than it can have hit."""

from collections import defaultdict
from math import isnan

from allocator.bench.checker.case import Case, Faults
from allocator.bench.checker.history import Attempt, History, Run, Stop
from allocator.bench.checker.verdicts import Judgement, Promise


def judge_repeats(case: Case, judgement: Judgement) -> None:
    """EXPLAINED and GRACEFUL; runs that no attempt is known of are INVENTED."""
    history = case.history
    if history.runs is None or history.attempts is None:
        return
    stops: dict[int, list[Stop]] = defaultdict(list)
    for stop in history.stops or ():
        for process in stop.processes:
            stops[process].append(stop)
    for run in history.runs:
        attempt = case.jobs[run.job].attempt(run.token)
        if attempt is None:
            judgement[Promise.INVENTED].against(f"{_said(run)} ran, and no attempt of this token is known")
        elif not _counts(judgement, run, attempt):
            _explain(case, judgement, run, attempt, stops)
    if history.faults is not None:
        judgement[Promise.EXPLAINED].checked += len(history.runs)


def judge_stops(history: History, judgement: Judgement) -> None:
    """GRACEFUL, by how those ended that were asked to stop."""
    stops, graceful = history.stops or (), judgement[Promise.GRACEFUL]
    for stop in stops:
        if not stop.orderly:
            graceful.against(f"the stop asked for at {stop.began_at:.3f} did not end in order")
    if history.runs is None or history.attempts is None:
        graceful.unknown += len(stops)
    else:
        graceful.checked += len(stops)


def judge_kills(history: History, faults: Faults, judgement: Judgement) -> None:
    """EXPLAINED, by how many runs each kill repeated, once all were looked at."""
    for fault, count in faults.explained.items():
        if fault.kind == "kill":
            judgement.kills_that_hit += 1
            judgement.most_repeats = max(judgement.most_repeats, count)
            if count > fault.running + history.settle_group:
                judgement[Promise.EXPLAINED].against(
                    f"the kill at {fault.began_at:.3f} repeated {count} runs; {fault.running} jobs could run there, "
                    f"and {history.settle_group} ends be untold"
                )


def _counts(judgement: Judgement, run: Run, attempt: Attempt) -> bool:
    """Whether the run ended as its attempt is recorded."""
    if attempt.taken is False:
        return False
    if attempt.outcome == "done":
        if run.failed:
            judgement[Promise.RETRIED].against(f"{_said(run)} failed, and was told done")
        return True
    if run.failed and attempt.outcome in ("failed", "buried"):
        judgement.planned_failures += 1
        return True
    # Still under way, as far as anybody knows.
    return attempt.outcome == "running" and isnan(run.finished_at)


def _explain(case: Case, judgement: Judgement, run: Run, attempt: Attempt, stops: dict[int, list[Stop]]) -> None:
    fault = case.faults.hit(run, attempt.leased_at)
    if fault is not None:
        case.faults.explained[fault] += 1
        judgement.repeats[fault.kind] += 1
        return
    outcome = attempt.outcome if attempt.taken is not False else f"{attempt.outcome}, which was refused"
    witness = f"{_said(run)} did not count (it is recorded as {outcome})"
    end = run.finished_at + case.history.settle_within_s
    for process in (run.process, run.parent):
        for stop in stops.get(process, ()):
            if run.started_at <= stop.ended_at and (isnan(end) or end >= stop.began_at):
                judgement[Promise.GRACEFUL].against(f"{witness}; its worker was asked to stop at {stop.began_at:.3f}")
                return
    if case.history.faults is None:
        judgement[Promise.EXPLAINED].unknown += 1
    else:
        judgement[Promise.EXPLAINED].against(f"{witness}, and no fault hit its process")


def _said(run: Run) -> str:
    return f"attempt {run.number} of job {run.job} (process {run.process}, token {run.token})"
