"""Databases that are down, full, read-only, locked or damaged: the error says which, and what to do."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from allocator.persistence import Store, StoreUnavailable, engines, open_store
from allocator.persistence.failures import told
from allocator.services import Server, ServiceUnavailable, open_postgres
from tests.persistence.builders import FakeQueue, a_job, an_ending, running, state_of


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[Store]:
    """A store on a file, with the one connection that a single thread has."""
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as store:
        yield store


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """A PostgreSQL that may be harmed."""
    try:
        server = open_postgres(use_url=False, settings={"fsync": "off"})
    except ServiceUnavailable as error:
        pytest.skip(f"no PostgreSQL to stop and start: {error}")
    with server:
        yield server


def pragma(store: Store, setting: str) -> None:
    """Set something on the store's own connection."""
    with store.engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA {setting}")


def test_a_full_sqlite_database(sqlite_store: Store, queue: FakeQueue) -> None:
    """Nothing of the submission stays, and what there is can still be read and settled once there is room."""
    lease = running(sqlite_store, queue)
    pragma(sqlite_store, "max_page_count = 1")

    with pytest.raises(StoreUnavailable, match=r"is full.*Free some space") as caught:
        sqlite_store.submit(queue, a_job(payload="x" * 100_000))

    assert caught.value.reason == "full"
    assert [job.id for job in sqlite_store.jobs()] == [lease.job.id]
    pragma(sqlite_store, "max_page_count = 1000000")
    assert sqlite_store.settle([an_ending(lease)]) == []


def test_a_read_only_sqlite_database(sqlite_store: Store, queue: FakeQueue) -> None:
    """Reading goes on."""
    pragma(sqlite_store, "query_only = 1")

    with pytest.raises(StoreUnavailable, match=r"is read-only.*the right to write") as caught:
        sqlite_store.submit(queue, a_job())

    assert caught.value.reason == "read-only"
    assert sqlite_store.jobs() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write every file")
def test_a_sqlite_file_without_the_right_to_write(tmp_path: Path, queue: FakeQueue) -> None:
    """Found out when something is to be written, or at once."""
    path = tmp_path / "folder" / "store.db"
    open_store(f"sqlite:///{path}").close()
    path.chmod(0o400)
    path.parent.chmod(0o500)

    with pytest.raises(StoreUnavailable) as caught, open_store(f"sqlite:///{path}") as store:
        store.submit(queue, a_job())

    assert caught.value.reason in ("read-only", "refused")


def test_a_locked_sqlite_database(sqlite_store: Store, queue: FakeQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone else's transaction that does not end; then it ends, and the same call succeeds."""
    lease = running(sqlite_store, queue)
    monkeypatch.setattr(engines, "BUSY_S", 0.0)
    other = sqlite3.connect(sqlite_store.where.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailable, match=r"is locked.*lsof") as caught:
        sqlite_store.settle([an_ending(lease)])

    other.close()
    assert caught.value.reason == "locked"
    assert sqlite_store.settle([an_ending(lease)]) == []


def test_a_writer_asks_often_for_its_turn(
    sqlite_store: Store, queue: FakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes again and again leaves but moments in between: one that looked ten times a second got none."""
    other = sqlite3.connect(sqlite_store.where.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            other.execute("COMMIT")

    monkeypatch.setattr(engines, "time", SimpleNamespace(monotonic=lambda: sum(waits), sleep=wait))

    job = sqlite_store.submit(queue, a_job())

    assert state_of(sqlite_store, job.id) == "queued"
    assert len(waits) == 3
    assert max(waits) < 0.005


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """Is not written over."""
    path = tmp_path / "letter.txt"
    path.write_text("Dear Sir or Madam, " * 100)

    with pytest.raises(StoreUnavailable, match="is damaged") as caught:
        open_store(f"sqlite:///{path}")

    assert caught.value.reason == "damaged"
    assert path.read_text().startswith("Dear Sir")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """Says where it failed."""
    (tmp_path / "file").touch()

    with pytest.raises(StoreUnavailable, match=r"is not open to us.*file") as caught:
        open_store(f"sqlite:///{tmp_path}/file/store.db")

    assert caught.value.reason == "refused"


@pytest.mark.postgres
@pytest.mark.service
@pytest.mark.faults
def test_a_stopped_postgres_server(own_server: Server, queue: FakeQueue) -> None:
    """Each call says that it is down; once it runs again the next call succeeds, without an error in between."""
    with open_store(own_server.url, schema="stopped") as store:
        lease = running(store, queue)
        own_server.stop()

        with pytest.raises(StoreUnavailable, match="is not reachable") as while_stopped:
            store.settle([an_ending(lease)])
        with pytest.raises(StoreUnavailable):
            open_store(own_server.url)
        own_server.start()
        fenced = store.settle([an_ending(lease)])

        assert while_stopped.value.reason == "down"
        assert fenced == []
        assert state_of(store, lease.job.id) == "done"


@pytest.mark.postgres
@pytest.mark.service
@pytest.mark.faults
def test_connections_that_a_restart_has_cut_are_not_used(own_server: Server, queue: FakeQueue) -> None:
    """The first call after a restart finds out by itself."""
    with open_store(own_server.url, schema="restarted") as store:
        running(store, queue)
        own_server.kill()
        own_server.start()

        assert len(store.jobs()) == 1


@pytest.mark.postgres
@pytest.mark.service
def test_a_read_only_postgres(own_server: Server, queue: FakeQueue) -> None:
    """As a standby is."""
    with open_store(own_server.url, schema="read_only") as store:
        with store.engine.connect() as connection:
            connection.exec_driver_sql("SET default_transaction_read_only = on")
            connection.commit()

        with pytest.raises(StoreUnavailable, match="use the primary") as caught:
            store.submit(queue, a_job())

    assert caught.value.reason == "read-only"


@pytest.mark.postgres
@pytest.mark.service
def test_a_database_that_does_not_exist(own_server: Server) -> None:
    """Says how to make it, and keeps the password to itself."""
    url = own_server.url.replace("allocator@", "allocator:secret@").rsplit("/", 1)[0] + "/nowhere"

    with pytest.raises(StoreUnavailable, match="createdb") as caught:
        open_store(url)

    assert caught.value.reason == "refused"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (psycopg.errors.DiskFull("no space left on device"), "full"),
        (psycopg.errors.TooManyConnections("sorry, too many clients already"), "down"),
        (psycopg.errors.AdminShutdown("terminating connection"), "down"),
        (psycopg.errors.LockNotAvailable("lock timeout"), "locked"),
        (psycopg.errors.DeadlockDetected("deadlock detected"), "locked"),
        (psycopg.errors.InsufficientPrivilege("permission denied"), "refused"),
        (psycopg.errors.DataCorrupted("invalid page"), "damaged"),
        (psycopg.OperationalError("the connection is lost"), "down"),
    ],
)
def test_what_postgres_says_is_understood(error: Exception, reason: str) -> None:
    """By its code, since its words are in the server's language."""
    with pytest.raises(StoreUnavailable) as caught, told("postgresql://here/db"):
        raise error

    assert caught.value.reason == reason
    assert str(error) in str(caught.value)


def test_mistakes_of_ours_are_not_the_databases(sqlite_store: Store) -> None:
    """A statement that is wrong stays what it is."""
    with pytest.raises(OperationalError, match="incomplete input"), told(sqlite_store.where):
        pragma(sqlite_store, "nonsense(")
