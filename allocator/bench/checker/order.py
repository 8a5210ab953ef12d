"""
Order: who surely waited, and by rank came first, is leased first.

Calls take time, and only what is certain counts. A job surely waits from the reply to its enqueue until the call that
gives its first lease; jobs in a delay, in a retry, or touched by anything else are left out. A call that leases job b
is wrong if another job a of higher rank surely waited before the call was made and still after it had given b: a's own
call was made later. Rank: priority, and of equal priority, that the enqueue of a was answered before b's was asked.
"""

import heapq
from array import array
from math import inf, isnan, nan

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]

from allocator.bench.checker.case import Case
from allocator.bench.checker.history import History
from allocator.bench.checker.verdicts import Judgement, Promise


class Order:
    """What bears witness to the order, from all parts of a run: numbers side by side, for there are millions."""

    def __init__(self) -> None:
        self._jobs: list[pa.Array] = []
        # Of each: minus the priority; when its enqueue was asked; when answered (NaN: it did not surely wait); when the
        # call was made that gave its first lease, and when its reply was there (infinity: never).
        self._instants = array("d")

    def add(self, case: Case) -> None:
        """The jobs of a part of which it is known whether they waited, or when they were leased first."""
        jobs: list[str] = []
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
            elif case.state(of_job) not in ("ready", "queued"):
                continue
            answered_at = enqueue.answered_at if enqueue.taken is True and not enqueue.delay_s else nan
            jobs.append(of_job.job)
            self._instants.extend((-enqueue.priority, enqueue.asked_at, answered_at, asked_at, had_at))
        self._jobs.append(pa.array(jobs, pa.string()))

    def judge(self, history: History, judgement: Judgement) -> None:
        """
        ORDER, in one pass over the calls with a heap of those that wait: n log n.

        Where calls overlap, some that waited may be overlooked; nobody is accused who did not.

        Args:
            history: Any part of the run: of all, the faults are the same.
        """
        order, jobs = judgement[Promise.ORDER], pa.chunked_array(self._jobs)
        columns = np.asarray(self._instants).reshape(-1, 5).T
        # A view gives a number far sooner than numpy does.
        rank, enqueued_at, answered_at, asked_at, had_at = (column.data for column in columns)
        waiting = _sorted(columns, ~np.isnan(columns[2]), by=(0, 2, 3))
        # All that the heap holds is a place in `waiting`, which is sorted by rank.
        coming, next_coming = np.argsort(columns[2][waiting], kind="stable").data, 0
        disturbed = list(history.unknown_dequeues)
        disturbed += [(fault.began_at, fault.ended_at) for fault in history.faults or () if fault.forgets]
        disturbed.sort(reverse=True)
        forgotten_until = -inf
        heap: list[int] = []
        for job in _sorted(columns, (columns[3] < inf) & ~np.isnan(columns[1]), by=(3, 4)):
            while disturbed and disturbed[-1][0] <= had_at[job]:
                # Whoever waited, or was about to, may have been taken, or have a new place.
                forgotten_until = max(forgotten_until, disturbed.pop()[1])
                heap.clear()
            while next_coming < len(coming) and answered_at[(comes := waiting[coming[next_coming]])] < asked_at[job]:
                if not enqueued_at[comes] <= forgotten_until:
                    heapq.heappush(heap, coming[next_coming])
                next_coming += 1
            while heap and asked_at[waiting[heap[0]]] <= had_at[job]:
                heapq.heappop(heap)
            order.checked += 1
            if not heap:
                continue
            first = waiting[heap[0]]
            if (rank[first], answered_at[first]) < (rank[job], enqueued_at[job]):
                until = "for ever" if asked_at[first] == inf else f"until {asked_at[first]:.3f} at least"
                order.against(
                    f"job {jobs[job]} (priority {-int(rank[job])}, enqueued at {enqueued_at[job]:.3f}) "
                    f"was leased by {had_at[job]:.3f}; job {jobs[first]} (priority {-int(rank[first])}, "
                    f"enqueued by {answered_at[first]:.3f}) waited {until}"
                )


def _sorted(columns: npt.NDArray[np.float64], chosen: npt.NDArray[np.bool_], by: tuple[int, ...]) -> memoryview:
    """The places that are chosen, in the order of some columns."""
    places = np.flatnonzero(chosen)
    return places[np.lexsort([columns[column][places] for column in reversed(by)])].data
