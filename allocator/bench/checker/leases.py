"""Leases of a job, one after the other: none begins while another runs, and none is ended by another's holder."""

from collections import Counter
from itertools import pairwise
from math import isnan, nan

from allocator.bench.checker.case import ENDS, Case, OfJob, said
from allocator.bench.checker.history import Attempt
from allocator.bench.checker.verdicts import Judgement, Promise


def judge_leases(case: Case, judgement: Judgement) -> None:
    """OVERLAP, and what instants tell of STALE."""
    overlap = judgement[Promise.OVERLAP]
    tokens = [attempt.token for attempt in case.history.attempts or ()]
    if len(set(tokens)) < len(tokens):
        for token, count in Counter(tokens).items():
            if count > 1:
                overlap.against(f"the token {token} was given {count} times")
    stale, fenced_by_queue = judgement[Promise.STALE], case.history.fenced_by_queue
    for of_job in case.jobs.values():
        attempts = of_job.attempts
        if not attempts:
            continue
        for earlier, later in pairwise(attempts):
            _judge_pair(case, judgement, of_job, earlier, later)
        last = attempts[-1]
        if isnan(last.leased_at):
            overlap.unknown += 1
        else:
            overlap.checked += 1
        if fenced_by_queue and last.taken and last.outcome in ENDS:
            stale.checked += 1


def _judge_pair(case: Case, judgement: Judgement, of_job: OfJob, earlier: Attempt, later: Attempt) -> None:
    overlap, stale = judgement[Promise.OVERLAP], judgement[Promise.STALE]
    again_at = of_job.had_at(later) + case.history.clock_error_s
    held_until, over_at = _held_until(earlier), _held_until(later)
    if not case.faults.forgot(earlier.leased_at, again_at):
        if isnan(held_until) or isnan(again_at) or isnan(over_at):
            overlap.unknown += 1
        else:
            overlap.checked += 1
            # A lease may be over by the time that its holder hears of it; then nobody had it.
            if again_at < min(held_until, over_at):
                overlap.against(
                    f"job {of_job.job}: {said(earlier)} was leased at {earlier.leased_at:.3f}, at least until "
                    f"{held_until:.3f}; {said(later)} was leased by {of_job.had_at(later):.3f}"
                )
                return
    if not case.history.fenced_by_queue or not earlier.taken or earlier.outcome not in ENDS:
        return
    if isnan(earlier.told_at) or isnan(again_at):
        stale.unknown += 1
        return
    stale.checked += 1
    if again_at < earlier.told_at and not again_at >= later.expires_at:
        case.stale.add(earlier.token)
        stale.against(
            f"job {of_job.job}: {said(later)} was leased by {of_job.had_at(later):.3f}; that {said(earlier)} was "
            f"{earlier.outcome}, told at {earlier.told_at:.3f}, was taken all the same"
        )


def _held_until(attempt: Attempt) -> float:
    """Until when it surely had its lease, unless the queue forgot it; NaN if that is not known."""
    if attempt.outcome in ENDS and attempt.taken is not False:
        return nan if isnan(attempt.told_at) or isnan(attempt.expires_at) else min(attempt.told_at, attempt.expires_at)
    return attempt.expires_at
