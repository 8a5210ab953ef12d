"""The first tables: jobs, attempts, assets, runs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# Values are copied here and not imported: a migration must do tomorrow what it does today.
Word = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

_NOT_ALLOWED = "OLD.state IN ('done', 'cancelled') OR (NEW.state = 'done' AND OLD.state <> 'processing')"
_SAID = "jobs: done and cancelled are final, and only what is processing can be done"

_SQLITE = f"""
CREATE TRIGGER jobs_transitions BEFORE UPDATE ON jobs WHEN {_NOT_ALLOWED}
BEGIN SELECT RAISE(ABORT, '{_SAID}'); END
"""

# The condition stands in the trigger, so that the function is called only to refuse.
_POSTGRES = (
    f"""
    CREATE FUNCTION refuse_transition() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION '{_SAID}' USING ERRCODE = 'check_violation'; END $$
    """,
    f"""
    CREATE TRIGGER jobs_transitions BEFORE UPDATE ON jobs FOR EACH ROW WHEN ({_NOT_ALLOWED})
    EXECUTE FUNCTION refuse_transition()
    """,
    # Each job's row is written about three times within seconds: room beside it keeps those updates heap-only.
    "ALTER TABLE jobs SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0)",
    # JSON of a few KiB is not worth the time to compress it; longer values still move out of the row.
    "ALTER TABLE jobs ALTER record SET STORAGE EXTERNAL, ALTER result SET STORAGE EXTERNAL",
)


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "jobs",
        sa.Column("id", Word, primary_key=True),
        sa.Column("queue", Word, nullable=False),
        sa.Column("type", Word, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("max_retries", sa.Integer, nullable=False),
        sa.Column("state", Word, nullable=False),
        sa.Column("ended_as", Word),
        sa.Column("token", Word),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("failed_count", sa.Integer, nullable=False),
        sa.Column("worker", Word),
        sa.Column("cancel_asked", sa.Boolean, nullable=False),
        sa.Column("progress_done", sa.Double),
        sa.Column("progress_total", sa.Double),
        sa.Column("progress_message", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("submitted_at", sa.Double, nullable=False),
        sa.Column("due_at", sa.Double, nullable=False),
        sa.Column("leased_at", sa.Double),
        sa.Column("started_at", sa.Double),
        sa.Column("finished_at", sa.Double),
        sa.Column("result", sa.LargeBinary),
        sa.Column("record", sa.LargeBinary, nullable=False),
        sa.CheckConstraint(
            "(state IN ('queued', 'processing') AND ended_as IS NULL) OR "
            "(state IN ('done', 'dead', 'cancelled') AND ended_as IS NOT NULL AND ended_as = state)",
            name="jobs_state",
        ),
        sa.CheckConstraint("(finished_at IS NULL) = (ended_as IS NULL)", name="jobs_finished_at"),
        sa.CheckConstraint("(token IS NULL) = (state <> 'processing')", name="jobs_token"),
    )
    _index_where("jobs_unfinished", "jobs", ["queue", "id"], "ended_as IS NULL")
    _index_where("jobs_ended", "jobs", ["ended_as", "finished_at", "id"], "ended_as IS NOT NULL")
    _index_where("jobs_dead", "jobs", ["queue", "finished_at", "id"], "ended_as = 'dead'")

    op.create_table(
        "attempts",
        sa.Column("job_id", Word, primary_key=True),
        sa.Column("token", Word, primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("worker", Word, nullable=False),
        sa.Column("outcome", Word, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("traceback", sa.Text),
        sa.Column("leased_at", sa.Double, nullable=False),
        sa.Column("started_at", sa.Double),
        sa.Column("finished_at", sa.Double, nullable=False),
        sa.CheckConstraint("outcome IN ('done', 'failed', 'released', 'cancelled', 'lost')", name="attempts_outcome"),
        sqlite_with_rowid=False,
    )

    op.create_table(
        "assets",
        sa.Column("id", Word, primary_key=True),
        sa.Column("job_id", Word, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("comments", sa.Text),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", Word, nullable=False),
        sa.Column("kind", Word),
        sa.Column("error", sa.Text),
        sa.Column("received_at", sa.Double, nullable=False),
        sa.Column("placed_at", sa.Double),
        sa.Column("placement", sa.LargeBinary),
        sa.Column("facts", sa.LargeBinary),
    )
    op.create_index("assets_job", "assets", ["job_id"])
    op.create_index("assets_sha256", "assets", ["sha256"])
    op.create_index("assets_owner", "assets", ["owner", "received_at", "id"])

    op.create_table(
        "runs",
        sa.Column("id", Word, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("finished_at", sa.Double),
        sa.Column("verdict", Word),
        sa.Column("folder", sa.Text),
        sa.Column("workload", sa.LargeBinary, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary),
        sa.Column("figures", sa.LargeBinary),
    )
    op.create_index("runs_started", "runs", ["started_at", "id"])

    for statement in _POSTGRES if op.get_bind().dialect.name == "postgresql" else (_SQLITE,):
        op.execute(statement)


def _index_where(name: str, table: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)
