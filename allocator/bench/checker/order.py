"""
Order: who surely waited, and by rank came first, is leased first.

Calls take time, and only what is certain counts. A job surely waits from the reply to its enqueue until the call that
gives its first lease; jobs in a delay, in a retry, or touched by anything else are left out. A call that leases job b
is wrong if another job a of higher rank surely waited before the call was made and still after it had given b: a's own
call was made later. Rank: priority, and of equal priority, that the enqueue of a was answered before b's was asked.
"""

import heapq
from math import inf, isnan
from operator import itemgetter

from allocator.bench.checker.case import Case
from allocator.bench.checker.history import Enqueue
from allocator.bench.checker.verdicts import Judgement, Promise

Waiting = tuple[int, float, float, str]
"""Rank: minus the priority, and when its enqueue was answered; until when it surely waited; the job."""


def judge_order(case: Case, judgement: Judgement) -> None:
    """
    ORDER, in one pass over the calls with a heap of those that wait: n log n.

    Where calls overlap, some that waited may be overlooked; nobody is accused who did not.
    """
    order = judgement[Promise.ORDER]
    waiting, leased = _evidence(case)
    disturbed = list(case.history.unknown_dequeues)
    disturbed += [(fault.began_at, fault.ended_at) for fault in case.history.faults or () if fault.forgets]
    disturbed.sort(reverse=True)
    heap: list[Waiting] = []
    for asked_at, had_at, enqueue in leased:
        while disturbed and disturbed[-1][0] <= had_at:
            # Whoever waited may have been taken, or have a new place.
            forgotten_until = disturbed.pop()[1]
            heap.clear()
            while waiting and waiting[-1][0] <= forgotten_until:
                waiting.pop()
        while waiting and waiting[-1][0] < asked_at:
            heapq.heappush(heap, waiting.pop()[1])
        while heap and heap[0][2] <= had_at:
            heapq.heappop(heap)
        order.checked += 1
        if heap and heap[0][:2] < (-enqueue.priority, enqueue.asked_at):
            rank, answered_at, later_at, job = heap[0]
            until = "for ever" if later_at == inf else f"until {later_at:.3f} at least"
            order.against(
                f"job {enqueue.job} (priority {enqueue.priority}, enqueued at {enqueue.asked_at:.3f}) was leased by "
                f"{had_at:.3f}; job {job} (priority {-rank}, enqueued by {answered_at:.3f}) waited {until}"
            )


def _evidence(case: Case) -> tuple[list[tuple[float, Waiting]], list[tuple[float, float, Enqueue]]]:
    """Jobs that surely waited, by when; and first leases: when the call was made, when its reply was there, the job."""
    waiting: list[tuple[float, Waiting]] = []
    leased: list[tuple[float, float, Enqueue]] = []
    for of_job in case.jobs.values():
        enqueue = of_job.only
        if enqueue is None:
            continue
        asked_at = had_at = inf
        if of_job.attempts:
            first = of_job.attempts[0]
            asked_at, had_at = first.asked_at, of_job.had_at(first)
            if isnan(asked_at) or isnan(had_at):
                continue
            if not isnan(enqueue.asked_at):
                leased.append((asked_at, had_at, enqueue))
        elif case.state(of_job) not in ("ready", "queued"):
            continue
        if enqueue.taken is True and not enqueue.delay_s and not isnan(enqueue.answered_at):
            waiting.append((enqueue.answered_at, (-enqueue.priority, enqueue.answered_at, asked_at, of_job.job)))
    waiting.sort(reverse=True)
    leased.sort(key=itemgetter(0, 1))
    return waiting, leased
