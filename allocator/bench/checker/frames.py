"""A history from the pandas frames of a run, so that a run of the bench is judged like any other."""

from collections.abc import Iterator, Sequence
from math import nan
from typing import Any

import pandas as pd

from allocator.bench.checker.history import Attempt, Enqueue, Fault, History, Record, Run, Stop
from allocator.domain.backoff import Backoff

UNFINISHED = frozenset({"waiting", "leased", "unknown"})
"""States of a job that are no end."""


def from_frames(
    jobs: pd.DataFrame,
    attempts: pd.DataFrame,
    *,
    faults: Sequence[Fault] | None = None,
    stops: Sequence[Stop] | None = None,
    lease_s: float = nan,
    max_retries: int | None = None,
    backoff: Backoff | None = None,
    is_drained: bool = True,
) -> History:
    """
    What the frames of a run tell. Instants are seconds since the run's origin, in faults and stops as well.

    A job that was never acknowledged (`enqueued_at` is NaN) may have been accepted. Where calls of dequeue have no
    instants, in a column `asked_at` of the attempts, the order is not judged.

    Args:
        jobs: A row a job: job, priority, delay_s, enqueue_started_at, enqueued_at, state.
        attempts: A row an attempt: job, attempt, token, process, due_at, leased_at, started_at, finished_at, outcome,
            error; of tokens none may be missing.
        faults: All that were made; None: not known.
        lease_s: For so long at least an attempt had its lease, if it was not told to have ended before.
        max_retries, backoff: Of every job; None: not known, and not judged.
        is_drained: Whether the run waited for everything to end.

    Raises:
        ValueError: A column is missing; the message names it.
    """
    _demand(jobs, "jobs", ("job", "priority", "delay_s", "enqueue_started_at", "enqueued_at", "state"))
    needed = ("job", "attempt", "token", "process", "due_at", "leased_at", "started_at", "finished_at", "outcome")
    _demand(attempts, "attempts", (*needed, "error"))
    states = _column(jobs, "state")
    unfinished = sum(state in UNFINISHED for state in states)
    tried = list(_attempts(attempts, lease_s))
    return History(
        list(_enqueues(jobs, max_retries, backoff)),
        attempts=tried,
        runs=list(_runs(attempts)),
        records=[Record(job, state) for job, state in zip(_column(jobs, "job"), states, strict=True)],
        faults=faults,
        stops=stops,
        left=unfinished if is_drained else None,
    )


def _demand(frame: pd.DataFrame, name: str, columns: tuple[str, ...]) -> None:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise ValueError(f"{name}: has no column {', '.join(missing)}")


def _column(frame: pd.DataFrame, name: str) -> list[Any]:
    return frame[name].astype(object).tolist()


def _enqueues(jobs: pd.DataFrame, max_retries: int | None, backoff: Backoff | None) -> Iterator[Enqueue]:
    columns = ("job", "enqueue_started_at", "enqueued_at", "priority", "delay_s")
    for job, asked_at, answered_at, priority, delay_s in zip(*(_column(jobs, name) for name in columns), strict=True):
        taken = True if answered_at == answered_at else None
        yield Enqueue(job, taken, asked_at, answered_at, priority, delay_s, max_retries, None, backoff)


def _attempts(attempts: pd.DataFrame, lease_s: float) -> Iterator[Attempt]:
    columns = ["job", "token", "outcome", "attempt", "leased_at", "finished_at", "due_at", "error"]
    rows = zip(*(_column(attempts, name) for name in columns), strict=True)
    asked = _column(attempts, "asked_at") if "asked_at" in attempts.columns else None
    for number, (job, token, outcome, attempt, leased_at, finished_at, due_at, error) in enumerate(rows):
        yield Attempt(
            *(job, token, outcome, attempt, True, leased_at, finished_at, leased_at + lease_s),
            asked_at=nan if asked is None else asked[number],
            due_at=due_at,
            error=error if isinstance(error, str) else None,
        )


def _runs(attempts: pd.DataFrame) -> Iterator[Run]:
    columns = ("job", "attempt", "token", "process", "started_at", "finished_at", "outcome")
    for job, attempt, token, process, started_at, finished_at, outcome in zip(
        *(_column(attempts, name) for name in columns), strict=True
    ):
        # What was never started left no trace, and did nothing that could be repeated.
        if started_at == started_at:
            failed = outcome in ("failed", "buried")
            yield Run(job, attempt, token, process, 0, started_at, finished_at, failed)
