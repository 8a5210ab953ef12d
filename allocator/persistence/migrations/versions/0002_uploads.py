"""Uploads, the parents of assets; where and by which rule assets were placed; the indexes that lists of them need."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

Word = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make uploads; make assets anew, which no release has written to."""
    op.create_table(
        "uploads",
        sa.Column("id", Word, primary_key=True),
        sa.Column("owner", Word, nullable=False),
        sa.Column("comments", sa.Text),
        sa.Column("key", Word),
        sa.Column("digest", Word, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    where = sa.text("key IS NOT NULL")
    op.create_index("uploads_key", "uploads", ["owner", "key"], unique=True, sqlite_where=where, postgresql_where=where)

    op.drop_table("assets")
    op.create_table(
        "assets",
        sa.Column("id", Word, primary_key=True),
        sa.Column("upload_id", Word, nullable=False),
        sa.Column("job_id", Word, nullable=False),
        sa.Column("owner", Word, nullable=False),
        sa.Column("comments", sa.Text),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", Word, nullable=False),
        sa.Column("kind", Word),
        sa.Column("type", Word),
        sa.Column("received_at", sa.Double, nullable=False),
        sa.Column("placed_at", sa.Double),
        sa.Column("path", Word),
        sa.Column("rule", Word),
        sa.Column("search_text", Word, nullable=False),
        sa.Column("facts", sa.LargeBinary),
        sa.CheckConstraint(
            "(path IS NULL) = (placed_at IS NULL) AND (rule IS NULL) = (placed_at IS NULL)", name="assets_placed"
        ),
    )
    op.create_index("assets_upload", "assets", ["upload_id", "id"])
    op.create_index("assets_job", "assets", ["job_id"], unique=True)
    op.create_index("assets_sha256", "assets", ["sha256"])
    op.create_index("assets_received", "assets", ["received_at", "id"])
    op.create_index("assets_owner", "assets", ["owner", "received_at", "id"])
    op.create_index("assets_kind", "assets", ["kind", "received_at", "id"])
