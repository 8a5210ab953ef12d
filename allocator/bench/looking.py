"""A queue that is in use, looked at from outside."""

import time
from typing import Any

import pandas as pd

from allocator.persistence import JobState, Store
from allocator.persistence.pages import page_of
from allocator.persistence.rows import stored_job
from allocator.persistence.tables import jobs
from allocator.queue.base import Queue

INTERVAL_S = 0.2
COLUMNS = ("ready", "scheduled", "leased", "dead", "done", "cancelled", "purged")


def watch_counts(queue: Queue, seconds: float) -> pd.DataFrame:
    """
    Ask how many jobs are in which state, five times a second.

    Returns:
        A row a look, two at least: at (seconds since the first), ready, scheduled, leased, dead; done, cancelled and
        purged since the queue began.
    """
    began = time.monotonic()
    rows = [(0.0, queue.counts())]
    while len(rows) == 1 or time.monotonic() - began < seconds:
        time.sleep(INTERVAL_S)
        rows.append((time.monotonic() - began, queue.counts()))
    return pd.DataFrame([{"at": at, **{name: counts[name] for name in COLUMNS}} for at, counts in rows])


def oldest_waiting(store: Store, queue: Queue) -> "pd.Series[Any]":
    """
    The job that has waited longest by the store, with its age; empty where none waits.

    The first by id, which is the oldest wherever ids were made here.
    """
    newest_first = page_of(JobState.QUEUED, None, queue.identity)
    with store.engine.connect() as connection:
        row = connection.execute(newest_first.order_by(None).order_by(jobs.c.queue, jobs.c.id).limit(1)).one_or_none()
    if row is None:
        return pd.Series(dtype="object")
    job = stored_job(row)
    return pd.Series(
        {
            "job": job.id,
            "type": job.type,
            "failed": job.failed_count,
            "error": job.error,
            "waits_s": time.time() - job.submitted_at,
            "due_in_s": job.due_at - time.time(),
        }
    )
