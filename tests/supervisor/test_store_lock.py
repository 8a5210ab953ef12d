"""A queue in process with a store on PostgreSQL: its lock on the store goes with a connection, and comes back."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from allocator.persistence import Store, StoreLocked, open_store
from allocator.queue.inprocess import InProcessQueue
from allocator.supervisor import Supervisor
from tests.contract.builders import BOUND_S, a_job
from tests.faults.running import until

pytestmark = [pytest.mark.postgres, pytest.mark.service]


@pytest.fixture
def store(postgres_url: str) -> Iterator[Store]:
    """A schema of its own."""
    schema = f"test_{uuid.uuid4().hex[:16]}"
    with open_store(postgres_url, schema=schema) as opened:
        yield opened
        with opened.engine.begin() as connection:
            connection.execute(text(f'DROP SCHEMA "{schema}" CASCADE'))


def ask(store: Store, query: str) -> list[Any]:
    with store.engine.begin() as connection:
        return list(connection.execute(text(query)).scalars())


def holders(store: Store) -> set[int]:
    """The server processes that hold a lock of some store."""
    return set(ask(store, "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND granted"))


def end(store: Store, pids: set[int]) -> None:
    for pid in pids:
        ask(store, f"SELECT pg_terminate_backend({pid})")


def test_a_lock_that_went_with_its_connection_is_taken_again(store: Store) -> None:
    """As when the server was restarted: no other process gets the jobs of this one."""
    others = holders(store)
    with InProcessQueue() as queue, Supervisor(queue, {"json": print}, store=store):
        lost = holders(store) - others
        end(store, lost)

        until(lambda: holders(store) - others - lost, "it was not taken again")

        with pytest.raises(StoreLocked):
            store.lock(queue.identity)
    until(lambda: not holders(store) - others, "it was not let go at the end")


def test_a_lock_that_another_has_got_is_taken_once_it_is_free(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Who it is, is told; the work goes on meanwhile."""
    others = holders(store)
    with InProcessQueue() as queue, Supervisor(queue, {"json": lambda context: None}, store=store) as supervisor:
        taken = None
        while taken is None:
            end(store, holders(store) - others)
            try:
                taken = store.lock(queue.identity)
            except StoreLocked:
                # It was taken again before.
                continue
        until(lambda: "is held by the client at" in caplog.text, "it was not told")
        store.submit(queue, a_job())
        assert supervisor.drain(BOUND_S)
        taken.release()

        until(lambda: holders(store) - others, "it was not taken again")
