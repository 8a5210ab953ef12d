"""The runs table: which workloads were measured, when, with what verdict, and where their rows are."""

from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select

from allocator.persistence.store import Store
from allocator.persistence.tables import runs


class RunRecord(NamedTuple):
    """
    A run that was measured.

    Args:
        started_at, finished_at: Seconds since the epoch.
        verdict: holds, broken or inconclusive.
        folder: Where its rows are.
        workload, fingerprint, figures: Strict JSON.
    """

    id: str
    name: str
    started_at: float
    finished_at: float
    verdict: str
    folder: str
    workload: bytes
    fingerprint: bytes
    figures: bytes


class Runs:
    """The runs that a store knows. Every method may raise StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, record: RunRecord) -> None:
        """Write down a run; once it is known, nothing of it changes."""
        with self._store._write(durable=True) as connection:
            if connection.execute(select(runs.c.id).where(runs.c.id == record.id)).first() is None:
                connection.execute(runs.insert().values(**record._asdict()))

    def newest(self, limit: int = 50, name: str | None = None) -> list[RunRecord]:
        """
        A page of runs, newest first.

        Args:
            name: Only of this workload.
        """
        query = select(*(runs.c[column] for column in RunRecord._fields))
        if name is not None:
            query = query.where(runs.c.name == name)
        with self._store._read() as connection:
            found = connection.execute(query.order_by(runs.c.started_at.desc(), runs.c.id.desc()).limit(limit))
            return [RunRecord(*row) for row in found]

    def folder(self, id: str) -> Path | None:
        """Where the rows of a run are; None: it is not known."""
        with self._store._read() as connection:
            found = connection.execute(select(runs.c.folder).where(runs.c.id == id)).scalar_one_or_none()
        return None if found is None else Path(found)
