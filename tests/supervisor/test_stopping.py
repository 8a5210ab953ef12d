"""The worker command, stopped and killed as an operator and a machine would: nothing is lost, nothing runs for free."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from allocator import Queue
from allocator.persistence import JobState, Store, open_store
from allocator.supervisor import Supervisor
from tests.contract.builders import BOUND_S, Clients, a_job, counts
from tests.faults.running import until

pytestmark = [pytest.mark.on_servers]

ROOT = Path(__file__).parents[2]
Start = Callable[..., subprocess.Popen[bytes]]

PROCESSORS = {
    "stop_itself": "tests.supervisor.programs:stop_itself",
    "json": "tests.supervisor.stopped_programs:write",
    "hang": "tests.supervisor.stopped_programs:hang_once",
}


@pytest.fixture
def queue(open_client: Clients) -> Queue:
    """In real time, with leases that a test can wait for."""
    return open_client(clock=None, lease_s=1.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A database of its own."""
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as opened:
        yield opened


@pytest.fixture
def start(open_client: Clients, tmp_path: Path) -> Iterator[Start]:
    """Starts `allocator worker` on the queue; what still runs at the end is killed."""
    started: list[subprocess.Popen[bytes]] = []

    def open_worker(*options: str) -> subprocess.Popen[bytes]:
        where = ["-q", open_client.url, "-n", open_client.name]
        command = [sys.executable, "-m", "allocator.cli", "worker", *where, "--lease", "1"]
        for type, processor in PROCESSORS.items():
            command += ["-p", f"{type}={processor}"]
        with (tmp_path / "log").open("ab") as log:
            started.append(subprocess.Popen([*command, *options], cwd=ROOT, stderr=log))
        return started[-1]

    yield open_worker
    for process in started:
        process.kill()
        process.wait()


def lines(path: Path) -> list[list[str]]:
    """What the processors wrote."""
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("options", [["--workers", "4"], ["--processes", "2"]], ids=["threads", "processes"])
def test_sigterm_under_load_loses_and_repeats_nothing(
    options: list[str], queue: Queue, store: Store, start: Start, tmp_path: Path
) -> None:
    """What runs is finished, what waits is left to the next worker, uncharged."""
    path = tmp_path / "runs"
    jobs = store.submit_many(queue, [a_job(payload={"path": str(path)}) for _ in range(200)])
    url = f"sqlite:///{tmp_path / 'store.db'}"

    first = start(*options, "-s", url)
    until(lambda: len(lines(path)) >= 20, "the first worker works")
    first.terminate()
    status = first.wait(BOUND_S)
    ran_before = len(lines(path))
    second = start(*options, "-s", url)
    until(lambda: store.counts()["done"] == 200, "the second worker does the rest")
    second.terminate()

    assert status == 0
    assert second.wait(BOUND_S) == 0
    assert ran_before < 200
    assert sorted((job, attempt) for _, job, attempt, _ in lines(path)) == sorted((job.id, "1") for job in jobs)
    assert queue.counts() == counts(done=200)


def test_a_second_signal_ends_at_once(queue: Queue, start: Start, tmp_path: Path) -> None:
    """Although a job hangs; its lease is left to expire."""
    path = tmp_path / "runs"
    queue.enqueue(a_job(type="hang", payload={"path": str(path)}))
    worker = start("--workers", "1")
    until(lambda: lines(path), "the job has begun")

    worker.terminate()
    until(lambda: b"once more ends at once" in (tmp_path / "log").read_bytes(), "the first signal was heard")
    worker.terminate()

    assert worker.wait(BOUND_S) == -signal.SIGTERM


