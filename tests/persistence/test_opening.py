"""Opening: URLs, schemas of other releases, and other processes that open at the same time."""

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from allocator.domain.errors import NewerVersion
from allocator.persistence import (
    Store,
    StoreClosed,
    StoreUnavailable,
    default_url,
    migrating,
    open_store,
    tables,
)
from allocator.services.ports import free_port
from tests.persistence.builders import FakeQueue, Opener, a_job, finished, state_of
from tests.persistence.programs import line_of, start

NEXT = f'''
"""A later change."""
import sqlalchemy as sa
from alembic import op
revision = "9999"
down_revision = "{tables.HEAD}"


def upgrade() -> None:
    """Add a column."""
    op.add_column("jobs", sa.Column("note", sa.Text))
'''


@pytest.fixture
def a_release_later(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Until it is undone, this release has one migration more."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrating.FOLDER, folder)
    (folder / "versions" / "9999_next.py").write_text(NEXT)
    monkeypatch.setattr(migrating, "FOLDER", folder)
    monkeypatch.setattr(migrating, "HEAD", "9999")
    return monkeypatch


def test_an_empty_database_gets_the_tables_of_this_release(store: Store) -> None:
    """The migrations make what `tables` says, column by column, and end where it says."""
    config = Config()
    config.set_main_option("script_location", str(migrating.FOLDER))
    config.set_main_option("path_separator", "os")

    with store.engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), tables.metadata)
        revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()

    assert differences == []
    assert revision == tables.HEAD == ScriptDirectory.from_config(config).get_current_head()


def test_a_database_of_an_older_release_is_upgraded(
    opener: Opener, queue: FakeQueue, request: pytest.FixtureRequest
) -> None:
    """Its jobs stay, and it has what is new."""
    job_id = finished(opener(), queue)
    request.getfixturevalue("a_release_later")

    upgraded = opener()

    assert state_of(upgraded, job_id) == "done"
    with upgraded.engine.connect() as connection:
        assert connection.execute(text("SELECT note FROM jobs")).scalars().all() == [None]


def test_a_database_of_a_newer_release_is_refused(
    opener: Opener, queue: FakeQueue, a_release_later: pytest.MonkeyPatch
) -> None:
    """The error says what to upgrade, and nothing was changed."""
    newer = opener()
    a_release_later.undo()

    with pytest.raises(NewerVersion, match=r"revision 9999.*pip install -U allocator"):
        opener()

    with newer.engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "9999"


def test_an_upgrade_that_fails_leaves_the_old_state(
    opener: Opener, queue: FakeQueue, request: pytest.FixtureRequest
) -> None:
    """A migration is one transaction, on both databases."""
    old = opener()
    job_id = finished(old, queue)
    request.getfixturevalue("a_release_later")
    (migrating.FOLDER / "versions" / "9999_next.py").write_text(NEXT + "    raise RuntimeError('power cut')\n")

    with pytest.raises(RuntimeError, match="power cut"):
        opener()

    assert state_of(old, job_id) == "done"
    with old.engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == tables.HEAD
        assert "note" not in connection.execute(text("SELECT * FROM jobs")).keys()  # noqa: SIM118


def test_processes_that_open_an_empty_database_at_once(place: dict[str, Any], opener: Opener) -> None:
    """One makes the tables, the others wait for it."""
    program = (
        "from allocator.persistence import open_store; import alembic.command\n"
        "print('ready', flush=True); input()\n"
        "with open_store(**place) as store: print(store.counts()['done'], flush=True)"
    )
    programs = [start(program, place) for _ in range(3)]
    for one in programs:
        assert line_of(one) == "ready"

    for one in programs:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    answers = [one.communicate() for one in programs]

    assert [out.strip() for out, _ in answers] == ["0", "0", "0"], [error for _, error in answers]
    assert opener().jobs() == []


