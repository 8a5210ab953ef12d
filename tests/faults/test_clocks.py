"""Clients whose clocks are an hour apart, on one queue: only the server's clock counts."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from allocator.services import Server
from tests.faults.running import Running

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]
HOUR_S = 3600.0
LEASE_S = 1.0
DELAY_S = 0.4


class Remote:
    """A client in a process of its own, whose clocks were shifted before it imported anything."""

    def __init__(self, url: str, shift_s: float) -> None:
        # The warning is about the shifted class, when something compiled is imported.
        arguments = ["-W", "ignore::RuntimeWarning", "-m", "tests.faults.shifted_client", url, str(shift_s)]
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def ask(self, verb: str, *arguments: Any) -> Any:
        """What the client's queue replies; an error of its as {"error": its class}."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([verb, *arguments]) + "\n")
        self._process.stdin.flush()
        return json.loads(Running(self._process.stdout.readline).result(30))

    def close(self) -> None:
        with self._process:
            os.killpg(self._process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def started() -> Iterator[Callable[[str], dict[str, Remote]]]:
    """Clients of a server: one with the right time, one an hour ahead, one an hour behind."""
    remotes: dict[str, dict[str, Remote]] = {}

    def get(url: str) -> dict[str, Remote]:
        if url not in remotes:
            shifts = {"right": 0.0, "ahead": HOUR_S, "behind": -HOUR_S}
            remotes[url] = {who: Remote(url, shift_s) for who, shift_s in shifts.items()}
        return remotes[url]

    yield get
    for clients in remotes.values():
        for remote in clients.values():
            remote.close()


@pytest.fixture
def clients(server: Server, name: str, started: Callable[[str], dict[str, Remote]]) -> dict[str, Remote]:
    """All three, on this test's queue."""
    remotes = started(server.url)
    for remote in remotes.values():
        remote.ask("open", name, LEASE_S)
    return remotes


def everyone(clients: dict[str, Remote], *request: Any) -> Any:
    """What all clients answer, which must be the same."""
    answers = {who: remote.ask(*request) for who, remote in clients.items()}
    values = list(answers.values())
    assert all(value == values[0] for value in values), answers
    return values[0]


def test_their_clocks_are_shifted(clients: dict[str, Remote]) -> None:
    """A control of the harness: the processes do disagree about the time, whichever way they ask."""
    for who, shift in (("right", 0.0), ("ahead", HOUR_S), ("behind", -HOUR_S)):
        for instant in clients[who].ask("clocks"):
            assert abs(instant - time.time() - shift) < 60


@pytest.mark.parametrize(("sender", "taker"), [("ahead", "right"), ("right", "ahead"), ("behind", "ahead")])
def test_a_delayed_job_is_due_for_all_at_once(sender: str, taker: str, clients: dict[str, Remote]) -> None:
    """Neither at once nor an hour late; all agree on where it is, and when it was accepted."""
    for n in range(10):
        job_id = f"later-{n}"
        enqueued_at = clients[sender].ask("enqueue", job_id, DELAY_S)["enqueued_at"]
        early = [remote.ask("dequeue", 0) for remote in clients.values()]
        if time.time() < enqueued_at + DELAY_S:
            break
    else:
        pytest.fail(f"this machine is too slow to ask three clients within {DELAY_S:g} s")

    lease = clients[taker].ask("dequeue", 10)

    assert early == [None, None, None]
    assert lease["id"] == job_id
    assert abs(enqueued_at - time.time()) < 60
    assert lease["due_at"] == pytest.approx(enqueued_at + DELAY_S, abs=1e-3)
    assert lease["due_at"] <= lease["leased_at"] < lease["due_at"] + 5
    assert lease["expires_at"] == pytest.approx(lease["leased_at"] + LEASE_S, abs=1e-3)
    assert everyone(clients, "find", [job_id]) == {job_id: "leased"}


def test_all_agree_on_what_waits(clients: dict[str, Remote]) -> None:
    """Counts and states are the server's."""
    clients["ahead"].ask("enqueue", "now", 0)
    clients["behind"].ask("enqueue", "in-half-an-hour", 1800)
    clients["right"].ask("enqueue", "in-two-hours", 7200)

    counts = everyone(clients, "counts")

    assert (counts["ready"], counts["scheduled"]) == (1, 2)
    assert everyone(clients, "find", ["now", "in-half-an-hour", "in-two-hours"]) == {
        "now": "ready",
        "in-half-an-hour": "scheduled",
        "in-two-hours": "scheduled",
    }


@pytest.mark.parametrize(("holder", "other"), [("behind", "ahead"), ("ahead", "behind")])
def test_a_lease_runs_out_by_the_servers_clock(holder: str, other: str, clients: dict[str, Remote]) -> None:
    """A client that is ahead takes nobody's lease early, and one that is behind keeps none too long."""
    clients["right"].ask("enqueue", "job", 0)
    first = clients[holder].ask("dequeue", 5)
    extended = clients[holder].ask("extend", LEASE_S)
    reaped = [remote.ask("reap") for remote in clients.values()]

    second = clients[other].ask("dequeue", 10)

    assert reaped == [[], [], []]
    assert (first["attempt"], second["attempt"]) == (1, 2)
    assert second["leased_at"] >= extended["expires_at"] >= first["expires_at"]
    assert second["leased_at"] < extended["expires_at"] + 5
    assert clients[holder].ask("ack") == {"error": "LeaseLost"}
    assert clients[other].ask("ack") is None
    assert everyone(clients, "counts")["done"] == 1
