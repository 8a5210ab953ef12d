"""A Redis server at its memory limit: it takes no more jobs, and can still be drained."""

import contextlib
import logging
from collections.abc import Callable, Iterator

import pytest

from allocator import Job, Nack, QueueFull, Release
from allocator.queue.base import Queue
from allocator.services import Server
from tests.faults import servers
from tests.faults.layout import read_layout

pytestmark = pytest.mark.faults


@pytest.fixture
def own_server(redis_kind: str) -> Iterator[Server]:
    with servers.start(redis_kind, {"maxmemory-policy": "noeviction"}) as server:
        yield server


@contextlib.contextmanager
def at_the_limit(server: Server) -> Iterator[None]:
    """Nothing more fits in."""
    with servers.raw_redis(server) as client:
        client.config_set("maxmemory", "1")
        try:
            yield
        finally:
            client.config_set("maxmemory", "0")


def test_a_full_server_takes_nothing_and_gives_everything(
    own_server: Server, name: str, opened: Callable[..., Queue]
) -> None:
    """Enqueue says that it is full and changes nothing; whatever makes room, or keeps leases, goes on."""
    queue = opened(own_server.url)
    queue.enqueue_many(Job(type="faults", id=f"job-{n}") for n in range(12))
    held = queue.dequeue_many(3, timeout=0)
    queue.nack(held.pop(), "an error", dead=True)
    before = queue.counts()

    with at_the_limit(own_server):
        for refused in (
            lambda: queue.enqueue(Job(type="faults", id="more")),
            lambda: queue.enqueue_many([Job(type="faults", id="more"), Job(type="faults", id="and-more")]),
            lambda: queue.requeue_dead("job-2"),
        ):
            with pytest.raises(QueueFull, match="maxmemory"):
                refused()
        assert before == queue.counts()
        assert queue.find(["more", "and-more"]) == {}

        assert queue.extend_many(held, 60.0) == []
        leases = held + queue.dequeue_many(5, timeout=0)
        assert len(leases) == 7
        assert (
            queue.settle(
                acks=leases[:2],
                nacks=[
                    Nack(leases[2], "again", delay=0.0),
                    Nack(leases[3], "later", delay=600),
                    Nack(leases[4], "x", dead=True),
                ],
                releases=[leases[5], Release(leases[6], 600)],
            )
            == []
        )
        assert queue.cancel("job-11")
        assert queue.purge_dead("job-2") == 1
        assert queue.reap() == []
        queue.pause()
        queue.resume()
        drained = queue.dequeue_many(20, timeout=0)
        assert queue.settle(acks=drained) == []
        assert queue.counts() == {
            "ready": 0,
            "scheduled": 2,
            "leased": 0,
            "dead": 1,
            "done": 7,
            "cancelled": 1,
            "purged": 1,
        }

    assert queue.enqueue(Job(type="faults", id="more")).id == "more"
    lease = queue.dequeue(timeout=0)
    assert lease is not None
    assert lease.job.id == "more"
    assert not read_layout(own_server, name).problems


def test_a_long_list_is_taken_whole_or_not(own_server: Server, name: str, opened: Callable[..., Queue]) -> None:
    """A limit that is passed in the middle of a list does not cut the list: the check comes first."""
    queue = opened(own_server.url)
    queue.enqueue(Job(type="faults"))
    jobs = [Job(type="faults", id=f"job-{n}", payload="x" * 1000) for n in range(2000)]
    with servers.raw_redis(own_server) as client:
        used = client.info("memory")["used_memory"]
        for room in (0, 500_000, 1_000_000, 2_000_000):
            client.config_set("maxmemory", str(used + room))
            with contextlib.suppress(QueueFull):
                queue.enqueue_many(jobs)
            client.config_set("maxmemory", "0")

            assert len(queue.find([job.id for job in jobs])) in (0, 2000)
    assert not read_layout(own_server, name).problems


@pytest.mark.parametrize(("policy", "warns"), [("noeviction", False), ("allkeys-lru", True), ("volatile-ttl", True)])
def test_an_eviction_policy_that_can_lose_jobs_is_told(
    policy: str,
    warns: bool,
    own_server: Server,
    opened: Callable[..., Queue],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At connect, once for each queue object, and naming the setting."""
    with servers.raw_redis(own_server) as client:
        client.config_set("maxmemory-policy", policy)

    with caplog.at_level(logging.WARNING):
        queue = opened(own_server.url)
        queue.enqueue(Job(type="faults"))

    told = [record.getMessage() for record in caplog.records if "maxmemory-policy" in record.getMessage()]
    assert len(told) == (1 if warns else 0)
    assert all(policy in text and "noeviction" in text for text in told)
