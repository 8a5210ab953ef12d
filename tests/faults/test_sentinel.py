"""A master, a replica and three Sentinels on loopback: the master dies, and clients follow to the replica."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from allocator import Job
from allocator.bench.checker import Promise, check
from allocator.queue.base import Queue
from allocator.services import Server, free_port, open_server, redis_answers
from tests.faults import servers
from tests.faults.layout import redis_layout
from tests.faults.load import Load
from tests.faults.running import until

pytestmark = pytest.mark.faults

SERVICE = "faults"


def port_of(server: Server) -> int:
    return int(server.url.rpartition(":")[2].partition("/")[0])


class Watched:
    """The servers, and the URL that names the service."""

    def __init__(self, master: Server, replica: Server, sentinels: list[int]) -> None:
        self.master = master
        self.replica = replica
        hosts = ",".join(f"127.0.0.1:{port}" for port in sentinels)
        self.url = f"redis+sentinel://{hosts}/{SERVICE}"


@pytest.fixture
def watched(redis_kind: str, tmp_path: Path) -> Iterator[Watched]:
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(servers.start(redis_kind))
        config = {"replicaof": f"127.0.0.1 {port_of(master)}", "repl-diskless-sync-delay": "0"}
        replica = stack.enter_context(servers.start(redis_kind, config))
        with servers.raw_redis(replica) as client:
            until(lambda: client.info("replication")["master_link_status"] == "up", "a replica that is linked")
        ports = [free_port() for _ in range(3)]
        for index, port in enumerate(ports):
            stack.enter_context(start_sentinel(master, port, tmp_path / f"sentinel-{index}"))
        for port in ports:
            with contextlib.closing(sentinel_client(port)) as client:
                until(lambda client=client: knows_all(client), "Sentinels that know of each other")
        yield Watched(master, replica, ports)


def start_sentinel(master: Server, port: int, folder: Path) -> Server:
    """One that takes a master for dead after half a second, if another one agrees."""
    folder.mkdir()
    config = folder / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor {SERVICE} 127.0.0.1 {port_of(master)} 2\n"
        f"sentinel down-after-milliseconds {SERVICE} 500\n"
        f"sentinel failover-timeout {SERVICE} 5000\n"
    )
    return open_server(
        [str(master.binary), str(config), "--sentinel"],
        port=port,
        name="sentinel",
        data_dir=folder,
        answers=lambda _pid: redis_answers(port),
    )


def sentinel_client(port: int) -> "redis.Redis[bytes]":
    return redis.Redis(port=port)


def knows_all(client: "redis.Redis[bytes]") -> bool:
    state = client.sentinel_master(SERVICE)
    return bool(state["num-other-sentinels"] == 2 and state["num-slaves"] == 1)


def test_fail_over_under_load(
    watched: Watched, name: str, opened: Callable[..., Queue], record_property: Callable[[str, object], None]
) -> None:
    """
    Clients follow by themselves and raise nothing. What had reached the replica is there; what had not is lost, is
    counted, and was accepted in the last moment before the kill. Nothing is in two states.
    """
    queue = opened(watched.url, lease_s=1.0)
    kept = [queue.enqueue(Job(type="kept", id=f"kept-{n}", delay=3600)).id for n in range(50)]
    with servers.raw_redis(watched.master) as client:
        # Replication keeps the order, so what was written before this is on the replica too.
        client.set("marker", "1")
        assert client.execute_command("WAIT", 1, 10_000) == 1

    with Load(queue) as load:
        load.await_done(300)
        killed_at = time.time()
        watched.master.kill()
        load.await_done(300, within_s=25.0)
        load.finish()

    # The jobs that are kept are not of the load.
    history = load.history()
    history.counts = history.left = None
    judgement = check(history)
    lost, doubled = judgement[Promise.LOST].count, judgement[Promise.ONCE].count
    record_property("lost_by_fail_over", lost)
    record_property("repeated_by_fail_over", doubled)
    print(f"fail-over: {len(load.accepted)} accepted, {lost} lost, {doubled} done twice")
    with servers.raw_redis(watched.replica) as client:
        assert client.info("replication")["role"] == "master"
        assert not redis_layout(client, name).problems
    assert queue.find(kept) == dict.fromkeys(kept, "scheduled")
    # A replica on loopback is milliseconds behind; a second is generous.
    replicated = load.history(before=killed_at - 1.0)
    replicated.counts = replicated.left = None
    assert check(replicated)[Promise.LOST].witness == ""
    assert lost + doubled < len(load.accepted) / 10
    assert queue.counts()["dead"] == 0
