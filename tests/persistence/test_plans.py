"""What the store asks for goes by an index, and comes in order without sorting."""

import pytest
from sqlalchemy import Select, select, text

from allocator.persistence import JobState, Store
from allocator.persistence.pages import beyond, nth_newest, oldest, page_of
from allocator.persistence.rows import STORED
from allocator.persistence.tables import attempts, jobs

UNFINISHED = (
    select(*STORED).where(jobs.c.queue == "q", jobs.c.ended_as.is_(None), jobs.c.id > "x").order_by(jobs.c.id).limit(9)
)


@pytest.mark.parametrize(
    ("query", "index"),
    [
        pytest.param(select(*STORED).where(jobs.c.id == "x"), ("jobs_pkey", "autoindex_jobs"), id="one job"),
        pytest.param(select(attempts).where(attempts.c.job_id == "x"), ("attempts_pkey", "PRIMARY KEY"), id="attempts"),
        pytest.param(UNFINISHED, ("jobs_unfinished",), id="unfinished"),
        pytest.param(page_of(JobState.DEAD, None, "q").limit(9), ("jobs_dead",), id="dead letters"),
        pytest.param(
            page_of(JobState.DEAD, None, "q").where(beyond(JobState.DEAD, "x", "q", 5.0)).limit(9),
            ("jobs_dead",),
            id="next page of dead letters",
        ),
        pytest.param(page_of(JobState.DONE, None, None).limit(9), ("jobs_ended",), id="done"),
        pytest.param(page_of(JobState.QUEUED, None, None).limit(9), ("jobs_unfinished",), id="queued"),
        pytest.param(page_of(None, None, None).limit(9), ("jobs_pkey", "autoindex_jobs"), id="all"),
        pytest.param(oldest(JobState.DONE, jobs.c.finished_at < 5.0, 9), ("jobs_ended",), id="retention by age"),
        pytest.param(nth_newest(JobState.DONE, 9), ("jobs_ended",), id="retention by count"),
    ],
)
def test_the_plan(store: Store, query: Select[tuple[object, ...]], index: tuple[str, ...]) -> None:
    """The index is used, and nothing is sorted."""
    written = query.compile(store.engine, compile_kwargs={"literal_binds": True})
    explain = "EXPLAIN QUERY PLAN" if store.engine.dialect.name == "sqlite" else "EXPLAIN"

    with store.engine.connect() as connection:
        rows = connection.execute(text(f"{explain} {written}")).all()
    plan = "\n".join(str(row[-1]) for row in rows)

    assert any(name in plan for name in index), plan
    assert "Sort" not in plan, plan
    assert "TEMP B-TREE" not in plan, plan
