"""Runs the migrations on the connection that `allocator.persistence.migrating` hands over."""

from alembic import context

from allocator.persistence.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # On SQLite too: the caller's transaction holds the whole upgrade, and a kill in the middle leaves the old state.
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
