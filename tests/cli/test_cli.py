"""The command, as a person or a script uses it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from allocator import Queue
from allocator.cli import app
from allocator.persistence import open_store
from tests.contract.builders import BOUND_S, Clients, a_job, bury, counts, take
from tests.persistence.builders import NOW, an_ending, finished

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> Result:
    """The command in this process."""
    return CliRunner().invoke(app, list(arguments), prog_name="allocator")


@pytest.fixture
def where(open_client: Clients) -> list[str]:
    """The options that name the queue of this test."""
    return ["-q", open_client.url, "-n", open_client.name]


@pytest.fixture
def queue(open_client: Clients) -> Queue:
    """That queue, on its server's own time."""
    return open_client(clock=None)


@pytest.mark.on_servers
def test_status_counts_jobs(queue: Queue, where: list[str]) -> None:
    """As JSON for scripts, as a table for people."""
    queue.enqueue_many([a_job(), a_job(delay=60)])

    as_json, table = run("status", "--json", *where), run("status", *where)

    assert json.loads(as_json.stdout) == {"queue": queue.name, **counts(ready=1, scheduled=1)}
    assert "scheduled" in table.stdout


@pytest.mark.on_servers
def test_status_asks_the_store_too(queue: Queue, where: list[str], tmp_path: Path) -> None:
    """Where one is named: for the jobs of this queue, by the store's own states."""
    store_url = f"sqlite:///{tmp_path / 'store.db'}"
    with open_store(store_url) as store:
        store.submit(queue, a_job())

    as_json, table = run("status", "--json", "-s", store_url, *where), run("status", "-s", store_url, *where)

    stored = {"queued": 1, "processing": 0, "done": 0, "dead": 0, "cancelled": 0}
    assert json.loads(as_json.stdout) == {"queue": queue.name, **counts(ready=1), "store": stored}
    assert "queued in the store" in table.stdout


@pytest.mark.on_servers
def test_dead_letters_are_listed_shown_and_put_back(queue: Queue, where: list[str]) -> None:
    """With type and error as filters; a second time there is nothing left, and the status says so."""
    timed_out, _ = bury(queue, a_job(type="film")), bury(queue, a_job(), error="no such colour")

    listed = run("dlq", "list", "--json", "-t", "film", *where)
    shown = run("dlq", "show", timed_out[0].id, *where)
    put_back = run("dlq", "requeue", "--all", "-e", "colour", *where)
    nothing = run("dlq", "requeue", "--all", "-e", "colour", *where)

    assert [letter["job"]["id"] for letter in json.loads(listed.stdout)] == [timed_out[0].id]
    assert timed_out[0].id in shown.stdout
    assert "attempt 1" in shown.stdout
    assert (put_back.exit_code, put_back.stdout) == (0, "1 put back\n")
    assert nothing.exit_code == 1
    assert queue.counts() == counts(ready=1, dead=1)


@pytest.mark.on_redis
def test_a_dead_letter_cannot_tell_the_terminal_what_to_do(open_client: Clients, where: list[str]) -> None:
    """Whatever its worker and its errors say: it is shown, and nothing of it obeyed."""
    queue = open_client(clock=None, worker="host[/bold]\x1b[2J")
    job = queue.enqueue(a_job(type="film\x1b]0;"))
    queue.nack(take(queue), "no such [/file]: \x1b[31mred", dead=True)

    told = [run("dlq", "list", *where), run("dlq", "show", job.id, *where)]

    assert [each.exit_code for each in told] == [0, 0]
    assert all("\x1b" not in each.stdout for each in told)
    assert "by host[/bold]\ufffd[2J" in told[1].stdout
    assert "no such [/file]: \ufffd[31mred" in told[1].stdout


@pytest.mark.on_redis
def test_the_store_hears_of_what_is_put_back(queue: Queue, where: list[str], tmp_path: Path) -> None:
    """Where one is named: it says at once that the job waits."""
    store_url = f"sqlite:///{tmp_path / 'store.db'}"
    with open_store(store_url) as store:
        job = store.submit(queue, a_job())
        lease = take(queue)
        store.begin([lease], queue)
        store.settle([an_ending(lease, "dead")])
    queue.nack(lease, "broken", dead=True)

    put_back = run("dlq", "requeue", job.id, "-s", store_url, *where)
    shown = run("jobs", "show", job.id, "-s", store_url, "--json")

    assert (put_back.exit_code, put_back.stdout) == (0, "1 put back\n")
    assert json.loads(shown.stdout)["state"] == "queued"


@pytest.mark.on_servers
def test_a_purge_asks_first(queue: Queue, where: list[str]) -> None:
    """Unless told not to."""
    bury(queue)

    refused = CliRunner().invoke(app, ["dlq", "purge", "--all", *where], input="n\n")
    kept = queue.counts()["dead"]
    purged = run("dlq", "purge", "--all", "--yes", "--json", *where)

    assert (refused.exit_code, kept) == (1, 1)
    assert json.loads(purged.stdout) == {"count": 1}
    assert queue.counts() == counts(purged=1)


@pytest.mark.on_servers
def test_an_unknown_dead_letter_is_told(queue: Queue, where: list[str]) -> None:
    """With exit status 1, so that a script can ask."""
    shown = run("dlq", "show", "nobody", *where)

    assert shown.exit_code == 1
    assert "nobody is not a dead letter" in shown.stderr


