"""What the fault tests share: servers that they started themselves, and queues with names of their own."""

import contextlib
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from allocator import open_queue
from allocator.queue.base import Queue
from allocator.queue.postgres import connecting as postgres
from allocator.queue.redis import connecting as redis
from allocator.services import Server
from tests.faults import servers


@pytest.fixture(scope="session")
def _shared_server() -> Iterator[Callable[[str], Server]]:
    with contextlib.ExitStack() as stack:
        started: dict[str, Server] = {}

        def get(kind: str) -> Server:
            if kind not in started:
                started[kind] = stack.enter_context(servers.start(kind))
            return started[kind]

        yield get


@pytest.fixture(params=servers.KINDS)
def server_kind(request: pytest.FixtureRequest) -> str:
    """The kinds of server that a test runs on."""
    return request.param


@pytest.fixture(params=servers.REDIS_KINDS)
def redis_kind(request: pytest.FixtureRequest) -> str:
    """The kinds of server that a test for Redis alone runs on."""
    return request.param


@pytest.fixture
def server(server_kind: str, _shared_server: Callable[[str], Server]) -> Server:
    """One server for every test that harms only its own queue or connections; it stays up."""
    return _shared_server(server_kind)


@pytest.fixture
def redis_server(redis_kind: str, _shared_server: Callable[[str], Server]) -> Server:
    """As `server`, for tests for Redis alone."""
    return _shared_server(redis_kind)


@pytest.fixture
def postgres_server(_shared_server: Callable[[str], Server]) -> Server:
    """As `server`, for tests for PostgreSQL alone."""
    return _shared_server("postgres")


@pytest.fixture
def name() -> str:
    """The name of a queue that nobody else uses."""
    return f"faults-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def opened(name: str) -> Iterator[Callable[..., Queue]]:
    """Opens queues by URL, by default with this test's `name`, and closes them at the end."""
    with contextlib.ExitStack() as stack:

        def get(url: str, **options: Any) -> Queue:
            return stack.enter_context(open_queue(url, **{"name": name, **options}))

        yield get


@pytest.fixture
def set_reply_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets how long clients that are opened from then on wait for a reply, so that tests need not wait for as long."""

    def set_s(seconds: float) -> None:
        monkeypatch.setattr(postgres, "REPLY_S", seconds)
        monkeypatch.setitem(redis.OPTIONS, "socket_timeout", seconds)

    return set_s
