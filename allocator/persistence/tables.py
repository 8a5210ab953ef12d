"""
The tables, as this release has them. Migrations make them; `HEAD` is the last one.

    jobs      one row for each job, with its newest attempt; what the supervisor writes
    attempts  one row for each attempt that has ended
    uploads   what came in with one request
    assets    the files and documents of uploads, and where each was put
    api_keys  who may use the API
    runs      workloads that were measured
    identity  one row: the name of this database

An attempt that runs is the job's own row (token, attempt, worker, leased_at, started_at): a row of `attempts` is
written once, when it ends, and never changed. One whose worker went silent is written when the next begins.

An asset has a job of its own, and no state: it is done once it was placed, and until then what its job's row says.
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

HEAD = "0005"
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

uploads = Table(
    "uploads",
    metadata,
    Column("id", Word, primary_key=True),
    Column("owner", Word, nullable=False),
    Column("comments", Text),
    # The idempotency key, which is the owner's own; and of what was sent, to tell a repetition from another upload.
    Column("key", Word),
    Column("digest", Word, nullable=False),
    Column("created_at", Double, nullable=False),
)
Index(
    "uploads_key",
    uploads.c.owner,
    uploads.c.key,
    unique=True,
    sqlite_where=text("key IS NOT NULL"),
    postgresql_where=text("key IS NOT NULL"),
)

assets = Table(
    "assets",
    metadata,
    Column("id", Word, primary_key=True),
    Column("upload_id", Word, nullable=False),
    # Its row may be gone: jobs are kept for a while, assets until someone deletes them.
    Column("job_id", Word, nullable=False),
    Column("owner", Word, nullable=False),
    Column("comments", Text),
    # As the sender called it.
    Column("name", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    # Of its bytes, in hexadecimal: where they are in the object store.
    Column("sha256", Word, nullable=False),
    # What it is, by content: the processor's word for it, and the media type. Null until identified.
    Column("kind", Word),
    Column("type", Word),
    Column("received_at", Double, nullable=False),
    # When it was put where in the library, by which rule. Null until then, all three.
    Column("placed_at", Double),
    Column("path", Word),
    Column("rule", Word),
    # Name and comments as they are looked for: what counts as the same letter is folded into one, by us, as databases
    # do not agree on it.
    Column("search_text", Word, nullable=False),
    # Strict JSON: what was found in it. Last, as it may be long.
    Column("facts", LargeBinary),
    CheckConstraint(
        "(path IS NULL) = (placed_at IS NULL) AND (rule IS NULL) = (placed_at IS NULL)", name="assets_placed"
    ),
)
Index("assets_upload", assets.c.upload_id, assets.c.id)
Index("assets_job", assets.c.job_id, unique=True)
Index("assets_sha256", assets.c.sha256)
# Pages, newest first: of all, of one owner, of one kind.
Index("assets_received", assets.c.received_at, assets.c.id)
Index("assets_owner", assets.c.owner, assets.c.received_at, assets.c.id)
Index("assets_kind", assets.c.kind, assets.c.received_at, assets.c.id)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Word, primary_key=True),
    Column("name", Text, nullable=False),
    # SHA-256 of the key, which itself is written nowhere.
    Column("digest", LargeBinary, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("last_used_at", Double),
    Column("revoked_at", Double),
)

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

identity = Table("identity", metadata, Column("id", Word, primary_key=True))
