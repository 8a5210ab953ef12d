"""How a supervisor ends with something in its way: a dead server, an interrupt, a closed queue, a hanging process."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from allocator import Lease, Queue, open_queue
from allocator.persistence import StoreLocked, open_store
from allocator.supervisor import Supervisor
from allocator.supervisor.buffer import Buffer
from allocator.supervisor.ending import Ending
from allocator.supervisor.events import Listeners
from allocator.supervisor.held import Held
from allocator.supervisor.processes import ProcessWorker
from tests.contract.builders import BOUND_S, InThread, a_job, counts
from tests.faults import servers
from tests.faults.running import until

DONE = {"json": lambda context: None}


@pytest.fixture
def queue(request: pytest.FixtureRequest) -> Iterator[Queue]:
    """In process, in real time."""
    with open_queue(f"memory://{request.node.name}") as opened:
        yield opened


@pytest.mark.service
@pytest.mark.faults
@pytest.mark.parametrize("kind", servers.KINDS)
def test_a_stop_does_not_wait_for_a_server_that_is_gone(kind: str) -> None:
    """A call tries for half a minute to get through; the supervisor has ended long before."""
    with servers.start(kind) as server, open_queue(server.url) as queue:
        supervisor = Supervisor(queue, DONE).start()
        queue.enqueue(a_job())
        until(lambda: supervisor.stats().done == 1, "it works")
        server.kill()

        assert InThread(supervisor.stop, 0.0).result()


def test_what_a_late_dequeue_brings_goes_back_uncharged(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when its server comes back after the supervisor has ended."""
    job = queue.enqueue(a_job())
    dequeue_many, asked, goes_on = queue.dequeue_many, threading.Event(), threading.Event()

    def late(*arguments: Any) -> list[Lease]:
        asked.set()
        goes_on.wait(BOUND_S)
        return dequeue_many(*arguments)

    monkeypatch.setattr(queue, "dequeue_many", late)
    monkeypatch.setattr("allocator.supervisor.supervisor.SETTLE_S", 0.1)
    supervisor = Supervisor(queue, DONE).start()
    assert asked.wait(BOUND_S)
    supervisor.stop(0.0)
    goes_on.set()
    for thread in (supervisor._fetcher, *supervisor._workers):
        thread.join(BOUND_S)

    assert queue.counts() == counts(ready=1)
    lease = dequeue_many(1, 0)[0]
    assert (lease.job.id, lease.attempt) == (job.id, 1)


def test_an_interrupted_stop_can_be_called_again(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of it leaves the rest to the next call."""
    queue.enqueue(a_job())
    goes_on = threading.Event()
    supervisor = Supervisor(queue, {"json": lambda context: goes_on.wait(BOUND_S)}).start()
    until(lambda: supervisor.stats().running == 1, "the job runs")
    worker = next(worker for worker in supervisor._workers if worker.current)

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(worker, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            supervisor.stop()
    goes_on.set()

    assert supervisor.stop()
    assert queue.counts() == counts(done=1)


def test_a_second_stop_says_what_the_first_one_found(queue: Queue) -> None:
    """That a job still runs does not become untrue."""
    queue.enqueue(a_job())
    goes_on = threading.Event()
    supervisor = Supervisor(queue, {"json": lambda context: goes_on.wait(BOUND_S)}).start()
    until(lambda: supervisor.stats().running == 1, "the job runs")

    answers = [supervisor.stop(0.0), supervisor.stop(0.0)]
    goes_on.set()

    assert answers == [False, False]


def test_an_interrupted_start_leaves_nothing_running(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would stop it: a `with` that was not entered is not left either."""
    before = signal.getsignal(signal.SIGTERM)
    supervisor = Supervisor(queue, DONE, handle_signals=True)

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(supervisor._fetcher, "start", interrupt)
    with pytest.raises(KeyboardInterrupt):
        supervisor.start()

    assert not any(worker.is_alive() for worker in supervisor._workers)
    assert not supervisor._settler.is_alive()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_refused_start_gives_the_signals_back(queue: Queue, tmp_path: Path) -> None:
    """An in-process queue's part of a store can only be worked on by one."""
    before = signal.getsignal(signal.SIGTERM)
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as store:
        store.lock(queue.identity)
        supervisor = Supervisor(queue, DONE, store=store, handle_signals=True)
        with pytest.raises(StoreLocked):
            supervisor.start()

    assert signal.getsignal(signal.SIGTERM) == before


def test_nothing_is_asked_of_a_queue_that_was_closed(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It answers at once, and asking it again and again would keep a core busy."""
    caplog.set_level(logging.WARNING, "allocator.supervisor")
    with Supervisor(queue, DONE) as supervisor:
        queue.close()
        until(lambda: "was closed" in caplog.text, "it is told")
        asked: list[object] = []
        monkeypatch.setattr(queue, "dequeue_many", lambda *arguments: asked.append(arguments) or [])

        assert supervisor.stop()

    assert not asked
    assert caplog.text.count("was closed") == 1


def test_no_process_is_started_once_processes_are_ended(tmp_path: Path) -> None:
    """A job that was taken at the last moment goes back, where it would have had no time left."""
    endings: list[Ending] = []
    buffer = Buffer()
    worker = ProcessWorker(
        "process-1",
        buffer.take,
        {"write": "tests.supervisor.programs:write_pid"},
        endings.append,
        lambda held, done, total, message: None,
        Listeners([]),
        lambda: None,
    )
    path = tmp_path / "pids"
    job = a_job(type="write", payload={"path": str(path)})
    buffer.put([Held(Lease(job, 1, "token", expires_at=100.0, due_at=0.0, leased_at=0.0), 60.0, fetched=0.0)])

    worker.kill(release=True)
    worker.start()
    until(lambda: endings, "the job has its end")
    buffer.close()
    worker.join(BOUND_S)

    assert [ending.verb for ending in endings] == ["released"]
    assert not path.exists()


def test_a_process_is_seen_to_die_although_its_own_child_lives_on(queue: Queue, tmp_path: Path) -> None:
    """The fork has its socket, which does not close."""
    path = tmp_path / "pid"
    queue.enqueue(a_job(type="fork", payload={"path": str(path)}, max_retries=0))
    try:
        with Supervisor(queue, {"fork": "tests.supervisor.programs:fork_and_die"}, processes=1) as supervisor:
            assert supervisor.drain(BOUND_S)
    finally:
        os.kill(int(path.read_text()), signal.SIGKILL)

    (letter,) = queue.dead_letters()
    assert letter.error == "the worker process died: killed by SIGKILL"


def test_a_late_job_is_not_left_in_a_closed_buffer() -> None:
    """Who puts it hears that nobody will take it."""
    buffer = Buffer()
    buffer.close()

    assert not buffer.put([Held(Lease(a_job(), 1, "token", 100.0, 0.0, 0.0), 60.0, fetched=0.0)])
    assert len(buffer) == 0
