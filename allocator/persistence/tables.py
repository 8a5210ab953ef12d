"""
The tables, as this release has them. Migrations make them; `HEAD` is the last one.

    jobs      one row for each job, with its newest attempt; what the supervisor writes
    attempts  one row for each attempt that has ended
    assets    files that came in, and where they were put
    runs      workloads that were measured

An attempt that runs is the job's own row (token, attempt, worker, leased_at, started_at): a row of `attempts` is
written once, when it ends, and never changed. One whose worker went silent is written when the next begins.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

HEAD = "0001"
"""The revision that these tables are at."""

# Bytes, not words: the order of SQLite and of Python, and the fastest to compare.
Word = Text().with_variant(Text(collation="C"), "postgresql")

metadata = MetaData()


def _index_where(name: str, condition: str, *columns: Column[Any]) -> None:
    Index(name, *columns, sqlite_where=text(condition), postgresql_where=text(condition))


jobs = Table(
    "jobs",
    metadata,
    Column("id", Word, primary_key=True),
    Column("queue", Word, nullable=False),
    Column("type", Word, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("max_retries", Integer, nullable=False),
    Column("state", Word, nullable=False),
    # The state again, once it is one that ends. Indexes go by this column and never by `state`, so that the step from
    # queued to processing touches no index (on PostgreSQL: stays a heap-only update).
    Column("ended_as", Word),
    Column("token", Word),
    Column("attempt", Integer, nullable=False),
    Column("failed_count", Integer, nullable=False),
    Column("worker", Word),
    Column("cancel_asked", Boolean, nullable=False),
    Column("progress_done", Double),
    Column("progress_total", Double),
    Column("progress_message", Text),
    Column("error", Text),
    Column("submitted_at", Double, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("leased_at", Double),
    Column("started_at", Double),
    Column("finished_at", Double),
    # Large ones last: SQLite reads a row from its front.
    Column("result", LargeBinary),
    Column("record", LargeBinary, nullable=False),
    CheckConstraint(
        "(state IN ('queued', 'processing') AND ended_as IS NULL) OR "
        "(state IN ('done', 'dead', 'cancelled') AND ended_as IS NOT NULL AND ended_as = state)",
        name="jobs_state",
    ),
    CheckConstraint("(finished_at IS NULL) = (ended_as IS NULL)", name="jobs_finished_at"),
    CheckConstraint("(token IS NULL) = (state <> 'processing')", name="jobs_token"),
)
_index_where("jobs_unfinished", "ended_as IS NULL", jobs.c.queue, jobs.c.id)
_index_where("jobs_ended", "ended_as IS NOT NULL", jobs.c.ended_as, jobs.c.finished_at, jobs.c.id)
_index_where("jobs_dead", "ended_as = 'dead'", jobs.c.queue, jobs.c.finished_at, jobs.c.id)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", Word, primary_key=True),
    # Numbers come again after a dead letter was put back; tokens do not.
    Column("token", Word, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("worker", Word, nullable=False),
    Column("outcome", Word, nullable=False),
    Column("error", Text),
    Column("traceback", Text),
    Column("leased_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double, nullable=False),
    CheckConstraint("outcome IN ('done', 'failed', 'released', 'cancelled', 'lost')", name="attempts_outcome"),
    sqlite_with_rowid=False,
)

assets = Table(
    "assets",
    metadata,
    Column("id", Word, primary_key=True),
    Column("job_id", Word, nullable=False),
    Column("owner", Text, nullable=False),
    Column("comments", Text),
    Column("name", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", Word, nullable=False),
    Column("kind", Word),
    Column("error", Text),
    Column("received_at", Double, nullable=False),
    Column("placed_at", Double),
    # Strict JSON: what was decided, and what was found in the file.
    Column("placement", LargeBinary),
    Column("facts", LargeBinary),
)
Index("assets_job", assets.c.job_id)
Index("assets_sha256", assets.c.sha256)
Index("assets_owner", assets.c.owner, assets.c.received_at, assets.c.id)

runs = Table(
    "runs",
    metadata,
    Column("id", Word, primary_key=True),
    Column("name", Text, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("finished_at", Double),
    Column("verdict", Word),
    Column("folder", Text),
    # Strict JSON: the workload with its seed; versions and machine; the figures.
    Column("workload", LargeBinary, nullable=False),
    Column("fingerprint", LargeBinary),
    Column("figures", LargeBinary),
)
Index("runs_started", runs.c.started_at, runs.c.id)
