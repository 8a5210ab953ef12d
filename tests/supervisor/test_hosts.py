"""Supervisors inside programs with an event loop and signal handlers of their own: a web server, a Jupyter kernel."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from allocator import Queue
from tests.contract.builders import BOUND_S, Clients, a_job, counts
from tests.faults.running import until
from tests.supervisor.test_stopping import lines

ROOT = Path(__file__).parents[2]


@pytest.fixture
def queue(open_client: Clients) -> Queue:
    """In real time."""
    return open_client(clock=None)


@pytest.mark.on_redis
def test_a_web_server_ends_in_order(queue: Queue, open_client: Clients, tmp_path: Path) -> None:
    """On SIGTERM what runs is finished and what waits stays, uncharged, though the handlers are the server's."""
    path = tmp_path / "runs"
    jobs = queue.enqueue_many([a_job(payload={"path": str(path)}) for _ in range(200)])
    command = [sys.executable, "-m", "uvicorn", "tests.supervisor.lifespan_program:app", "--port", "0"]
    where = {"QUEUE_URL": open_client.url, "QUEUE_NAME": open_client.name}
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **where}, stderr=log)
    try:
        until(lambda: len(lines(path)) >= 20, "it works")
        server.terminate()
        # It ends by the signal that it was sent, once everything else has come to its end.
        assert server.wait(BOUND_S) in (0, -signal.SIGTERM), (tmp_path / "log").read_text()
    finally:
        server.kill()

    ran = [job for _, job, attempt, _ in lines(path) if attempt == "1"]
    assert len(ran) == len(set(ran)) == len(lines(path)) < len(jobs)
    assert queue.counts() == counts(done=len(ran), ready=len(jobs) - len(ran))
    assert {lease.attempt for lease in queue.dequeue_many(1000, timeout=0)} == {1}


@pytest.fixture(scope="module")
def kernel() -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    """A running kernel of this Python."""
    manager = KernelManager()
    manager.start_kernel(cwd=str(ROOT))
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def test_a_kernel_runs_and_stops_one(kernel: tuple[KernelManager, BlockingKernelClient]) -> None:
    """Functions and coroutines, beside the kernel's own loop; its interrupt ends a wait, and no job is harmed by it."""
    _, client = kernel

    def run(cell: str) -> str:
        """What the cell displayed, or the name of the error that ended it."""
        shown: list[str] = []
        reply = client.execute_interactive(
            cell, timeout=60, output_hook=lambda message: shown.append(message["content"].get("text", ""))
        )
        content = reply["content"]
        return "".join(shown).strip() if content["status"] == "ok" else content["ename"]

    before = run(
        """
        import asyncio, signal, threading
        from allocator import Job, open_queue
        from allocator.supervisor import Supervisor

        goes_on, runs = threading.Event(), threading.Event()

        def hold(context):
            runs.set()
            goes_on.wait(60)

        async def co(context):
            await asyncio.sleep(0)

        queue = open_queue("memory://kernel")
        supervisor = Supervisor(queue, {"co": co, "hold": hold}).start()
        queue.enqueue_many([Job(type="co", payload=n) for n in range(100)])
        print(supervisor.drain(20), queue.counts()["done"], signal.getsignal(signal.SIGINT))
        """
    )
    # The interrupt is sent by the kernel itself, so that it comes while the cell waits.
    interrupted = run(
        """
        import os
        queue.enqueue(Job(type="hold", payload=None))
        interrupter = lambda: (runs.wait(20), os.kill(os.getpid(), signal.SIGINT))
        threading.Thread(target=interrupter).start()
        supervisor.drain()
        """
    )
    after = run("goes_on.set(); print(supervisor.stop(), queue.counts()['done'], signal.getsignal(signal.SIGINT))")

    assert before.startswith("True 100 ")
    assert interrupted == "KeyboardInterrupt"
    assert after == before.replace("True 100 ", "True 101 ")
