"""What the database says at the end of a run, in the checker's words."""

from msgspec import json
from sqlalchemy import select

from allocator.bench.checker import RecordedAttempt, RecordedJob
from allocator.persistence import Store
from allocator.persistence.tables import attempts, jobs


def read_records(store: Store) -> tuple[list[RecordedJob], list[RecordedAttempt]]:
    """Every job and every attempt; one that runs is in the row of its job."""
    recorded_jobs: list[RecordedJob] = []
    recorded: list[RecordedAttempt] = []
    with store.engine.connect() as connection:
        for id, state, token, leased_at, result in connection.execute(
            select(jobs.c.id, jobs.c.state, jobs.c.token, jobs.c.leased_at, jobs.c.result)
        ):
            recorded_jobs.append(RecordedJob(id, state, None if result is None else json.decode(result)))
            if token is not None:
                recorded.append(RecordedAttempt(id, token, "running", leased_at))
        for job, token, outcome, leased_at in connection.execute(
            select(attempts.c.job_id, attempts.c.token, attempts.c.outcome, attempts.c.leased_at)
        ):
            recorded.append(RecordedAttempt(job, token, outcome, leased_at))
    return recorded_jobs, recorded
