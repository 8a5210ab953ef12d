"""From a history to its judgement."""

from collections.abc import Iterable

from allocator.bench.checker.accounts import Unfinished, judge_accounts, judge_drained
from allocator.bench.checker.case import Case, Faults
from allocator.bench.checker.due import judge_due
from allocator.bench.checker.history import History
from allocator.bench.checker.leases import judge_leases
from allocator.bench.checker.order import Order
from allocator.bench.checker.queues import judge_queue
from allocator.bench.checker.repeats import judge_kills, judge_repeats, judge_stops
from allocator.bench.checker.retries import judge_retries
from allocator.bench.checker.stores import judge_store
from allocator.bench.checker.verdicts import Judgement


def check(history: History) -> Judgement:
    """
    Judge a run that has ended.

    A promise is broken where something shows it, holds where everything that bears on it was seen, and is not judged
    where that is missing. Takes time in proportion to the evidence; the order of jobs a logarithm more.
    """
    return check_parts([history])


def check_parts(parts: Iterable[History]) -> Judgement:
    """
    Judge a run of so many jobs that it is better not all in memory at once.

    A part tells all that is known of some of the jobs: jobs that share a token or a list are in the same one. What is
    known of the whole run (faults, stops, calls of dequeue without a reply) is the same in each; `left` is the part's
    own. Where there is more than one, nothing may be known of layout, counts and what was found.

    Raises:
        ValueError: There is no part.
    """
    judgement, unfinished, order = Judgement(), Unfinished(), Order()
    faults: Faults | None = None
    for history in parts:
        faults = faults or Faults(history.faults or (), history.settle_within_s)
        case = Case(history, faults)
        judgement.jobs += sum(bool(of_job.enqueues) for of_job in case.jobs.values())
        judgement.runs += len(history.runs or ())
        # Leases first: which ends should not have been taken is what the accounts leave out.
        judge_leases(case, judgement)
        judge_accounts(case, judgement, unfinished)
        judge_queue(case, judgement)
        judge_store(case, judgement)
        judge_repeats(case, judgement)
        judge_retries(case, judgement)
        judge_due(case, judgement)
        order.add(case)
    if faults is None:
        raise ValueError("parts: there is none; a run without jobs is one part without any")
    # Of what is known of the whole run, the last part tells as much as any.
    judge_drained(judgement, unfinished)
    judge_stops(history, judgement)
    judge_kills(history, faults, judgement)
    order.judge(history, judgement)
    return judgement
