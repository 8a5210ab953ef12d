"""Clients killed with -9 at any instant: nothing accepted is lost, nothing is in two places, nothing half done."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from allocator import Job
from allocator.queue.base import Queue
from allocator.services import Server
from tests.faults.checker import History, Layout, judge, read_layout
from tests.faults.killed_client import BACKOFF, LEASE_S
from tests.faults.servers import raw_redis

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]


def kill_clients(server: Server, name: str, folder: Path, first_seed: int, count: int) -> History:
    """The history of `count` clients, each killed at an instant that its seed decides."""
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
    history = History(folder / f"{fate['seed']}.log" for fate in fates)
    assert not history.errors
    assert [first_seed + n for n in range(count)] == sorted(fate["seed"] for fate in fates if fate["killed"])
    return history


def drain(queue: Queue, within_s: float = 30.0) -> None:
    """Ack everything that waits, or will once its lease has run out."""
    deadline = time.monotonic() + within_s
    while (counts := queue.counts())["ready"] + counts["scheduled"] + counts["leased"]:
        assert time.monotonic() < deadline, f"does not drain: {counts}"
        queue.settle(acks=queue.dequeue_many(100, timeout=0.2))


def check_killing(
    server: Server, name: str, folder: Path, opened: Callable[..., Queue], first_seed: int, count: int
) -> None:
    history = kill_clients(server, name, folder, first_seed, count)
    queue = opened(server.url, lease_s=LEASE_S, backoff=BACKOFF)

    layout, counts = read_layout(server, name), queue.counts()
    problems = judge(history, layout, counts, queue.find)

    assert not problems
    # Otherwise the kills have missed what they are for.
    assert len(history.unknown) > count / 4
    assert len({call.op for call in history.unknown}) > 3
    drain(queue)
    drained = read_layout(server, name)
    assert not drained.problems
    assert set(drained.counts()) <= {"dead"}
    assert sum(counts.values()) == sum(queue.counts().values())


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


ENQUEUE = {"call": 1, "op": "enqueue", "jobs": [["a", "1.1"]]}
ACCEPTED = {"call": 1, "outcome": {"stored": [["a", "1.1"]]}}
ACK = {"call": 2, "op": "settle", "acks": [["a", "token"]], "others": []}
ACKED = {"call": 2, "outcome": {"lost": []}}
LIST = {"call": 1, "op": "enqueue_many", "jobs": [["job-1.1", "1.1"], ["job-1.2", "1.2"]]}


@pytest.mark.parametrize(
    ("log", "present", "complaint"),
    [
        pytest.param([ENQUEUE, ACCEPTED], {"a": "1.1"}, "", id="all is well"),
        pytest.param([ENQUEUE], {}, "", id="unknown and absent"),
        pytest.param([ENQUEUE], {"a": "1.1"}, "", id="unknown and present"),
        pytest.param([ENQUEUE, ACCEPTED, ACK], {}, "", id="ack unknown"),
        pytest.param([ENQUEUE, ACCEPTED], {}, "a is lost", id="lost"),
        pytest.param([ENQUEUE, ACCEPTED], {"a": "1.1", "b": "2.2"}, "b is invented", id="invented"),
        pytest.param([ENQUEUE, ACCEPTED, ACK, ACKED], {"a": "1.1"}, "a is invented or doubled", id="doubled"),
        pytest.param([ENQUEUE, ACCEPTED], {"a": "9.9"}, "payload of nobody", id="another payload"),
        pytest.param([LIST], {"job-1.1": "1.1"}, "in part", id="half a list"),
    ],
)
def test_the_checker_compares_with_what_clients_saw(
    log: list[dict[str, Any]], present: dict[str, str], complaint: str, tmp_path: Path
) -> None:
    """A control: what is lost, invented or half done is told from the logs, and what a kill explains is not."""
    (tmp_path / "1.log").write_text("".join(json.dumps(line) + "\n" for line in log))
    history = History([tmp_path / "1.log"])
    layout = Layout({job_id: ["ready"] for job_id in present}, dict(present), [])
    done = 1 if ACK in log else 0
    counts = {"ready": len(present), "scheduled": 0, "leased": 0, "dead": 0, "done": done, "cancelled": 0, "purged": 0}

    problems = judge(history, layout, counts, lambda ids: {job_id: "ready" for job_id in ids if job_id in present})

    assert any(complaint in problem for problem in problems) if complaint else not problems
