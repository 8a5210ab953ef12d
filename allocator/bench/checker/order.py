"""
Order: who surely waited, and by rank came first, is leased first.

Calls take time, and only what is certain counts. A job surely waits from the reply to its enqueue until the call that
gives its first lease; jobs in a delay, in a retry, or touched by anything else are left out. A call that leases job b
is wrong if another job a of higher rank surely waited before the call was made and still after it had given b: a's own
call was made later. Rank: priority, and of equal priority, that the enqueue of a was answered before b's was asked.
"""

import heapq
from math import inf, isnan, nan

from allocator.bench.checker.case import Case
from allocator.bench.checker.history import Attempt
from allocator.bench.checker.verdicts import Judgement, Promise


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
    waiting.reverse()
    heap: list[tuple[int, float, float, str]] = []
    for attempt in leased:
        had_at = case.had_at(attempt)
        while disturbed and disturbed[-1][0] <= had_at:
            # Whoever waited may have been taken, or have a new place.
            forgotten_until = disturbed.pop()[1]
            heap.clear()
            while waiting and waiting[-1][0] <= forgotten_until:
                waiting.pop()
        while waiting and waiting[-1][0] < attempt.asked_at:
            heapq.heappush(heap, waiting.pop()[1])
        while heap and heap[0][2] <= had_at:
            heapq.heappop(heap)
        enqueue = case.single(attempt.job)
        if enqueue is None or isnan(enqueue.asked_at):
            continue
        order.checked += 1
        if heap and heap[0][:2] < (-enqueue.priority, enqueue.asked_at):
            rank, answered_at, later_at, job = heap[0]
            until = "for ever" if later_at == inf else f"until {later_at:.3f} at least"
            order.against(
                f"job {attempt.job} (priority {enqueue.priority}, enqueued at {enqueue.asked_at:.3f}) was leased by "
                f"{had_at:.3f}; job {job} (priority {-rank}, enqueued by {answered_at:.3f}) waited {until}"
            )


def _evidence(case: Case) -> tuple[list[tuple[float, tuple[int, float, float, str]]], list[Attempt]]:
    """Jobs that surely waited, by when; and first leases, by the call that gave them."""
    waiting: list[tuple[float, tuple[int, float, float, str]]] = []
    leased: list[Attempt] = []
    for job in case.enqueues:
        enqueue = case.single(job)
        if enqueue is None:
            continue
        attempts = case.attempts.get(job, ())
        first = attempts[0] if attempts else None
        asked_at = nan if first is None else first.asked_at
        if first is not None and not isnan(asked_at) and not isnan(case.had_at(first)):
            leased.append(first)
        if enqueue.taken is not True or enqueue.delay_s > 0 or isnan(enqueue.answered_at):
            continue
        if first is None and case.state(job) not in ("ready", "queued"):
            continue
        if first is None or not isnan(asked_at):
            left_at = inf if first is None else asked_at
            waiting.append((enqueue.answered_at, (-enqueue.priority, enqueue.answered_at, left_at, job)))
    waiting.sort()
    leased.sort(key=lambda attempt: attempt.asked_at)
    return waiting, leased
