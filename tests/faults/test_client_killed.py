"""Clients killed with -9 at any instant: nothing accepted is lost, nothing is in two places, nothing half done."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from math import nan
from pathlib import Path
from typing import Any

import pytest

from allocator import Job
from allocator.bench.checker import History, Layout, Promise, check
from allocator.queue.base import Queue
from allocator.services import Server
from tests.faults.killed_client import BACKOFF, LEASE_S
from tests.faults.layout import read_layout
from tests.faults.logs import Logs
from tests.faults.servers import raw_redis

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]


def kill_clients(server: Server, name: str, folder: Path, first_seed: int, count: int) -> Logs:
    """The logs of `count` clients, each killed at an instant that its seed decides."""
    arguments = [server.url, name, str(folder), str(first_seed), str(count)]
    program = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.killed_client", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = program.communicate(timeout=60 + count)
    finally:
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)
            program.wait()
    fates = [json.loads(line) for line in output.splitlines()]
    logs = Logs(folder / f"{fate['seed']}.log" for fate in fates)
    assert not logs.errors
    assert [first_seed + n for n in range(count)] == sorted(fate["seed"] for fate in fates if fate["killed"])
    return logs


def drain(queue: Queue, within_s: float = 30.0) -> int:
    """Ack everything that waits, or will once its lease has run out; gives how much is left when the time is over."""
    deadline = time.monotonic() + within_s
    while True:
        counts = queue.counts()
        left = counts["ready"] + counts["scheduled"] + counts["leased"]
        if not left or time.monotonic() >= deadline:
            return left
        queue.settle(acks=queue.dequeue_many(100, timeout=0.2))


def check_killing(
    server: Server, name: str, folder: Path, opened: Callable[..., Queue], first_seed: int, count: int
) -> None:
    logs = kill_clients(server, name, folder, first_seed, count)
    queue = opened(server.url, lease_s=LEASE_S, backoff=BACKOFF)
    history = at_rest(logs, read_layout(server, name), queue)
    history.left = drain(queue)
    # There is neither a store, nor a body that tells of itself, nor a worker that could be asked to stop.
    beyond = {Promise.EXPLAINED, Promise.TRANSITIONS, Promise.GRACEFUL}
    if server.name == "postgres":
        # A job that must come alone has its neighbours locked meanwhile, and whoever comes then passes them over.
        for attempt in history.attempts or ():
            attempt.asked_at = nan
        beyond.add(Promise.ORDER)

    judgement = check(history)

    assert judgement.told() == []
    # Budgets are not known once somebody has put back all dead letters.
    assert set(judgement.not_judged()) - {Promise.RETRIED} == beyond
    # Otherwise the kills have missed what they are for.
    assert len(logs.unknown) > count / 4
    assert len({call.op for call in logs.unknown}) > 3
    drained = read_layout(server, name)
    assert not drained.problems
    assert {place for places in drained.places.values() for place in places} <= {"dead"}
    assert history.counts is not None
    assert sum(history.counts.values()) == sum(queue.counts().values())


def at_rest(logs: Logs, layout: Layout, queue: Queue) -> History:
    """What the logs tell, and what the queue holds and tells now that no client runs."""
    history = logs.history(BACKOFF)
    history.layout, history.counts = layout, queue.counts()
    found = queue.find(sorted({enqueue.job for enqueue in history.enqueues}))
    history.found = {job: str(state) for job, state in found.items()}
    return history


def test_forty_killed_clients(server: Server, name: str, tmp_path: Path, opened: Callable[..., Queue]) -> None:
    """Every job is where its history says, and what waits or was leased can be done afterwards."""
    check_killing(server, name, tmp_path, opened, 0, 40)


@pytest.mark.full
@pytest.mark.parametrize("batch", range(10))
def test_two_thousand_killed_clients(
    server: Server, name: str, tmp_path: Path, opened: Callable[..., Queue], batch: int
) -> None:
    """As with forty; zero failures in 2,000 bound their rate at 3 in 2,000, with 95 % confidence."""
    check_killing(server, name, tmp_path, opened, 1000 + 200 * batch, 200)


DAMAGES = {
    "a lost record": ("HDEL", "jobs", "first"),
    "a lost place": ("ZREM", "ready", "{member}"),
    "two places": ("ZADD", "leased", "1", "first"),
    "a record of nobody": ("HSET", "dead:jobs", "stranger", "1 0 0 0 0\n{{}}"),
    "attempts of nobody": ("RPUSH", "attempts:stranger", "1"),
    "a key of nobody": ("SET", "stray", "1"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_checker_sees(damage: str, redis_server: Server, name: str, opened: Callable[..., Queue]) -> None:
    """A control: with one thing out of place on purpose, the checker says so."""
    queue = opened(redis_server.url)
    queue.enqueue_many(Job(type="faults", id=job_id) for job_id in ("first", "second"))
    before = read_layout(redis_server, name)
    prefix = f"allocator:{{{name}}}:"
    with raw_redis(redis_server) as client:
        member = client.zrange(prefix + "ready", 0, 0)[0].decode()
        command, key, *arguments = DAMAGES[damage]
        client.execute_command(command, prefix + key, *(argument.format(member=member) for argument in arguments))

    after = read_layout(redis_server, name)

    assert not before.problems
    assert after.problems


ENQUEUE = {"at": 1.0, "call": 1, "op": "enqueue", "jobs": [["a", "1.1", 0, 3, 0.0]]}
ACCEPTED = {"at": 1.1, "call": 1, "outcome": {"stored": [["a", "1.1"]]}}
DEQUEUE = {"at": 2.0, "call": 2, "op": "dequeue_many", "limit": 1}
LEASED = {"at": 2.1, "call": 2, "outcome": {"leased": [["a", "token", 1, 2.0, 3.0, 1.0]]}}
ACK = {"at": 2.2, "call": 3, "op": "settle", "ends": [["token", "done", None]]}
ACKED = {"at": 2.3, "call": 3, "outcome": {"lost": []}}
LIST = {"at": 1.0, "call": 1, "op": "enqueue_many", "jobs": [["b", "1.1", 0, 3, 0.0], ["c", "1.2", 0, 3, 0.0]]}
KNOWN = [ENQUEUE, ACCEPTED, DEQUEUE, LEASED]


@pytest.mark.parametrize(
    ("log", "present", "broken"),
    [
        pytest.param([ENQUEUE, ACCEPTED], {"a": "1.1"}, [], id="all is well"),
        pytest.param([ENQUEUE], {}, [], id="unknown and absent"),
        pytest.param([ENQUEUE], {"a": "1.1"}, [], id="unknown and present"),
        pytest.param([*KNOWN, ACK], {}, [], id="ack unknown"),
        pytest.param([ENQUEUE, ACCEPTED], {}, [Promise.LOST], id="lost"),
        pytest.param([ENQUEUE, ACCEPTED], {"a": "1.1", "b": "2.2"}, [Promise.INVENTED], id="invented"),
        pytest.param([*KNOWN, ACK, ACKED], {"a": "1.1"}, [Promise.ONCE], id="doubled"),
        pytest.param([ENQUEUE, ACCEPTED], {"a": "9.9"}, [Promise.INVENTED], id="another payload"),
        pytest.param([LIST], {"b": "1.1"}, [Promise.ONCE], id="half a list"),
    ],
)
def test_the_logs_tell_the_checker_what_clients_saw(
    log: list[dict[str, Any]], present: dict[str, str], broken: list[Promise], tmp_path: Path
) -> None:
    """A control: what is lost, invented or half done is told from the logs, and what a kill explains is not."""
    (tmp_path / "1.log").write_text("".join(json.dumps(line) + "\n" for line in log))
    history = Logs([tmp_path / "1.log"]).history(BACKOFF)
    history.layout = Layout({job_id: ["ready"] for job_id in present}, dict(present))

    assert check(history).broken() == broken
