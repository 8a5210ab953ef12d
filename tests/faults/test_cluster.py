"""A cluster of three masters on loopback: queues spread over it, and a slot that moves while its queue is in use."""

import contextlib
from collections.abc import Callable, Iterator

import pytest
import redis
from redis.crc import key_slot

from allocator import Job, LeaseLost, Nack
from allocator.queue.base import Queue
from allocator.services import Server
from tests.faults import servers
from tests.faults.layout import redis_layout
from tests.faults.load import Load
from tests.faults.running import until

pytestmark = pytest.mark.faults

SLOTS = 16384


class Cluster:
    """Three masters, each with a third of the slots."""

    def __init__(self, nodes: list[Server], clients: "list[redis.Redis[bytes]]") -> None:
        self.nodes = nodes
        self.clients = clients
        self.ports = [int(node.url.rpartition(":")[2].partition("/")[0]) for node in nodes]
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in self.ports)
        self.ids = [client.execute_command("CLUSTER MYID").decode() for client in clients]

    def form(self) -> None:
        """Assign the slots, introduce the nodes, and wait until all agree."""
        for index, client in enumerate(self.clients):
            slots = range(index * SLOTS // 3, (index + 1) * SLOTS // 3)
            # One by one in the command, because ADDSLOTSRANGE came with 7.0.
            client.execute_command("CLUSTER ADDSLOTS", *slots)
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", index + 1)
        for port in self.ports[1:]:
            self.clients[0].execute_command("CLUSTER MEET", "127.0.0.1", port)
        until(self._agrees, "a cluster that is formed")

    def _agrees(self) -> bool:
        for client in self.clients:
            info = client.execute_command("CLUSTER INFO")
            state = info if isinstance(info, dict) else dict(line.split(":") for line in info.decode().split())
            if state["cluster_state"] != "ok" or state["cluster_known_nodes"] != "3":
                return False
        return True

    def owner(self, slot: int) -> int:
        """The index of the node that serves a slot."""
        for first, last, master, *_ in self.clients[0].execute_command("CLUSTER SLOTS", keys_only=True) or []:
            if first <= slot <= last:
                return self.ports.index(master[1])
        raise AssertionError(f"nobody owns slot {slot}")

    def move(self, slot: int, source: int, target: int) -> int:
        """Move a slot as an operator does, key by key; returns how many keys went over."""
        moved = 0
        self.clients[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", self.ids[source])
        self.clients[source].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", self.ids[target])
        while keys := self.clients[source].execute_command("CLUSTER GETKEYSINSLOT", slot, 2):
            reply = self.clients[source].execute_command(
                "MIGRATE", "127.0.0.1", self.ports[target], "", 0, 5000, "KEYS", *keys
            )
            moved += len(keys) if reply == b"OK" else 0
        for index in (target, source, 3 - source - target):
            self.clients[index].execute_command("CLUSTER SETSLOT", slot, "NODE", self.ids[target])
        return moved


@pytest.fixture(scope="module")
def cluster_of() -> Iterator[Callable[[str], Cluster]]:
    with contextlib.ExitStack() as stack:
        formed: dict[str, Cluster] = {}

        def get(kind: str) -> Cluster:
            if kind not in formed:
                config = {"cluster-enabled": "yes", "cluster-node-timeout": "2000", "appendonly": "no"}
                nodes = [stack.enter_context(servers.start(kind, config)) for _ in range(3)]
                formed[kind] = Cluster(nodes, [stack.enter_context(servers.raw_redis(node)) for node in nodes])
                formed[kind].form()
            return formed[kind]

        yield get


@pytest.fixture
def cluster(redis_kind: str, cluster_of: Callable[[str], Cluster]) -> Cluster:
    return cluster_of(redis_kind)


def slot_of(name: str) -> int:
    return key_slot(f"allocator:{{{name}}}:".encode())


def live(queue: Queue) -> None:
    """Jobs of one queue through every state and operation."""
    queue.enqueue_many(Job(type="faults", id=f"job-{n}", priority=-n) for n in range(5))
    queue.enqueue(Job(type="faults", id="later", delay=600))
    first, second, third = queue.dequeue_many(3, timeout=1)
    assert [lease.job.id for lease in (first, second, third)] == ["job-0", "job-1", "job-2"]
    queue.extend(first)
    lost = queue.settle(acks=[first], nacks=[Nack(second, "an error", dead=True)], releases=[third])
    assert lost == []
    with pytest.raises(LeaseLost):
        queue.ack(first)
    assert queue.cancel("job-4")
    assert [letter.job.id for letter in queue.dead_letters()] == ["job-1"]
    assert [letter.job.id for letter in queue.dead_letters(after="job-1")] == []
    assert queue.requeue_dead(all=True) == 1
    queue.pause()
    queue.resume()
    queue.settle(acks=queue.dequeue_many(10, timeout=1))
    assert queue.dequeue(timeout=0.01) is None
    assert queue.find(["later", "job-4"]) == {"later": "scheduled", "job-4": "cancelled"}
    counts = {"ready": 0, "scheduled": 1, "leased": 0, "dead": 0, "done": 4, "cancelled": 1, "purged": 0}
    assert queue.counts() == counts


def test_queues_all_over_the_cluster(cluster: Cluster, name: str, opened: Callable[..., Queue]) -> None:
    """The life of jobs is the same wherever a queue's slot is; no script reaches across nodes."""
    names = [f"{name}-{n}" for n in range(20)]

    for each in names:
        with opened(cluster.url, name=each) as queue:
            live(queue)

    assert {cluster.owner(slot_of(each)) for each in names} == {0, 1, 2}
    for each in names:
        assert not redis_layout(cluster.clients[cluster.owner(slot_of(each))], each).problems


def test_a_slot_moves_under_load(cluster: Cluster, name: str, opened: Callable[..., Queue]) -> None:
    """To and fro, key by key, while jobs go through: callers wait a little, and nothing is lost or done twice."""
    queue = opened(cluster.url, lease_s=60.0)
    slot = slot_of(name)
    source = cluster.owner(slot)
    target = (source + 1) % 3
    with Load(queue) as load:
        load.await_done(200)
        moved = cluster.move(slot, source, target)
        load.await_done(200)
        moved_back = cluster.move(slot, target, source)
        load.await_done(200)
        load.finish()

    assert min(moved, moved_back) > 3
    assert load.judge().told() == []
    assert not redis_layout(cluster.clients[source], name).problems
    assert cluster.clients[target].execute_command("CLUSTER COUNTKEYSINSLOT", slot) == 0
