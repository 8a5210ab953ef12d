"""Pages of jobs, newest first, each by the index that makes it cheap."""

from typing import Any

from sqlalchemy import ColumnElement, Select, literal_column, select, tuple_

from allocator.persistence.rows import STORED
from allocator.persistence.states import ENDED, UNFINISHED, JobState
from allocator.persistence.tables import jobs


def page_of(state: JobState | None, type: str | None, queue: str | None) -> Select[Any]:
    """
    The jobs that fit, the last first.

    Those of an ended state by when they ended; those of another by queue, then by id; without a state by id.
    """
    query = select(*STORED)
    if type is not None:
        query = query.where(jobs.c.type == type)
    if queue is not None:
        query = query.where(jobs.c.queue == queue)
    if state in ENDED:
        # Written out, as in the index on the dead: a parameter would hide from SQLite that the index fits.
        ended_as: ColumnElement[str] = literal_column(f"'{state}'")
        query = query.where(jobs.c.ended_as == ended_as)
        return query.order_by(jobs.c.finished_at.desc(), jobs.c.id.desc())
    if state in UNFINISHED:
        # By queue first, as their index is, so that a few among a million that have ended are found at once.
        query = query.where(jobs.c.ended_as.is_(None), jobs.c.state == state)
        return query.order_by(jobs.c.queue.desc(), jobs.c.id.desc())
    return query.order_by(jobs.c.id.desc())


def beyond(state: JobState | None, job_id: str, queue: str, finished_at: float | None) -> ColumnElement[bool]:
    """The condition for what comes after a job on the pages of `page_of`."""
    if state in UNFINISHED:
        return tuple_(jobs.c.queue, jobs.c.id) < tuple_(queue, job_id)
    if state in ENDED:
        return tuple_(jobs.c.finished_at, jobs.c.id) < tuple_(finished_at, job_id)
    return jobs.c.id < job_id


def nth_newest(state: JobState, count: int) -> Select[Any]:
    """When the newest job of an ended state ended that has `count` newer ones, and its id."""
    return (
        select(jobs.c.finished_at, jobs.c.id)
        .where(jobs.c.ended_as == state)
        .order_by(jobs.c.finished_at.desc(), jobs.c.id.desc())
        .offset(count)
        .limit(1)
    )


def oldest(state: JobState, condition: ColumnElement[bool], limit: int) -> Select[Any]:
    """The ids of the jobs of an ended state that ended first, locked; what others have locked is passed over."""
    return (
        select(jobs.c.id)
        .where(jobs.c.ended_as == state, condition)
        .order_by(jobs.c.finished_at, jobs.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
