"""No server outlives its owner, however that ends."""

import gc
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from allocator.services import free_port, open_redis
from allocator.services.watchdog import is_running

pytestmark = pytest.mark.service

RunPython = Callable[..., subprocess.Popen[str]]
Until = Callable[..., None]

OPEN_BOTH = """
import os, signal, sys
from allocator.services import open_postgres, open_redis
servers = [open_redis(), open_postgres()]
"""
# The forked copy has every descriptor of its parent, and outlives it.
WITH_FORKED_COPY = (
    OPEN_BOTH
    + """
copy = os.fork()
if not copy:
    signal.pause()
print(copy, *[word for server in servers for word in (server.pid, server.data_dir)], flush=True)
signal.pause()
"""
)
WITHOUT_CLOSING = (
    OPEN_BOTH
    + """
print(*[word for server in servers for word in (server.pid, server.data_dir)], flush=True)
sys.exit(0)
"""
)
ON_A_FOLDER = """
import signal, sys
from pathlib import Path
from allocator.services import open_redis
server = open_redis(data_dir=Path(sys.argv[1]))
print(server.pid, flush=True)
signal.pause()
"""


@pytest.mark.redis
@pytest.mark.postgres
def test_killing_the_owner_ends_its_servers(
    need_redis: None, need_postgres: None, run_python: RunPython, until: Until
) -> None:
    """Both end and their temporary folders go, even while a forked copy of the owner lives on."""
    owner = run_python("-c", WITH_FORKED_COPY)
    assert owner.stdout is not None
    copy, redis_pid, redis_dir, postgres_pid, postgres_dir = owner.stdout.readline().split()
    try:
        assert is_running(int(redis_pid))
        assert is_running(int(postgres_pid))
        owner.kill()
        until(lambda: not is_running(int(redis_pid)), "Redis ends")
        until(lambda: not is_running(int(postgres_pid)), "PostgreSQL ends")
        until(lambda: not Path(redis_dir).exists(), "the folder of Redis goes")
        until(lambda: not Path(postgres_dir).exists(), "the folder of PostgreSQL goes")
        assert is_running(int(copy))
    finally:
        os.kill(int(copy), signal.SIGKILL)


@pytest.mark.redis
@pytest.mark.postgres
def test_an_owner_that_exits_takes_its_servers_along(
    need_redis: None, need_postgres: None, run_python: RunPython
) -> None:
    """When the process has ended, so have its servers, closed or not."""
    owner = run_python("-W", "error", "-c", WITHOUT_CLOSING)

    output, complaints = owner.communicate(timeout=120)

    redis_pid, redis_dir, postgres_pid, postgres_dir = output.split()
    assert not is_running(int(redis_pid))
    assert not is_running(int(postgres_pid))
    assert not Path(redis_dir).exists()
    assert not Path(postgres_dir).exists()
    assert (owner.returncode, complaints) == (0, "")


@pytest.mark.redis
def test_the_next_owner_of_a_folder_waits_for_the_last_server(
    need_redis: None, run_python: RunPython, tmp_path: Path
) -> None:
    """A server whose owner was killed is still ending when the next owner comes; the two never overlap."""
    owner = run_python("-c", ON_A_FOLDER, str(tmp_path))
    assert owner.stdout is not None
    last_pid = int(owner.stdout.readline())
    # Stopped, it ends only after its watchdog has let it go on, which makes the overlap likely.
    os.kill(last_pid, signal.SIGSTOP)
    owner.kill()
    owner.wait()

    with open_redis(data_dir=tmp_path) as server:
        assert not is_running(last_pid)
        assert server.pid != last_pid


@pytest.mark.redis
def test_a_forgotten_server_ends(need_redis: None) -> None:
    """A server that nobody can stop any more is stopped."""
    server = open_redis()
    pid, data_dir = server.pid, server.data_dir

    del server
    gc.collect()

    assert pid is not None
    assert not is_running(pid)
    assert data_dir is not None
    assert not data_dir.exists()


def test_free_ports_are_out_of_the_way_of_clients() -> None:
    """A client that reconnects to a stopped server must not be given the server's port as its own."""
    assert all(1024 < free_port() < 32768 for _ in range(20))
