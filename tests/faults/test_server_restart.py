"""Servers that die, stand still and come back while clients use them."""

import threading
from collections.abc import Callable, Iterator

import pytest

from allocator import Job
from allocator.queue import sessions
from allocator.queue.base import Queue
from allocator.services import Server
from tests.faults import servers
from tests.faults.layout import read_layout
from tests.faults.load import Load
from tests.faults.running import Running, until

pytestmark = pytest.mark.faults

# Of a busy machine; what is meant is "without waiting for any time-out".
AT_ONCE_S = 2.0


@pytest.fixture
def own_server(server_kind: str) -> Iterator[Server]:
    """A server that acknowledges only what is on disk."""
    config = {} if server_kind == "postgres" else {"appendonly": "yes", "appendfsync": "always"}
    with servers.start(server_kind, config) as server:
        yield server


def test_killed_under_load(own_server: Server, name: str, opened: Callable[..., Queue]) -> None:
    """
    Clients come back by themselves and raise nothing; nothing acknowledged is lost, nothing is done twice, 200 jobs
    get through within five seconds of the server's return, and a dequeue that was blocked wakes.
    """
    queue = opened(own_server.url, lease_s=60.0)
    idle = opened(own_server.url, name=f"{name}-idle")
    blocked = Running(idle.dequeue, None)
    with Load(queue) as load:
        for _ in range(2):
            load.await_done(200)
            own_server.kill()
            own_server.start()
            load.await_done(200, within_s=5.0)

            job = idle.enqueue(Job(type="faults"))
            lease = blocked.result(within_s=5.0)
            assert lease is not None
            assert lease.job.id == job.id
            idle.ack(lease)
            blocked = Running(idle.dequeue, None)
        load.finish()

    assert load.judge().told() == []
    # No reply was lost for good: nobody had to wait for a lease to expire.
    assert {attempt.number for attempt in load.done} == {1}
    idle.close()
    assert blocked.result(within_s=5.0) is None
    assert not read_layout(own_server, name).problems


def test_stopped_and_started_in_peace(own_server: Server, name: str, opened: Callable[..., Queue]) -> None:
    """An orderly restart, as for an upgrade, is no different."""
    queue = opened(own_server.url, lease_s=60.0)
    with Load(queue) as load:
        load.await_done(100)
        own_server.stop()
        own_server.start()
        load.await_done(200, within_s=5.0)
        load.finish()

    assert load.judge().told() == []


def test_jobs_in_every_state_outlive_a_kill(own_server: Server, name: str, opened: Callable[..., Queue]) -> None:
    """Places, leases, dead letters, the pause and the totals are all as they were."""
    queue = opened(own_server.url, lease_s=60.0)
    queue.enqueue_many(Job(type="faults", id=f"job-{n}", priority=n) for n in range(6))
    held, failed, acked = queue.dequeue_many(3, timeout=0)
    queue.nack(failed, "an error", dead=True)
    queue.ack(acked)
    queue.cancel("job-0")
    queue.enqueue(Job(type="faults", id="later", delay=600))
    queue.pause()
    before = queue.counts()

    own_server.kill()
    own_server.start()

    assert before == queue.counts()
    assert queue.dequeue(timeout=0) is None
    queue.resume()
    assert [lease.job.id for lease in queue.dequeue_many(9, timeout=0)] == ["job-2", "job-1"]
    queue.ack(held)
    assert [letter.error for letter in queue.dead_letters()] == ["an error"]
    assert queue.find(["later", "job-0", "job-4"]) == {"later": "scheduled", "job-0": "cancelled", "job-4": "dead"}


def pause_under_load(server: Server, name: str, opened: Callable[..., Queue], pause_s: float) -> None:
    queue = opened(server.url, lease_s=60.0)
    with Load(queue) as load:
        load.await_done(100)
        server.pause()
        try:
            # The fault itself: long enough for every client to give up its connection, and to try new ones.
            threading.Event().wait(pause_s)
            load.check()
        finally:
            server.resume()
        load.await_done(200, within_s=10.0)
        load.finish()

    # What stood in the sockets of the server was carried out when it went on, and again by the repeats.
    assert load.judge().told() == []
    assert not read_layout(server, name).problems


def test_paused_for_longer_than_a_reply_may_take(
    server: Server, name: str, opened: Callable[..., Queue], set_reply_time: Callable[[float], None]
) -> None:
    """Calls that a stopped server answers too late are made again and take effect once."""
    set_reply_time(1.0)

    pause_under_load(server, name, opened, 1.5)


@pytest.mark.full
def test_paused_for_longer_than_a_reply_really_may_take(
    server: Server, name: str, opened: Callable[..., Queue]
) -> None:
    """The same with the time that clients give a server in earnest."""
    pause_under_load(server, name, opened, 1.5 * sessions.REPLY_S)


def test_close_needs_no_server(server: Server, opened: Callable[..., Queue]) -> None:
    """While the server stands still, `close` and the dequeue that it ends return at once."""
    queue = opened(server.url)
    blocked = Running(queue.dequeue, None)
    try:
        while True:
            until(lambda: queue._sessions._waiting, "a dequeue that waits")  # type: ignore[attr-defined]
            server.pause()
            # Between two waits a dequeue looks for jobs; such a look must wait for its reply, lest leases are lost.
            if queue._sessions._waiting:  # type: ignore[attr-defined]
                break
            server.resume()

        Running(queue.close).result(within_s=AT_ONCE_S)

        assert blocked.result(within_s=AT_ONCE_S) is None
    finally:
        server.resume()


def test_close_ends_a_dequeue_that_looks_for_its_server(own_server: Server, opened: Callable[..., Queue]) -> None:
    """A dequeue that has been reconnecting for a while returns nothing, and does not wait for the bound."""
    queue = opened(own_server.url)
    blocked = Running(queue.dequeue, None)
    until(lambda: queue._sessions._waiting, "a dequeue that waits")  # type: ignore[attr-defined]
    own_server.kill()
    until(lambda: not queue._sessions._waiting and not queue._sessions._idle, "a dequeue that reconnects")  # type: ignore[attr-defined]
    assert not blocked.done

    Running(queue.close).result(within_s=AT_ONCE_S)

    assert blocked.result(within_s=AT_ONCE_S) is None
