"""
Controls: what is broken on purpose, on real servers, and must be caught by the checker under its name.

Those that are built into workers are shown in `tests/bench/test_chaos.py`.
"""

import hashlib
import itertools
import secrets
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from allocator import Job
from allocator.bench.chaos.sabotage import BUGS
from allocator.bench.checker import Attempt, Enqueue, History, Judgement, check
from allocator.bench.checker.controls import CONTROLS
from allocator.bench.proxy import Fault, Proxy
from allocator.queue.base import Queue
from allocator.queue.redis import backend
from allocator.queue.redis.connecting import Script
from allocator.queue.sessions import Sessions
from allocator.services import Server
from tests.faults import servers
from tests.faults.test_cluster import Cluster, cluster, cluster_of

pytestmark = pytest.mark.faults

__all__ = ["cluster", "cluster_of"]

SHOWN_HERE = {
    "none: everything lost",
    "synchronous_commit=off",
    "repeated enqueue without a call number",
    "cross-slot script",
}


def test_every_control_is_shown() -> None:
    """Those of the table, each here or in workers, none twice."""
    in_workers = {bug.control.name for bug in BUGS.values()}

    assert in_workers | SHOWN_HERE == set(CONTROLS)
    assert not in_workers & SHOWN_HERE


def caught(control: str, judgement: Judgement) -> bool:
    """Whether a promise is broken that must be, and says by what."""
    return any(judgement[promise].witness for promise in CONTROLS[control].caught_by & set(judgement.broken()))


def enqueue_all(queue: Queue, count: int = 500) -> list[Enqueue]:
    """Jobs one by one, each acknowledged before the next is sent."""
    return [Enqueue(queue.enqueue(Job(type="faults", id=f"job-{n}")).id) for n in range(count)]


def after_a_kill(server: Server, queue: Queue) -> Judgement:
    """Of jobs that were accepted just before the server was killed, and of nothing else."""
    enqueues = enqueue_all(queue)
    server.kill()
    server.start()
    return check(History(enqueues, attempts=[], found=states(queue, enqueues)))


def states(queue: Queue, enqueues: Iterable[Enqueue]) -> dict[str, str]:
    return {job: str(state) for job, state in queue.find([enqueue.job for enqueue in enqueues]).items()}


@pytest.mark.full
@pytest.mark.parametrize(("appendonly", "loses"), [("no", True), ("yes", False)], ids=["none", "always"])
def test_redis_that_keeps_nothing_is_caught(
    appendonly: str, loses: bool, redis_kind: str, opened: Callable[..., Queue]
) -> None:
    """Every job is lost with its memory; the same server that writes down everything loses none."""
    config = {"appendonly": appendonly, "appendfsync": "always"}
    with servers.start(redis_kind, config) as server, opened(server.url) as queue:
        judgement = after_a_kill(server, queue)

    assert caught("none: everything lost", judgement) == loses
    assert sum(verdict.count for verdict in judgement.verdicts.values()) == (500 if loses else 0)


@pytest.mark.full
@pytest.mark.postgres
@pytest.mark.service
@pytest.mark.parametrize(("setting", "loses"), [("off", True), ("on", False)])
def test_postgres_that_does_not_wait_for_its_disk_is_caught(
    setting: str, loses: bool, opened: Callable[..., Queue]
) -> None:
    """The last jobs are lost with what was not written; with the setting that is the default, none."""
    # As long as may be, so that a kill finds something.
    config = {"synchronous_commit": setting, "wal_writer_delay": "10s"}
    with servers.start("postgres", config) as server, opened(server.url) as queue:
        judgement = after_a_kill(server, queue)

    assert caught("synchronous_commit=off", judgement) == loses
    assert loses or judgement.told() == []


@pytest.fixture
def no_call_numbers(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes every try of a call look like one of another client."""
    original = Sessions.call

    def call(self: Any, operation: Any, **options: Any) -> Any:
        def renamed(session: Any) -> Any:
            session.client_id = secrets.token_hex(8)
            return operation(session)

        return original(self, renamed, **options)

    return lambda: monkeypatch.setattr(Sessions, "call", call)


@pytest.mark.full
@pytest.mark.parametrize("has_numbers", [False, True], ids=["without", "with"])
def test_an_enqueue_that_is_repeated_without_a_number_is_caught(
    has_numbers: bool, server: Server, name: str, opened: Callable[..., Queue], no_call_numbers: Callable[[], None]
) -> None:
    """The reply is lost and the job done before the repeat comes: then there it is again, or, with numbers, is not."""
    if not has_numbers:
        no_call_numbers()
    attempts: list[Attempt] = []
    with Proxy(server.url) as proxy, opened(proxy.url) as queue, opened(server.url) as other:

        def do_it() -> None:
            leases = other.dequeue_many(10, timeout=0)
            assert other.settle(acks=leases) == []
            attempts.extend(Attempt(lease.job.id, lease.token, "done", lease.attempt) for lease in leases)

        # Redis learns the script by this one, and does not ask for it when the fault strikes.
        enqueues = enqueue_all(other, 1)
        proxy.arm(Fault.REPLY_LOST, then=do_it)
        enqueues.append(Enqueue(queue.enqueue(Job(type="faults", id="job")).id))
        judgement = check(History(enqueues, attempts=attempts, found=states(other, enqueues)))

    assert len(attempts) == 2
    assert caught("repeated enqueue without a call number", judgement) != has_numbers
    assert not has_numbers or judgement.told() == []


def _key_on_another_node(queue: Queue) -> str:
    """Half of all slots away: of three nodes none has both."""
    opposite = (key_slot(f"{{{queue.name}}}".encode()) + REDIS_CLUSTER_HASH_SLOTS // 2) % REDIS_CLUSTER_HASH_SLOTS
    keys = (f"allocator:{{elsewhere-{number}}}:leased" for number in itertools.count())
    return next(key for key in keys if abs(key_slot(key.encode()) - opposite) < REDIS_CLUSTER_HASH_SLOTS // 20)


@pytest.mark.full
@pytest.mark.parametrize("crosses", [True, False])
def test_a_script_that_crosses_slots_is_caught(
    crosses: bool, cluster: Cluster, opened: Callable[..., Queue], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a key outside of the queue's hash tag a script is refused, and what was accepted is never done."""
    with opened(cluster.url) as queue:
        enqueues = enqueue_all(queue, 20)
        if crosses:
            source = backend._SCRIPTS["dequeue"].source.replace("P .. 'leased'", f"'{_key_on_another_node(queue)}'")
            assert "elsewhere" in source
            script = Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())
            monkeypatch.setitem(backend._SCRIPTS, "dequeue", script)
        attempts: list[Attempt] = []
        if crosses:
            with pytest.raises(Exception, match="non local key"):
                queue.dequeue_many(20, timeout=0)
        else:
            leases = queue.dequeue_many(20, timeout=0)
            assert queue.settle(acks=leases) == []
            attempts = [Attempt(lease.job.id, lease.token, "done", lease.attempt) for lease in leases]
        left = queue.size() + queue.counts()["leased"]
        judgement = check(History(enqueues, attempts=attempts, found=states(queue, enqueues), left=left))

    assert caught("cross-slot script", judgement) == crosses
    assert crosses or judgement.told() == []
