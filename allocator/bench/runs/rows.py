"""The frames of a run: what the plan intended, what was recorded, and what the queue says at the end, side by side."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from allocator.bench.frames import attempts_frame, enqueues_frame
from allocator.bench.plan import Plan
from allocator.bench.records import Records
from allocator.bench.serverclock import ServerClock

_WAITING = {"ready": "waiting", "scheduled": "waiting", "leased": "leased", "dead": "dead", "cancelled": "cancelled"}


class Rows(NamedTuple):
    """
    Instants are seconds since the run's origin, durations seconds; what never happened, or is not known, is missing.

    Attributes:
        jobs: A row a job in the order of arrival: job, type, priority, payload_bytes, delay_s, warmup; intended_at,
            enqueue_started_at, enqueued_at (missing: never acknowledged), enqueue (accepted, refused, unknown; missing:
            never sent), enqueue_error, producer (a process); state (done, dead, cancelled, waiting, leased; unknown:
            neither records nor queue know of an end), attempts, settled_at (of the last attempt); lateness_s,
            enqueue_s, wait_s (first due until first started), sojourn_s (intended until the end).
        attempts: A row an attempt: job, attempt, token, worker, process; due_at, leased_at, started_at, finished_at,
            settled_at, next_due_at; outcome (done, failed, released, lost, cancelled, running), error; wait_s,
            service_s, settle_s, pickup_error_s (of retries and delayed jobs: due until started).
    """

    jobs: pd.DataFrame
    attempts: pd.DataFrame


def rows(plan: Plan, records: Records, origin_ns: int, clock: ServerClock, prefix: str) -> Rows:
    """
    The rows of a run, before the queue was asked what became of those without an end: their state is `unknown`.

    Args:
        prefix: Of the job ids.
    """
    planned = plan.jobs
    attempts = attempts_frame(records, origin_ns, clock, prefix)
    sent = enqueues_frame(records, origin_ns, planned["intended_at"].to_numpy(np.float64))
    jobs = pd.DataFrame(
        {
            "job": prefix + pd.Series(np.arange(len(planned))).astype("str"),
            "type": planned["type"].astype("str"),
            "priority": planned["priority"],
            "payload_bytes": planned["payload_bytes"],
            "delay_s": planned["delay_s"],
            "warmup": planned["warmup"],
        }
    )
    for column in sent.columns:
        jobs[column] = sent[column].to_numpy() if sent[column].dtype != "Int64" else sent[column].array
    if planned["intended_at"].isna().all():
        jobs["warmup"] = jobs["intended_at"] < plan.workload.warmup_s
    last = _last_of_each(attempts[["number", "outcome", "next_due_at"]])
    ended = last["outcome"].where(last["outcome"].isin(["done", "cancelled"]))
    is_dead = (last["outcome"] == "failed") & last["next_due_at"].isna()
    done = attempts.loc[attempts["outcome"] == "done", "number"].unique()
    state = ended.mask(is_dead, "dead").reindex(jobs.index)
    # Another attempt may have begun and been lost beside the one that was taken as done.
    state.loc[done] = "done"
    jobs["state"] = state.fillna("unknown").astype("str")
    jobs["attempts"] = attempts.groupby("number").size().reindex(jobs.index, fill_value=0)
    by_outcome = attempts[(attempts["outcome"] == "done") | ~attempts["number"].isin(done)]
    jobs["settled_at"] = _last_of_each(by_outcome[["number", "settled_at"]])["settled_at"].reindex(jobs.index)
    of_job = attempts["number"].to_numpy()
    attempts["wait_s"] = attempts["started_at"] - attempts["due_at"]
    attempts["service_s"] = attempts["finished_at"] - attempts["started_at"]
    attempts["settle_s"] = attempts["settled_at"] - attempts["finished_at"]
    was_planned = (attempts["attempt"] > 1) | (jobs["delay_s"].to_numpy()[of_job] > 0)
    attempts["pickup_error_s"] = attempts["wait_s"].where(was_planned)
    first = attempts.groupby("number")[["due_at", "started_at"]].min().reindex(jobs.index)
    jobs["lateness_s"] = jobs["enqueue_started_at"] - jobs["intended_at"]
    jobs["enqueue_s"] = jobs["enqueued_at"] - jobs["enqueue_started_at"]
    jobs["wait_s"] = first["started_at"] - first["due_at"]
    jobs["sojourn_s"] = jobs["settled_at"] - jobs["intended_at"]
    # A column of texts without any text would otherwise be one of objects.
    types = {"attempt": "int64", "token": "str", "worker": "str", "outcome": "str", "error": "str"}
    return Rows(jobs.astype({"enqueue": "str", "enqueue_error": "str"}), attempts.astype(types))


def _last_of_each(attempts: pd.DataFrame) -> pd.DataFrame:
    """The last attempt of each job, by its number. Not `groupby.last`, which fills what it lacks from earlier ones."""
    return attempts.drop_duplicates("number", keep="last").set_index("number")


def open_ends(jobs: pd.DataFrame) -> list[str]:
    """Ids of jobs that were sent and whose end nothing recorded: the queue may know."""
    return list(jobs.loc[(jobs["state"] == "unknown") & jobs["enqueue_started_at"].notna(), "job"])


def told_by_queue(found: Rows, states: Mapping[str, str]) -> Rows:
    """
    The rows, with what the queue says of jobs without an end.

    A queue forgets what is done. A job that it does not know, and whose body came to its end as planned, was done by a
    worker that was killed before it could record that the queue had taken its word.
    """
    jobs, attempts = found.jobs.copy(), found.attempts
    told = {job: _WAITING.get(str(state), "unknown") for job, state in states.items()}
    is_open = jobs["state"] == "unknown"
    jobs.loc[is_open, "state"] = [told.get(job, "unknown") for job in jobs.loc[is_open, "job"]]
    finished = attempts["finished_at"].notna() & attempts["error"].isna()
    came_to_its_end = jobs["job"].isin(attempts.loc[finished, "job"])
    jobs.loc[(jobs["state"] == "unknown") & came_to_its_end, "state"] = "done"
    return Rows(jobs, attempts)
