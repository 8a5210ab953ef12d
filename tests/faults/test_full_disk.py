"""A Redis server that cannot save: until it can, it refuses every change."""

import shutil
import threading
from collections.abc import Callable, Iterator

import pytest
import redis

from allocator import Job, QueueFull
from allocator.queue.base import Queue
from allocator.services import Server
from tests.contract.builders import BOUND_S
from tests.faults import servers

pytestmark = pytest.mark.faults


@pytest.fixture
def saving_server(redis_kind: str) -> Iterator[Server]:
    """With the snapshots of a server's own default settings."""
    with servers.start(redis_kind, {"appendonly": "no", "save": "3600 1"}) as server:
        yield server
        with servers.raw_redis(server) as client:
            # Or it would try to save at its end as well, and stay because it cannot.
            client.config_set("save", "")


def fail_to_save(client: redis.Redis) -> None:
    """As with a full disk: there is no place for the file."""
    shutil.rmtree(client.config_get("dir")["dir"])
    client.bgsave()
    pause = threading.Event()
    for _ in range(int(BOUND_S / 0.02)):
        if client.info("persistence")["rdb_last_bgsave_status"] == "err":
            return
        pause.wait(0.02)
    raise AssertionError("the server saved into a folder that is gone")


def test_a_server_that_cannot_save_says_what_to_do(saving_server: Server, opened: Callable[..., Queue]) -> None:
    """Whatever would change something is refused, naming the disk, and has changed nothing."""
    queue = opened(saving_server.url)
    queue.enqueue_many([Job(type="faults"), Job(type="faults")])
    lease = queue.dequeue(timeout=0)
    assert lease is not None

    with servers.raw_redis(saving_server) as client:
        fail_to_save(client)
        for refused in (
            lambda: queue.enqueue(Job(type="faults")),
            lambda: queue.dequeue(timeout=0),
            lambda: queue.ack(lease),
            lambda: queue.extend(lease),
        ):
            with pytest.raises(QueueFull, match=r"cannot write to its disk.*nothing was changed.*Free space"):
                refused()
        during = queue.counts()
        client.config_set("stop-writes-on-bgsave-error", "no")

    queue.ack(lease)
    assert (during["ready"], during["leased"]) == (1, 1)
    assert (queue.counts()["ready"], queue.counts()["done"]) == (1, 1)
