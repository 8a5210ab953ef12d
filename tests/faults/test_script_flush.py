"""A Redis server that forgets the scripts, again and again, while they are being called."""

from collections.abc import Callable

import pytest

from allocator.queue.base import Queue
from allocator.services import Server
from tests.faults.load import Load
from tests.faults.servers import raw_redis

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("statistics_too", [False, True], ids=["flush", "flush and resetstat"])
def test_flushed_under_load(
    statistics_too: bool, redis_server: Server, name: str, opened: Callable[..., Queue]
) -> None:
    """No caller sees an error, and every job is accepted and done exactly once."""
    queue = opened(redis_server.url, lease_s=60.0)
    with raw_redis(redis_server) as client, Load(queue) as load:
        for _ in range(40):
            client.script_flush()
            if statistics_too:
                client.config_resetstat()
            load.await_done(10)
        load.finish()
        errors = client.info("errorstats") if not statistics_too else {"errorstat_NOSCRIPT": {}}

    assert load.judge().told() == []
    # Otherwise the scripts were never missed.
    assert "errorstat_NOSCRIPT" in errors
