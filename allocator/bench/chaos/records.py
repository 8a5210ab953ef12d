"""What the database says at the end of a run, in the checker's words."""

from math import nan

from msgspec import json
from sqlalchemy import select

from allocator.bench.checker import Attempt, Record
from allocator.persistence import Store
from allocator.persistence.tables import attempts, jobs


def read_records(store: Store, lease_s: float) -> tuple[list[Record], list[Attempt]]:
    """
    Every job and every attempt; one that runs is in the row of its job.

    Args:
        lease_s: For so long at least an attempt had its lease, if it was not told to have ended before.
    """
    recorded_jobs: list[Record] = []
    recorded: list[Attempt] = []
    with store.engine.connect() as connection:
        for id, state, result, error, token, number, leased_at in connection.execute(
            select(
                *(jobs.c.id, jobs.c.state, jobs.c.result, jobs.c.error),
                *(jobs.c.token, jobs.c.attempt, jobs.c.leased_at),
            )
        ):
            recorded_jobs.append(Record(id, state, None if result is None else json.decode(result), error))
            if token is not None:
                recorded.append(Attempt(id, token, "running", number, None, leased_at, expires_at=leased_at + lease_s))
        for id, token, number, outcome, error, leased_at, finished_at in connection.execute(
            select(
                *(attempts.c.job_id, attempts.c.token, attempts.c.number, attempts.c.outcome, attempts.c.error),
                *(attempts.c.leased_at, attempts.c.finished_at),
            )
        ):
            # When a lost one ended is not known: the store has when the next began.
            told_at = nan if outcome == "lost" else finished_at
            recorded.append(
                Attempt(id, token, outcome, number, True, leased_at, told_at, leased_at + lease_s, error=error)
            )
    return recorded_jobs, recorded
