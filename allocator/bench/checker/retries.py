"""Attempts of a job, counted: as many as it was allowed, then dead, once, for the reason it failed with last."""

from itertools import pairwise
from math import inf

from allocator.bench.checker.case import CHARGED, ENDS, Case, OfJob, said
from allocator.bench.checker.history import Attempt, Letter
from allocator.bench.checker.verdicts import Judgement, Promise

EXPIRED = "lease expired"
"""What a queue says of an attempt whose end it was never told."""


def judge_retries(case: Case, judgement: Judgement) -> None:
    """RETRIED, for jobs that were enqueued once and not put back by hand."""
    if case.history.attempts is None:
        return
    retried = judgement[Promise.RETRIED]
    letters = {letter.job: letter for letter in case.history.letters or ()}
    unseen = bool(case.history.unknown_dequeues)
    for job, of_job in case.jobs.items():
        enqueue = of_job.only
        if enqueue is None or enqueue.taken is False:
            continue
        state = case.state(of_job)
        if state is None:
            retried.unknown += 1
        elif enqueue.max_retries is not None:
            retried.checked += 1
            letter = letters.get(job)
            hidden = _may_hide(case, of_job, letter)
            if problem := _wrong_end(case, of_job, state, enqueue.max_retries, letter, hidden):
                retried.against(f"job {job} {problem}")
                continue
        if case.history.fenced_by_queue and not unseen:
            _judge_numbers(case, judgement, of_job)


def _may_hide(case: Case, of_job: OfJob, letter: Letter | None) -> bool:
    """Whether there may have been attempts that neither those that are known count, nor a dead letter."""
    if case.history.unknown_dequeues and letter is None:
        return True
    if not of_job.attempts:
        return False
    if case.faults.forgot(of_job.attempts[0].leased_at, inf):
        return True
    return letter is None and case.faults.any(of_job.attempts[-1].leased_at, inf)


def _wrong_end(case: Case, of_job: OfJob, state: str, max_retries: int, letter: Letter | None, hidden: bool) -> str:
    """
    What does not fit: the end of a job and its attempts; empty if all does.

    Args:
        hidden: Whether there may have been attempts that nothing here counts.
    """
    attempts = of_job.attempts
    charged = [attempt for attempt in attempts if attempt.outcome in CHARGED or attempt.taken is False]
    # Of what the store or a client knows as lost, the queue may have forgotten all; what was told failed, it was told.
    failed = [attempt for attempt in charged if attempt.taken and attempt.outcome != "lost"]
    buried = [attempt for attempt in failed if attempt.outcome == "buried"]
    allowed = max_retries + 1
    if state != "dead":
        if buried:
            return f"was given up by {said(buried[0])}, and is {state or 'gone'}"
        if len(failed) >= allowed:
            return f"failed {len(failed)} times, was allowed {allowed} attempts, and is {state or 'gone'}"
        return ""
    if len(buried) > 1:
        return f"died {len(buried)} times: {said(buried[0])}, {said(buried[1])}"
    if len(failed) > allowed:
        return f"failed {len(failed)} times; it was allowed {allowed} attempts"
    # A number counts what the store never heard of as well: a lease whose holder was killed before it could begin.
    known = max([len(charged), *(attempt.number for attempt in charged)])
    counted = known if letter is None else letter.attempt_count
    may_be_buried = any(attempt.outcome == "buried" and attempt.taken is not False for attempt in attempts)
    if counted < allowed and not may_be_buried and not hidden:
        return f"was given up after {counted} failed attempts; it was allowed {allowed}"
    died_later = hidden or counted > known
    return "" if died_later else _wrong_error(case, of_job, letter)


def _wrong_error(case: Case, of_job: OfJob, letter: Letter | None) -> str:
    """A dead letter tells the error of the attempt that was its last."""
    last = of_job.attempts[-1] if of_job.attempts else None
    if last is None or last.error is None or not last.taken or last.outcome not in ("failed", "buried"):
        return ""
    kept = letter or of_job.record
    error = None if kept is None else kept.error
    if error is None or error == last.error:
        return ""
    if error == EXPIRED and _was_not_told(case, of_job, last):
        return ""
    return f"died of {last.error!r} in {said(last)}, and is kept with the error {error!r}"


def _judge_numbers(case: Case, judgement: Judgement, of_job: OfJob) -> None:
    """
    Attempts count on after one that is charged, and stay after one that is not.

    They may count further where a fault came between: it may have hidden leases that were charged.
    """
    retried = judgement[Promise.RETRIED]
    for earlier, later in pairwise(of_job.attempts):
        is_told = earlier.outcome in ENDS and earlier.taken is True and earlier.token not in case.stale
        if not (earlier.number and later.number) or not (is_told or earlier.outcome == "lost"):
            continue
        if case.faults.forgot(earlier.leased_at, later.leased_at):
            continue
        retried.checked += 1
        expected = earlier.number + (earlier.outcome in CHARGED)
        hidden = later.number > expected and case.faults.any(earlier.leased_at, of_job.had_at(later))
        if later.number != expected and not hidden:
            retried.against(
                f"job {of_job.job}: attempt {later.number} followed {earlier.number}, which was {earlier.outcome} "
                f"(tokens {earlier.token}, {later.token})"
            )


def _was_not_told(case: Case, of_job: OfJob, last: Attempt) -> bool:
    """Whether the store heard of the end of an attempt, and a fault kept its holder from telling the queue as well."""
    if of_job.record is None or of_job.record.error != last.error:
        return False
    return any(run.token == last.token and case.faults.hit(run, last.leased_at) for run in of_job.runs)
