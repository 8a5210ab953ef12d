"""
What a plan asks of its workers: how much of their time, and how soon they can be done with it at best.

All of it is a lower bound, from the jobs themselves: what queue, supervisor and faults cost comes on top. So a plan
that is refused here cannot finish in time on any backend, and one that is not refused still may not.
"""

import os
from dataclasses import dataclass

import numpy as np
import pandas as pd

from allocator.bench.arrivals import Closed
from allocator.bench.errors import InvalidWorkload
from allocator.bench.failures import HANG
from allocator.bench.models import Numbers
from allocator.bench.workload import Workload
from allocator.domain.job import MAX_DELAY_S


@dataclass(frozen=True)
class Capacity:
    """
    A plan beside the workers that it has.

    Args:
        work_s: Time that all attempts take of workers together, retries included.
        parallel: Attempts that can go on at a time: all workers, or as many as there are cores to keep busy.
        arrive_until_s: Until when jobs arrive: `duration_s`, or the instant of the last. 0 in a closed loop.
        utilisation: Offered work over what the workers can do until then: above 1 the backlog grows while jobs arrive.
            None in a closed loop, which offers as much as is done, and where all jobs arrive at once.
        finished_s: Before this instant not all jobs can have ended.
        longest_s: From the arrival of one job to its end: the longest, if no job ever waited for a worker.
    """

    work_s: float
    parallel: int
    arrive_until_s: float
    utilisation: float | None
    finished_s: float
    longest_s: float

    def describe(self) -> str:
        """How much work there is for whom, in words."""
        text = f"{self.work_s:,.1f} s of work for {self.parallel} attempts at a time"
        return text if self.utilisation is None else f"{text}, utilisation {self.utilisation:.2f}"


def capacity(workload: Workload, jobs: pd.DataFrame) -> Capacity:
    """Of the jobs that `draw_jobs` gave for this workload."""
    parallel = _parallel(workload)
    work_s, backoff_s = _work(workload, jobs)
    delay_s = jobs["delay_s"].to_numpy()
    alone_s = delay_s + work_s + backoff_s
    total_s = float(work_s.sum())
    if isinstance(workload.arrival, Closed):
        finished_s = max(total_s / min(parallel, workload.arrival.clients), float(alone_s.max()))
        return Capacity(total_s, parallel, 0.0, None, finished_s, float(alone_s.max()))

    intended_at = jobs["intended_at"].to_numpy()
    until_s = workload.duration_s or float(intended_at[-1])
    due_at = intended_at + delay_s
    order = np.argsort(due_at, kind="stable")
    # From when a job is due, it and all that are due later must be worked on, by `parallel` workers that never rest.
    left_s = np.cumsum(work_s[order][::-1])[::-1]
    finished_s = max(float((due_at[order] + left_s / parallel).max()), float((intended_at + alone_s).max()))
    utilisation = total_s / (parallel * until_s) if until_s > 0 else None
    return Capacity(total_s, parallel, until_s, utilisation, finished_s, float(alone_s.max()))


def refuse_endless(workload: Workload, jobs: pd.DataFrame, found: Capacity) -> None:
    """
    Refuse what cannot finish.

    Raises:
        InvalidWorkload: A job cannot end within `drain_s`, all together cannot, or more threads would hang than a
            supervisor replaces.
    """
    if found.longest_s > workload.drain_s and isinstance(workload.arrival, Closed):
        raise InvalidWorkload("drain_s", f"{workload.drain_s:g}: {_longest(found)}")
    over_s = found.finished_s - (found.arrive_until_s + workload.drain_s)
    if not isinstance(workload.arrival, Closed) and over_s > 0:
        raise InvalidWorkload(
            "drain_s",
            f"{workload.drain_s:g} s after arrivals ended not all jobs can have ended, whatever the queue: "
            f"{found.describe()}, and {_longest(found)}. Raise drain_s to more than "
            f"{workload.drain_s + over_s:,.1f}, add workers, or lower rate, service, delay or retry",
        )
    hanging = int((jobs["fates"].str.count(HANG)).sum())
    if workload.timeout_s is not None:
        hanging += int((jobs["service_s"] > workload.timeout_s).sum()) * (workload.retry.max_retries + 1)
    if workload.workers.kind == "threads" and hanging > workload.workers.slots:
        raise InvalidWorkload(
            "workers.kind",
            f"{hanging} attempts outlast timeout_s ({workload.timeout_s:g}), and a supervisor gives up at most as many "
            "threads as it has workers; set it to processes",
        )


def _longest(found: Capacity) -> str:
    return f"one job takes {found.longest_s:,.1f} s from arrival to end (delay, attempts and backoff) without any wait"


def _parallel(workload: Workload) -> int:
    if workload.work == "sleep":
        return workload.workers.slots
    cores = os.cpu_count() or 1
    # Threads of one supervisor share an interpreter, which works for one of them at a time.
    return min(cores, workload.workers.slots if workload.workers.kind == "processes" else workload.workers.supervisors)


def _work(workload: Workload, jobs: pd.DataFrame) -> tuple[Numbers, Numbers]:
    """Of each job: time in all its attempts, and the backoff between them."""
    attempts = workload.retry.max_retries + 1
    limit_s = workload.timeout_s or MAX_DELAY_S
    service_s = jobs["service_s"].to_numpy()
    hangs = jobs["fates"].str.count(HANG).to_numpy(dtype=np.int64)
    # What outlasts its time goes wrong in every attempt.
    wrong = np.where(service_s > limit_s, attempts, jobs["fates"].str.len().to_numpy(dtype=np.int64))
    tried = np.minimum(wrong + 1, attempts)
    work_s = (tried - hangs) * np.minimum(service_s, limit_s) + hangs * limit_s
    backoff_s = np.cumsum([0.0, *(workload.retry.least_delay_s(failed) for failed in range(1, attempts))])
    return work_s, backoff_s[tried - 1]
