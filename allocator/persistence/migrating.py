"""Brings a database to the revision of this release, whatever it was at."""

import hashlib
import threading
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from allocator.domain.errors import NewerVersion
from allocator.persistence.tables import HEAD

FOLDER = Path(__file__).parent / "migrations"

# Alembic keeps what it works on in global variables.
_one_at_a_time = threading.Lock()


def bring_up_to_date(engine: Engine, where: str, schema: str | None) -> None:
    """
    Make the tables, or upgrade them, in one transaction; what is up to date costs one query.

    Args:
        engine: Its transactions must lock a SQLite database at once.
        where: Names the database in errors.
        schema: On PostgreSQL: the schema, made if missing.
    Raises:
        NewerVersion: The database is at a revision that this release does not know.
    """
    with engine.connect() as connection, connection.begin():
        revision = _revision(connection)
    if revision == HEAD:
        return
    _refuse_unknown(revision, where)
    with _one_at_a_time, engine.connect() as connection, connection.begin():
        # On SQLite the transaction itself keeps others out.
        if schema is not None:
            key = int.from_bytes(hashlib.sha256(f"upgrade {schema}".encode()).digest()[:8], signed=True)
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
            connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'))
        revision = _revision(connection)
        _refuse_unknown(revision, where)
        if revision != HEAD:
            _upgrade(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _refuse_unknown(revision: str | None, where: str) -> None:
    if revision is None:
        return
    if not any(path.stem.split("_")[0] == revision for path in (FOLDER / "versions").glob("[0-9]*.py")):
        raise NewerVersion(
            f"the store {where} is at revision {revision}, which this release (revision {HEAD}) does not know: a newer "
            "release wrote it, and nothing was read or changed. Upgrade: pip install -U allocator"
        )


def _upgrade(connection: Connection) -> None:
    # Imported when needed: most stores are up to date, and it takes as long to load as a store takes to open.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)
