"""From a history to its judgement."""

from allocator.bench.checker.accounts import judge_accounts
from allocator.bench.checker.case import Case
from allocator.bench.checker.due import judge_due
from allocator.bench.checker.history import History
from allocator.bench.checker.leases import judge_leases
from allocator.bench.checker.order import judge_order
from allocator.bench.checker.queues import judge_queue
from allocator.bench.checker.repeats import judge_repeats
from allocator.bench.checker.retries import judge_retries
from allocator.bench.checker.stores import judge_store
from allocator.bench.checker.verdicts import Judgement


def check(history: History) -> Judgement:
    """
    Judge a run that has ended.

    A promise is broken where something shows it, holds where everything that bears on it was seen, and is not judged
    where that is missing. Takes time in proportion to the evidence; the order of jobs a logarithm more.
    """
    case = Case(history)
    sent = sum(bool(of_job.enqueues) for of_job in case.jobs.values())
    judgement = Judgement(jobs=sent, runs=len(history.runs or ()))
    # Leases first: which ends should not have been taken is what the accounts leave out.
    judge_leases(case, judgement)
    judge_accounts(case, judgement)
    judge_queue(case, judgement)
    judge_store(case, judgement)
    judge_repeats(case, judgement)
    judge_retries(case, judgement)
    judge_due(case, judgement)
    judge_order(case, judgement)
    return judgement
