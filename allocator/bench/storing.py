"""The store of a run, if it has one: where it is, for all processes of the run."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    # Who has no store starts far sooner without.
    from allocator.persistence import Store

Kind = Literal["none", "sqlite", "postgres"]
KINDS = ("none", "sqlite", "postgres")


class StorePlace(msgspec.Struct, frozen=True):
    """
    Where a store is.

    Args:
        schema: On PostgreSQL.
    """

    url: str
    schema: str

    def open(self) -> "Store":
        """
        The store; its tables are made if they are missing.

        Raises:
            StoreUnavailable: The database cannot be reached.
        """
        from allocator.persistence import open_store

        return open_store(self.url, schema=self.schema)


def opened_store(place: StorePlace | None, stack: ExitStack) -> "Store | None":
    """The store of a place, if there is one, closed with the stack."""
    return None if place is None else stack.enter_context(place.open())


@contextmanager
def on_sqlite(folder: Path) -> Iterator[StorePlace]:
    """A database of its own in a folder; made before many open it at a time."""
    place = StorePlace(f"sqlite:///{folder / 'store.db'}", "allocator")
    place.open().close()
    yield place


@contextmanager
def on_postgres(url: str) -> Iterator[StorePlace]:
    """A schema of its own in a database, erased at the end."""
    from sqlalchemy import make_url, text

    from allocator.bench.scratch import scratch_name

    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    place = StorePlace(plain, scratch_name("run").replace("-", "_"))
    place.open().close()
    try:
        yield place
    finally:
        with place.open() as store, store.engine.begin() as connection:
            connection.execute(text(f'DROP SCHEMA "{place.schema}" CASCADE'))
