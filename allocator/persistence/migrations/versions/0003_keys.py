"""API keys, each known by the SHA-256 of it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

Word = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make api_keys."""
    op.create_table(
        "api_keys",
        sa.Column("id", Word, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("last_used_at", sa.Double),
        sa.Column("revoked_at", sa.Double),
    )
