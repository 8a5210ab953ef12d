"""Delays: neither a delayed job nor a retry starts before its time."""

from itertools import pairwise
from math import isnan, nan

from allocator.bench.checker.case import Case, OfJob, said
from allocator.bench.checker.history import Attempt, Enqueue
from allocator.bench.checker.verdicts import Judgement, Promise


def judge_due(case: Case, judgement: Judgement) -> None:
    """DUE: by the due time that came with a lease, by the delay of the job, and by the backoff after a failure."""
    due = judgement[Promise.DUE]
    early_s = case.history.clock_error_s
    for of_job in case.jobs.values():
        attempts, enqueue = of_job.attempts, of_job.only
        if not attempts:
            continue
        if enqueue is not None and enqueue.delay_s > 0:
            _judge_start(
                of_job, judgement, attempts[0], enqueue.asked_at + enqueue.delay_s - early_s, "as it was enqueued"
            )
        for attempt in attempts:
            if not isnan(attempt.due_at):
                _judge_start(of_job, judgement, attempt, attempt.due_at - early_s, "as its lease says")
        for earlier, later in pairwise(attempts):
            delay_s = _delay_s(earlier, enqueue)
            if not isnan(delay_s) and _follows(of_job, earlier, later) and not _disturbed(case, of_job, earlier, later):
                when = f"{delay_s:g} s after {said(earlier)} was {earlier.outcome}"
                _judge_start(of_job, judgement, later, earlier.told_at + delay_s - early_s, when)
        for run in of_job.runs:
            own = of_job.attempt(run.token)
            if own is None or isnan(own.leased_at) or isnan(run.started_at):
                continue
            due.checked += 1
            if run.started_at < own.leased_at - early_s:
                due.against(
                    f"job {run.job}: {said(own)} started at {run.started_at:.3f}, and was leased at {own.leased_at:.3f}"
                )


def _delay_s(attempt: Attempt, enqueue: Enqueue | None) -> float:
    """The least delay after an attempt; NaN if none is known."""
    if attempt.taken is not True or attempt.outcome not in ("failed", "released"):
        return nan
    if not isnan(attempt.delay_s):
        return attempt.delay_s
    if attempt.outcome == "released" or enqueue is None or enqueue.backoff is None or not attempt.number:
        return nan
    # Jitter takes off at most its share.
    backoff = enqueue.backoff
    return min(backoff.cap, backoff.base * backoff.factor ** (attempt.number - 1)) * (1 - backoff.jitter)


def _follows(of_job: OfJob, earlier: Attempt, later: Attempt) -> bool:
    """Whether a lease can only have come of the end of another."""
    if later.leased_at < earlier.told_at:
        # It was given before, ran out, and its holder heard of it late.
        return False
    until = of_job.had_at(later)
    return len(of_job.enqueues) < 2 or not any(
        enqueue.taken is not False and enqueue.asked_at < until and not enqueue.answered_at < earlier.told_at
        for enqueue in of_job.enqueues
    )


def _disturbed(case: Case, of_job: OfJob, earlier: Attempt, later: Attempt) -> bool:
    """Whether a fault may have kept the end of an attempt from the queue: its lease ran out then, and with no delay."""
    if case.history.fenced_by_queue:
        return False
    runs = [run for run in of_job.runs if run.token == earlier.token]
    return not runs or case.faults.hit(runs[0], earlier.leased_at, later.leased_at) is not None


def _judge_start(of_job: OfJob, judgement: Judgement, attempt: Attempt, not_before: float, why: str) -> None:
    due, had_at = judgement[Promise.DUE], of_job.had_at(attempt)
    if isnan(not_before) or isnan(had_at):
        due.unknown += 1
        return
    due.checked += 1
    if had_at < not_before:
        due.against(f"job {attempt.job}: {said(attempt)} began at {had_at:.3f}, due at {not_before:.3f} ({why})")
