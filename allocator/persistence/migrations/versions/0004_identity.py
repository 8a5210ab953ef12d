"""A name of its own for each database, by which the files that it has records of know it again."""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

Word = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make identity, with its one row."""
    identity = op.create_table("identity", sa.Column("id", Word, primary_key=True))
    op.bulk_insert(identity, [{"id": str(uuid.uuid4())}])
