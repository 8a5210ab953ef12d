"""A history from the pandas frames of a run, so that a run of the bench is judged like any other."""

from collections.abc import Iterator, Sequence
from math import nan
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from allocator.bench.checker.case import ENDS
from allocator.bench.checker.history import Attempt, Enqueue, Fault, History, Record, Run, Stop
from allocator.domain.backoff import Backoff

LEFT = frozenset({"waiting", "leased"})
"""States of a job that the queue still has. One that is unknown to queue and records alike is in neither."""

PART = 10_000
"""Jobs of a part: some 20 MB as a history."""


def in_parts(
    jobs: pd.DataFrame, attempts: pd.DataFrame, stored: pd.DataFrame | None = None, size: int = PART
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame | None]]:
    """
    The rows of a run, so many jobs at a time with their attempts: what `from_frames` takes, for `check_parts`.

    Jobs that share a token, and attempts of no known job, are all in the first part. There is always one.
    """
    # Arrow's look-up: pandas would make a Python string of every id.
    ids = pa.array(jobs["job"], pa.string())
    frames = [attempts] if stored is None else [attempts, stored]
    places = [pc.index_in(pa.array(frame["job"], pa.string()), value_set=ids) for frame in frames]
    part = np.arange(len(jobs)) // size
    for frame, place in zip(frames, places, strict=True):
        shared = place.filter(pa.array(_is_shared(frame["token"]))).drop_null()
        part[shared.to_numpy()] = 0
    parts_of = [part, *(np.append(part, 0)[place.fill_null(len(jobs)).to_numpy()] for place in places)]
    # The look-ups took more than any part will.
    del ids, places
    pa.default_memory_pool().release_unused()
    count = max(1, -(-len(jobs) // size))
    pieces = (_split(frame, part_of, count) for frame, part_of in zip([jobs, *frames], parts_of, strict=True))
    for of_jobs, of_attempts, *of_stored in zip(*pieces, strict=True):
        yield of_jobs, of_attempts, of_stored[0] if of_stored else None


def _split(frame: pd.DataFrame, part_of: np.ndarray, count: int) -> Iterator[pd.DataFrame]:
    order = np.argsort(part_of, kind="stable")
    for rows in np.split(order, np.searchsorted(part_of[order], range(1, count))):
        yield frame.take(rows)


def _is_shared(tokens: "pd.Series[str]") -> np.ndarray:
    """Where a token is there more than once."""
    codes, _ = pd.factorize(tokens)
    known = codes >= 0
    shared: np.ndarray = known & (np.bincount(codes[known], minlength=1)[codes] > 1)
    return shared


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
    stored: pd.DataFrame | None = None,
    unknown_dequeues: Sequence[tuple[float, float]] = (),
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
        stored: Attempts as a store has them, a row each: job, attempt, token, outcome, leased_at, error. The states of
            the jobs are then the store's too. None: there was no store.
        unknown_dequeues: See `History`.

    Raises:
        ValueError: A column is missing; the message names it.
    """
    _demand(jobs, "jobs", ("job", "priority", "delay_s", "enqueue_started_at", "enqueued_at", "state"))
    needed = ("job", "attempt", "token", "process", "due_at", "leased_at", "started_at", "finished_at", "outcome")
    _demand(attempts, "attempts", (*needed, "error"))
    states = _column(jobs, "state")
    enqueues = list(_enqueues(jobs, max_retries, backoff))
    if stored is not None:
        _demand(stored, "stored", ("job", "attempt", "token", "outcome", "leased_at", "error"))
        stored = stored.assign(**_instants(stored, attempts), due_at=nan)
    return History(
        enqueues,
        attempts=list(_attempts(attempts if stored is None else stored, lease_s)),
        runs=list(_runs(attempts)),
        # What was never acknowledged and nobody knows was not accepted.
        records=[
            Record(enqueue.job, state)
            for enqueue, state in zip(enqueues, states, strict=True)
            if enqueue.taken or state != "unknown"
        ],
        faults=faults,
        stops=stops,
        left=sum(state in LEFT for state in states) if is_drained else None,
        unknown_dequeues=unknown_dequeues,
        by_store=stored is not None,
        fenced_by_queue=stored is None,
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


def _instants(stored: pd.DataFrame, attempts: pd.DataFrame) -> dict[str, "pd.Series[float]"]:
    """What the store does not have of its attempts, as it was seen."""
    seen = attempts.drop_duplicates("token").set_index("token")
    names = ["started_at", "finished_at"]
    if "asked_at" in seen.columns:
        names.append("asked_at")
        # The store knows nothing of a lease that was given back untried: of such a job it cannot tell the first.
        seen["asked_at"] = seen["asked_at"].where(~seen["job"].duplicated(keep=False))
    return {name: stored["token"].map(seen[name]) for name in names}


def _attempts(attempts: pd.DataFrame, lease_s: float) -> Iterator[Attempt]:
    # Who never came to its end set out to tell it at some time after it began, or was given its lease.
    told = attempts["finished_at"].fillna(attempts["started_at"]).fillna(attempts["leased_at"])
    attempts = attempts.assign(told_at=told.where(attempts["outcome"].isin(ENDS), attempts["finished_at"]))
    columns = ["job", "token", "outcome", "attempt", "leased_at", "finished_at", "told_at", "due_at", "error"]
    rows = zip(*(_column(attempts, name) for name in columns), strict=True)
    asked = _column(attempts, "asked_at") if "asked_at" in attempts.columns else None
    for number, (job, token, outcome, attempt, leased_at, finished_at, told_at, due_at, error) in enumerate(rows):
        taken = None if outcome == "running" else True
        yield Attempt(
            *(job, token, outcome, attempt, taken, leased_at, told_at, leased_at + lease_s),
            asked_at=nan if asked is None else asked[number],
            due_at=due_at,
            # A worker that died is nobody's fault: its job is ready again at once.
            delay_s=0.0 if outcome == "failed" and finished_at != finished_at else nan,
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
