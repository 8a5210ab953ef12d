"""What the store of a run says of its jobs and attempts at the end."""

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from allocator.bench.chaos.records import read_records
from allocator.bench.runs.rows import Rows
from allocator.bench.serverclock import ServerClock
from allocator.persistence import Store
from allocator.persistence.states import JobState

_STATES = {
    JobState.QUEUED: "waiting",
    JobState.PROCESSING: "leased",
    JobState.DONE: "done",
    JobState.DEAD: "dead",
    JobState.CANCELLED: "cancelled",
}


class Stored(NamedTuple):
    """
    Attributes:
        states: Job -> its state, in the words of the rows.
        attempts: A row an attempt that began: job, attempt, token, outcome (done, failed, released, cancelled, lost,
            running), leased_at (seconds since the run's origin), error.
    """

    states: Mapping[str, str]
    attempts: pd.DataFrame


def read_store(store: Store, clock: ServerClock, origin_ns: int) -> Stored:
    """All of it; the store is the run's own."""
    records, attempts = read_records(store, 0.0)
    columns = ["job", "attempt", "token", "outcome", "leased_at", "error"]
    frame = pd.DataFrame(
        [(each.job, each.number, each.token, each.outcome, each.leased_at, each.error) for each in attempts],
        columns=columns,
    ).astype({"job": "str", "attempt": "int64", "token": "str", "outcome": "str", "leased_at": "float64"})
    frame["error"] = frame["error"].astype("str")
    frame["leased_at"] = clock.to_monotonic(frame["leased_at"].to_numpy()) - origin_ns / 1e9
    return Stored({record.job: _STATES[JobState(record.state)] for record in records}, frame)


def told_by_store(found: Rows, stored: Stored) -> Rows:
    """The rows, with the states that the store has: it is the record, the queue only dispatches."""
    states = [stored.states.get(job, "unknown") for job in found.jobs["job"]]
    return Rows(found.jobs.assign(state=pd.Series(states, dtype="str")), found.attempts)
