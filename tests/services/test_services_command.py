"""`python -m allocator.services`: both servers in a terminal."""

import signal
import socket
import subprocess
from collections.abc import Callable

import psycopg
import pytest
import redis

from allocator.services import Server, free_port

pytestmark = pytest.mark.service

RunPython = Callable[..., subprocess.Popen[str]]

WITHOUT_REDIS = """
import sys
import allocator.services.__main__ as command
def no_redis(**_):
    raise command.ServiceUnavailable("no Redis server: tried in vain")
command.open_redis = no_redis
sys.exit(command.main(sys.argv[1:]))
"""


def lines_until_ready(program: subprocess.Popen[str]) -> list[str]:
    assert program.stdout is not None
    lines = []
    for line in program.stdout:
        lines.append(line.rstrip("\n"))
        if line.startswith("Ctrl-C"):
            break
    return lines


@pytest.mark.redis
@pytest.mark.postgres
def test_it_prints_urls_that_work_and_stops_both(need_redis: None, need_postgres: None, run_python: RunPython) -> None:
    """The exported URLs lead to the servers while it runs and nowhere afterwards; it ends with 0."""
    port = free_port()
    program = run_python("-W", "error", "-m", "allocator.services", "--redis-port", str(port))

    redis_line, postgres_line, export, _ = lines_until_ready(program)
    urls = dict(pair.split("=", 1) for pair in export.removeprefix("export ").split())
    with redis.Redis.from_url(urls["REDIS_URL"]) as connection:
        info = connection.info("server")
    with psycopg.connect(urls["DATABASE_URL"]) as session:
        postgres_port = session.info.port
    program.send_signal(signal.SIGINT)
    _, complaints = program.communicate(timeout=60)

    assert urls["REDIS_URL"] == f"redis://127.0.0.1:{port}/0"
    assert info.get("valkey_version", info["redis_version"]) in redis_line
    assert "PostgreSQL" in postgres_line
    assert (program.returncode, complaints) == (0, "")
    for closed in (port, postgres_port):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", closed))


@pytest.mark.redis
def test_sigterm_ends_it_too(need_redis: None, run_python: RunPython) -> None:
    """As a service manager would."""
    program = run_python("-m", "allocator.services", "--only", "redis")

    _, export, _ = lines_until_ready(program)
    program.terminate()
    program.communicate(timeout=60)

    port = int(export.rpartition(":")[2].partition("/")[0])
    assert program.returncode == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


@pytest.mark.redis
def test_a_server_given_by_url_is_not_started(redis_server: Server, run_python: RunPython) -> None:
    """It says which, and has nothing to wait for."""
    program = run_python("-m", "allocator.services", "--only", "redis", REDIS_URL=redis_server.url)

    output, _ = program.communicate(timeout=60)

    assert program.returncode == 0
    assert redis_server.version in output
    assert "REDIS_URL is set, and not started" in output
    assert redis_server.pid is not None


@pytest.mark.postgres
def test_one_without_the_other(need_postgres: None, run_python: RunPython) -> None:
    """What is missing is said; the other one runs."""
    program = run_python("-c", WITHOUT_REDIS)

    lines = lines_until_ready(program)
    program.send_signal(signal.SIGINT)
    _, complaints = program.communicate(timeout=60)

    assert lines[0].startswith("postgres: PostgreSQL")
    assert complaints == "redis: no Redis server: tried in vain\n"
    assert program.returncode == 0


def test_none_at_all(run_python: RunPython) -> None:
    """Without any server the exit status is 1."""
    program = run_python("-c", WITHOUT_REDIS, "--only", "redis")

    output, complaints = program.communicate(timeout=60)

    assert (program.returncode, output) == (1, "")
    assert "tried in vain" in complaints