@pytest.mark.on_servers
def test_a_worker_does_jobs_until_it_is_told_to_stop(queue: Queue, where: list[str], tmp_path: Path) -> None:
    """And records them; the store shows the job."""
    store_url = f"sqlite:///{tmp_path / 'store.db'}"
    with open_store(store_url) as store:
        job = store.submit(queue, a_job(type="co"))
    command = [sys.executable, "-m", "allocator.cli", "worker", "-p", "co=tests.supervisor.programs:co", *where]
    # Run where the processors are: the command finds them there.
    process = subprocess.Popen([*command, "-s", store_url], cwd=ROOT, stderr=subprocess.PIPE)
    pause = threading.Event()
    for _ in range(400):
        if queue.counts()["done"]:
            break
        pause.wait(0.05)

    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=30)
    shown = run("jobs", "show", job.id, "-s", store_url, "--json")

    assert process.returncode == 0, told
    assert json.loads(shown.stdout)["state"] == "done"
    assert json.loads(shown.stdout)["result"] == "done"


@pytest.mark.on_redis
def test_a_worker_tells_prometheus(queue: Queue, where: list[str]) -> None:
    """On loopback, at a port that it logs; until it is told to stop."""
    queue.enqueue(a_job(type="co"))
    command = [sys.executable, "-m", "allocator.cli", "worker", "-p", "co=tests.supervisor.programs:co", *where]
    process = subprocess.Popen([*command, "--metrics", "0"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    bound = threading.Timer(BOUND_S, process.kill)
    bound.start()
    assert process.stderr is not None
    address = None
    while address is None:
        line = process.stderr.readline()
        assert line, "it ended before it told the address"
        address = re.search(r"http://127\.0\.0\.1:\d+/metrics", line)
    pause, text = threading.Event(), ""
    while f'allocator_jobs_done_total{{queue="{queue.name}",type="co"}} 1.0' not in text:
        with urllib.request.urlopen(address[0]) as reply:
            text = reply.read().decode()
        pause.wait(0.05)

    process.send_signal(signal.SIGTERM)
    process.communicate()
    bound.cancel()

    assert process.returncode == 0
    assert f'allocator_queue_jobs{{queue="{queue.name}",state="ready"}} 0.0' in text


@pytest.mark.on_redis
def test_a_port_that_is_taken_is_told(queue: Queue, where: list[str]) -> None:
    """Before any job is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("worker", "-p", "co=tests.supervisor.programs:co", "--metrics", f"127.0.0.1:{port}", *where)

    assert result.exit_code == 2
    assert f"nothing can listen on 127.0.0.1 port {port}" in result.stderr


def test_ended_jobs_are_pruned(tmp_path: Path, open_client: Clients) -> None:
    """By age, by number, or by both; exit status 0 also when there is nothing to delete."""
    store_url = f"sqlite:///{tmp_path / 'store.db'}"
    with open_store(store_url) as store, open_client(clock=None) as queue:
        old = [finished(store, queue, at=NOW - n) for n in range(4)]

    none = run("jobs", "prune", "--older-than", "520w", "-s", store_url)
    by_number = run("jobs", "prune", "--keep", "3", "-s", store_url)
    by_both = run("jobs", "prune", "--older-than", "1.5h", "--keep", "3", "--json", "-s", store_url)

    assert (none.exit_code, none.stdout) == (0, "0 deleted\n")
    assert (by_number.exit_code, by_number.stdout) == (0, "1 deleted\n")
    assert (by_both.exit_code, json.loads(by_both.stdout)) == (0, {"count": 3})
    assert run("jobs", "show", old[0], "-s", store_url).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["status", "-q", "redis://127.0.0.1:1"], "python -m allocator.services"),
        (["status", "-q", "memory://"], "inside one process"),
        (["status", "-q", "amqp://somewhere"], "no known backend"),
        (["worker", "-p", "nothing"], "TYPE=MODULE:FUNCTION"),
        (["worker", "-p", "a=b:c", "--limit", "a=b"], "is not a number"),
        (["worker", "-p", "a=b:c", "--metrics", "localhost"], "is not [HOST:]PORT"),
        (["worker", "-p", "a=b:c", "--metrics", "70000"], "is not [HOST:]PORT"),
        (["dlq", "requeue"], "--all"),
        (["dlq", "purge", "0190", "--type", "film"], "--type and --error go with --all"),
        (["jobs", "prune"], "say what may go"),
        (["jobs", "prune", "--older-than", "30"], "is no age"),
        (["jobs", "prune", "--keep", "1", "-s", "mysql://somewhere"], "mysql"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(arguments: list[str], text: str) -> None:
    """With exit status 2, and no traceback."""
    result = run(*arguments)

    assert result.exit_code == 2
    assert text in result.stderr


def test_help_names_the_variables_and_not_what_is_in_them() -> None:
    """A URL there may have a password in it."""
    urls = {f"ALLOCATOR_{name}_URL": "postgresql://me:secret@db/jobs" for name in ("QUEUE", "STORE")}
    program = [sys.executable, "-m", "allocator.cli", "status", "--help"]

    done = subprocess.run(program, env=os.environ | urls, capture_output=True, text=True, check=True)

    assert all(name in done.stdout for name in urls)
    assert "secret" not in done.stdout


def test_a_wrong_variable_is_named() -> None:
    """Before anything else is done."""
    environment = {**os.environ, "ALLOCATOR_LOG_LEVEL": "LOUD"}
    done = subprocess.run(
        [sys.executable, "-m", "allocator.cli", "status"], env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "ALLOCATOR_LOG_LEVEL='LOUD'" in done.stderr


@pytest.mark.parametrize("command", [["--help"], ["worker", "--help"], ["dlq", "list", "--help"], ["bench", "--help"]])
def test_help_gives_examples(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """For every command; the list of commands for the whole."""
    result = run(*command)

    assert result.exit_code == 0
    assert "allocator" in result.stdout + capsys.readouterr().out
