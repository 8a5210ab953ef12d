"""`allocator status --watch`, as a person and as a script see it."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from allocator import Queue, open_queue
from allocator.persistence import open_store
from tests.contract.builders import BOUND_S, Clients, a_job, some_jobs, take
from tests.faults.servers import start


@contextmanager
def watching(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, which does not outlive the bound."""
    command = [sys.executable, "-m", "allocator.cli", "status", "--watch", *arguments]
    process = subprocess.Popen(command, text=True, **options)
    bound = threading.Timer(3 * BOUND_S, process.kill)
    bound.start()
    try:
        with process:
            yield process
            process.send_signal(signal.SIGINT)
    finally:
        bound.cancel()
        process.kill()


def until(process: subprocess.Popen[str], holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first look of which this holds."""
    assert process.stdout is not None
    for line in process.stdout:
        look: dict[str, Any] = json.loads(line)
        if holds(look):
            return look
    raise AssertionError(f"no such look; ended with status {process.wait()}")


@pytest.fixture
def queue(open_client: Clients) -> Queue:
    """A queue on its server's own time."""
    return open_client(clock=None)


@pytest.mark.on_servers
def test_each_look_is_a_line_with_rates(queue: Queue, open_client: Clients) -> None:
    """For scripts; none before the second look. Ctrl-C is the way to end it, and no failure."""
    queue.enqueue_many(some_jobs(5))

    with watching("0.1", "--json", "-q", open_client.url, "-n", queue.name, stdout=subprocess.PIPE) as process:
        first = until(process, lambda look: True)
        idle = until(process, lambda look: True)
        queue.enqueue_many(some_jobs(3))
        arrived = until(process, lambda look: look["ready"] == 8)
        for _ in range(2):
            queue.ack(take(queue))
        done = until(process, lambda look: look["done"] > 0)

    assert process.returncode == 0
    assert first["queue"] == queue.name
    assert (first["ready"], first["done_per_s"], first["arrivals_per_s"]) == (5, None, None)
    assert (idle["done_per_s"], idle["arrivals_per_s"]) == (0, 0)
    assert arrived["arrivals_per_s"] > 0
    assert done["done_per_s"] > 0
    assert done["at"] > first["at"]


@pytest.mark.on_redis
def test_the_store_is_watched_too(queue: Queue, open_client: Clients, tmp_path: Path) -> None:
    """Where one is named; the number of seconds may be left out."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with open_store(url) as store:
        store.submit(queue, a_job())

    with watching("--json", "-s", url, "-q", open_client.url, "-n", queue.name, stdout=subprocess.PIPE) as process:
        look = until(process, lambda look: True)

    assert process.returncode == 0
    assert look["store"]["queued"] == 1


@pytest.mark.on_redis
def test_a_terminal_is_redrawn(queue: Queue, open_client: Clients) -> None:
    """In place, with the figures of now."""
    ours, theirs = pty.openpty()
    shown = ""

    def read_until(text: str) -> None:
        nonlocal shown
        while text not in shown:
            shown += os.read(ours, 4096).decode(errors="replace")

    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    with watching("0.1", "-q", open_client.url, "-n", queue.name, stdout=theirs, env=environment) as process:
        os.close(theirs)
        read_until("arrivals per second")
        queue.enqueue_many(some_jobs(1234))
        read_until("1,234")
    os.close(ours)

    assert process.returncode == 0
    # Goes up and writes over what was there.
    assert "\x1b[1A" in shown


@pytest.mark.service
@pytest.mark.faults
@pytest.mark.redis
def test_a_restart_of_the_server_is_told_and_survived() -> None:
    """What is wrong while it is gone, and the counts again once it is back."""
    with start("valkey") as server, open_queue(server.url) as queue:
        queue.enqueue(a_job())
        with watching("0.1", "--json", "-q", server.url, stdout=subprocess.PIPE) as process:
            before = until(process, lambda look: True)
            server.stop()
            gone = until(process, lambda look: "error" in look)
            server.start()
            after = until(process, lambda look: "error" not in look)

    assert process.returncode == 0
    assert before["ready"] == 1
    assert gone["queue"] == "default"
    assert "ready" not in gone
    assert after["ready"] == 1
