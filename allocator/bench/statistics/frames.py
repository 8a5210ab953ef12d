"""
The three frames of a run, and the durations that follow from their instants.

Instants are seconds on CLOCK_MONOTONIC from the start of the schedule, durations seconds; what is not known is NaN.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from allocator.bench.statistics.percentiles import Values

JOB_COLUMNS = ("job", "delay_s", "intended_at", "enqueue_started_at", "enqueued_at", "state", "settled_at", "warmup")
ATTEMPT_COLUMNS = (
    "job",
    "attempt",
    "process",
    "due_at",
    "leased_at",
    "started_at",
    "finished_at",
    "settled_at",
    "outcome",
    "error",
    "next_due_at",
)
BACKLOG_COLUMNS = ("at", "ready", "scheduled", "leased")


def checked(jobs: pd.DataFrame, attempts: pd.DataFrame, backlog: pd.DataFrame) -> None:
    """
    Refuse frames that are not those of a run.

    Raises:
        ValueError: A column is missing; it names the frame and which.
    """
    for name, frame, columns in (
        ("jobs", jobs, JOB_COLUMNS),
        ("attempts", attempts, ATTEMPT_COLUMNS),
        ("backlog", backlog, BACKLOG_COLUMNS),
    ):
        missing = [column for column in columns if column not in frame.columns]
        if missing:
            raise ValueError(f"{name}: no column {', '.join(missing)}; the rows of a run have {', '.join(columns)}")


def rows_of_jobs(jobs: pd.DataFrame, attempts: pd.DataFrame) -> np.ndarray:
    """
    For each attempt the position of its job in `jobs`.

    Raises:
        ValueError: An attempt's job is not among the jobs, or an id is there twice. It names the first.
    """
    # Arrow's look-up: pandas would make a Python string of every id, 200 MB for a million jobs.
    ids = pa.array(jobs["job"], pa.string())
    if len(pc.unique(ids)) < len(ids):
        twice = jobs["job"][jobs["job"].duplicated()].iloc[0]
        raise ValueError(f"jobs: job {twice} is there twice; a run has one row for each")
    found = pc.index_in(pa.array(attempts["job"], pa.string()), value_set=ids)
    if found.null_count:
        stranger = attempts["job"][found.is_null().to_numpy(zero_copy_only=False)].iloc[0]
        raise ValueError(f"attempts: job {stranger} is not among the jobs of the run; the checker says whose it is")
    positions: np.ndarray = found.to_numpy()
    return positions


def seconds(frame: pd.DataFrame, column: str) -> Values:
    """A column as float64; what is missing is NaN."""
    return frame[column].to_numpy(dtype=np.float64, na_value=np.nan)


def flags(frame: pd.DataFrame, column: str, values: Sequence[str]) -> np.ndarray:
    """Where the column has one of these values; a missing one is none of them."""
    found: np.ndarray = frame[column].isin(list(values)).to_numpy(dtype=bool)
    return found


def durations_of_jobs(jobs: pd.DataFrame) -> dict[str, Values]:
    """
    A value a job.

    lateness_s: how far the generator ran behind; enqueue_s: one call; sojourn_s: intended arrival until the end of the
    last attempt, whatever that end was.
    """
    intended, sent = seconds(jobs, "intended_at"), seconds(jobs, "enqueue_started_at")
    return {
        "lateness_s": sent - intended,
        "enqueue_s": seconds(jobs, "enqueued_at") - sent,
        "sojourn_s": seconds(jobs, "settled_at") - intended,
    }


def durations_of_attempts(attempts: pd.DataFrame) -> dict[str, Values]:
    """
    A value an attempt.

    wait_s: due until started, time in a worker's buffer included; service_s: started until finished; settle_s: finished
    until settled.
    """
    due, started = seconds(attempts, "due_at"), seconds(attempts, "started_at")
    finished, settled = seconds(attempts, "finished_at"), seconds(attempts, "settled_at")
    return {"wait_s": started - due, "service_s": finished - started, "settle_s": settled - finished}


def first_starts(jobs: pd.DataFrame, attempts: pd.DataFrame, of_job: np.ndarray) -> tuple[Values, Values]:
    """
    When each job was first due and first started; NaN where it never was.

    They need not be of one attempt: a lease that was released or lost before its start made the job wait all the same.

    Args:
        of_job: From `rows_of_jobs`.
    """
    due, started = np.full(len(jobs), np.nan), np.full(len(jobs), np.nan)
    np.fmin.at(due, of_job, seconds(attempts, "due_at"))
    np.fmin.at(started, of_job, seconds(attempts, "started_at"))
    return due, started


def cold_starts(attempts: pd.DataFrame) -> np.ndarray:
    """Which attempts were the first that their worker process started."""
    cold = np.zeros(len(attempts), dtype=bool)
    started = pd.Series(seconds(attempts, "started_at"))
    known = started.notna().to_numpy()
    first = started[known].groupby(attempts["process"].to_numpy()[known]).idxmin()
    cold[first.to_numpy(dtype=np.int64)] = True
    return cold