@pytest.mark.parametrize("options", [["--workers", "1"], ["--processes", "1"]], ids=["threads", "processes"])
def test_a_supervisor_killed_with_9_costs_one_attempt(
    options: list[str], queue: Queue, store: Store, start: Start, tmp_path: Path
) -> None:
    """Its lease runs out, a new one does the job, its worker processes end by themselves; what was done stays done."""
    path = tmp_path / "runs"
    url = f"sqlite:///{tmp_path / 'store.db'}"
    done = store.submit(queue, a_job(payload={"path": str(path)}))
    first = start(*options, "-s", url)
    until(lambda: store.counts()["done"] == 1, "one job is done")
    hanging = store.submit(queue, a_job(type="hang", payload={"path": str(path)}))
    until(lambda: len(lines(path)) == 2, "the other has begun")

    first.kill()
    first.wait()
    worker_pid = int(lines(path)[1][3])
    until(lambda: not is_alive(worker_pid), "the worker process has ended")
    start(*options, "-s", url)
    until(lambda: store.counts()["done"] == 2, "the new supervisor does it")

    stored = store.job(hanging.id)
    assert stored is not None
    assert [(attempt.number, attempt.outcome) for attempt in stored.attempts] == [(1, "lost"), (2, "done")]
    assert [attempt for _, job, attempt, _ in lines(path) if job == done.id] == ["1"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with the one that started it")
@pytest.mark.on_redis
def test_a_stopped_worker_process_ends_with_its_supervisor(queue: Queue, start: Start, tmp_path: Path) -> None:
    """It cannot see for itself that the other is gone."""
    path = tmp_path / "pids"
    queue.enqueue(a_job(type="stop_itself", payload={"path": str(path)}))
    supervisor = start("--processes", "1")
    until(lambda: path.exists() and path.read_text(), "the job has begun")

    supervisor.kill()
    supervisor.wait()

    until(lambda: not is_alive(int(path.read_text())), "the worker process has ended")


def test_a_supervisor_stopped_for_longer_than_its_lease(
    queue: Queue, store: Store, start: Start, tmp_path: Path
) -> None:
    """Another does its job meanwhile; when it goes on, its late end is refused."""
    path = tmp_path / "runs"
    url = f"sqlite:///{tmp_path / 'store.db'}"
    job = store.submit(queue, a_job(type="slow", payload={"path": str(path)}, max_retries=5))
    stopped = start("-p", "slow=tests.supervisor.stopped_programs:slow_first", "-s", url)
    until(lambda: lines(path), "the job has begun")

    freeze(stopped.pid, tmp_path / "store.db")
    tokens: list[str] = []
    with Supervisor(queue, {"slow": lambda context: tokens.append(context.token)}, store=store) as supervisor:
        assert supervisor.drain(BOUND_S)
    os.kill(stopped.pid, signal.SIGCONT)
    until(lambda: len(lines(path)) == 2, "the first attempt has come to its end")
    stopped.terminate()

    assert stopped.wait(BOUND_S) == 0
    stored = store.job(job.id)
    assert stored is not None
    assert stored.state == JobState.DONE
    assert [(attempt.outcome, attempt.token == tokens[0]) for attempt in stored.attempts] == [
        ("lost", False),
        ("done", True),
    ]
    assert queue.counts() == counts(done=1)


def test_a_c_call_that_keeps_the_interpreter_loses_its_lease(queue: Queue, start: Start, tmp_path: Path) -> None:
    """In a thread nothing can extend it meanwhile: the job runs elsewhere, and the late end is refused."""
    path, gate = tmp_path / "runs", tmp_path / "gate"
    os.mkfifo(gate)
    queue.enqueue(a_job(type="hold", payload={"path": str(path), "gate": str(gate)}, max_retries=5))
    # Without a store: held in the midst of a transaction, its file would be closed to the other one too.
    holding = start("-p", "hold=tests.supervisor.stopped_programs:hold_first", "--workers", "1")
    until(lambda: lines(path), "the job has begun")

    with Supervisor(queue, {"hold": "tests.supervisor.stopped_programs:hold_first"}) as supervisor:
        until(lambda: queue.counts()["done"] == 1, "the job is done elsewhere")
        assert supervisor.drain(BOUND_S)
    with gate.open("wb"):
        until(lambda: len(lines(path)) == 4, "the first attempt has come to its end")
    holding.terminate()

    assert holding.wait(BOUND_S) == 0
    assert [(what, attempt) for what, _, attempt, _ in lines(path)] == [
        ("began", "1"),
        ("began", "2"),
        ("ended", "2"),
        ("ended", "1"),
    ]
    assert queue.counts() == counts(done=1)


def test_a_job_that_ends_its_supervisor_every_time_becomes_a_dead_letter(
    queue: Queue, start: Start, tmp_path: Path
) -> None:
    """Threads die with their program: each costs the job one expired lease, and its neighbours are done."""
    path = tmp_path / "runs"
    poison = queue.enqueue(a_job(type="poison", priority=1, max_retries=1))
    queue.enqueue_many([a_job(payload={"path": str(path)}) for _ in range(5)])
    poisoned = ["-p", "poison=tests.supervisor.programs:leave", "--workers", "1"]

    statuses = [start(*poisoned).wait(BOUND_S) for _ in range(2)]
    last = start(*poisoned)
    until(lambda: queue.counts()["done"] == 5 and queue.counts()["dead"] == 1, "the neighbours are done")
    last.terminate()

    assert statuses == [3, 3]
    (letter,) = queue.dead_letters()
    assert (letter.job.id, letter.error, letter.attempt_count) == (poison.id, "lease expired", 2)
    assert last.wait(BOUND_S) == 0


def freeze(pid: int, database: Path) -> None:
    """Stop a process, though not while it has SQLite's lock, which would stop everybody with it."""
    while True:
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        with closing(sqlite3.connect(database, timeout=0.1, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                os.kill(pid, signal.SIGCONT)
            else:
                return


def is_alive(pid: int) -> bool:
    """Whether a process that need not be a child of this one is there, and no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_signals_are_put_back(queue: Queue) -> None:
    """Once the supervisor has stopped, whoever handled them before does so again."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    with Supervisor(queue, {}, handle_signals=True):
        during = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    assert during != before
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_signals_are_not_touched_unless_asked(queue: Queue) -> None:
    """As in a web server or a notebook, which have handlers of their own."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    with Supervisor(queue, {}):
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_signals_cannot_be_handled_in_another_thread(queue: Queue) -> None:
    """It says so, and where to start it."""
    errors: list[str] = []

    def run() -> None:
        try:
            Supervisor(queue, {}, handle_signals=True).start()
        except ValueError as error:
            errors.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(BOUND_S)

    assert errors == ["handle_signals: signals can only be handled from the main thread; start it there"]