def test_a_file_that_somebody_else_is_making_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite itself says at once that it is busy when two make the same file."""
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("CREATE TABLE anything (x)")
    other.execute("BEGIN IMMEDIATE")
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if other.in_transaction:
            other.execute("COMMIT")

    monkeypatch.setattr("allocator.persistence.engines.time.sleep", wait)

    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as store:
        assert store.jobs() == []
    assert waits
    other.close()


def test_what_was_submitted_survives_a_kill(place: dict[str, Any], opener: Opener) -> None:
    """A process that is killed right after `submit` has submitted."""
    program = (
        "import os, signal\n"
        "from allocator.persistence import open_store\n"
        "from tests.persistence.builders import FakeQueue, a_job\n"
        "print(open_store(**place).submit(FakeQueue(), a_job()).id, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )

    with start(program, place) as killed:
        job_id = line_of(killed)

    assert state_of(opener(), job_id) == "queued"


def test_a_store_is_not_used_after_a_fork(place: dict[str, Any]) -> None:
    """A child that inherits it is told to open its own."""
    program = (
        "import os\n"
        "from allocator.persistence import StoreForked, open_store\n"
        "store = open_store(**place)\n"
        "if os.fork() == 0:\n"
        "    try: store.jobs()\n"
        "    except StoreForked as error: print(error, flush=True)\n"
        "    store.close(); os._exit(0)\n"
        "os.wait(); print(len(store.jobs()), flush=True)"
    )

    with start(program, place) as parent:
        said, count = line_of(parent), line_of(parent)

    assert "open a store of its own there" in said
    assert count == "0"


def test_a_connection_waits_as_each_transaction_asks(tmp_path: Path) -> None:
    """For the disk where what it commits must last, and for other writers only where SQLite is to wait for them."""
    found: list[tuple[int, int]] = []

    def look(connection: Connection) -> None:
        found.append((
            connection.exec_driver_sql("PRAGMA synchronous").scalar_one(),
            connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one(),
        ))  # fmt: skip

    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as store:
        for durable in (True, False, True, True):
            with store._write(durable=durable) as connection:
                look(connection)
        with store._read() as connection:
            look(connection)

    full, normal = 2, 1
    assert found == [(full, 0), (normal, 0), (full, 0), (full, 0), (full, 5000)]


def test_a_closed_store_says_so(store: Store, queue: FakeQueue) -> None:
    """Closing is idempotent, and final."""
    store.close()
    store.close()

    with pytest.raises(StoreClosed, match="open it again"):
        store.submit(queue, a_job())
    with pytest.raises(StoreClosed):
        store.lock("queue")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "is no URL"),
        ("mysql://localhost/x", "no known database"),
        ("sqlite://", "a file of its own"),
        ("sqlite:///:memory:", "a file of its own"),
        ("sqlite:///x.db?mode=ro", "takes no options"),
    ],
)
def test_urls_that_are_none_of_ours(url: str, said: str) -> None:
    """Each is refused with what to use instead."""
    with pytest.raises(ValueError, match=said):
        open_store(url)


def test_a_schema_that_is_no_name_is_refused() -> None:
    """It goes into statements, so that only plain names do."""
    with pytest.raises(ValueError, match="lower-case letters"):
        open_store("postgresql://localhost/x", schema='x"; DROP')


def test_the_default_is_in_the_users_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As the system says where that is; the folder is made, for this user alone."""
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setenv("HOME", "/home/me")
    on_macos = default_url()
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", "relative/is/passed/over")
    fallback = default_url()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

    with open_store() as store:
        where = store.where

    assert on_macos == "sqlite:////home/me/Library/Application Support/allocator/store.db"
    assert fallback == "sqlite:////home/me/.local/share/allocator/store.db"
    assert where == f"sqlite:///{tmp_path}/allocator/store.db"
    assert (tmp_path / "allocator").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "url", ["postgresql://me:secret@127.0.0.1:{}/jobs", "postgresql://127.0.0.1:{}/jobs?password=secret"]
)
def test_a_password_is_never_told(url: str) -> None:
    """Wherever it stands in the URL."""
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1") as caught:
        open_store(url.format(free_port()))

    assert "secret" not in str(caught.value)
