"""What nobody foresaw while fetching ends neither a worker nor the thread: else nothing would ever be taken again."""

import threading
from collections.abc import Callable

import pytest

from allocator import Queue, open_queue
from allocator.supervisor import Supervisor
from allocator.supervisor.buffer import Buffer
from allocator.supervisor.fetching import Fetcher
from allocator.supervisor.stats import Tally
from tests.contract.builders import BOUND_S, some_jobs

WORKERS = 3


@pytest.fixture
def queue() -> Queue:
    """In process, in real time, with one job."""
    opened = open_queue("memory://")
    opened.enqueue_many(some_jobs(1))
    return opened


@pytest.fixture
def may_fetch(monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Fails more often than there are workers."""
    monkeypatch.setattr("allocator.supervisor.fetching.PAUSE_S", 0.01)
    asked: list[None] = []

    def ask() -> bool:
        asked.append(None)
        if len(asked) <= 2 * WORKERS:
            raise RuntimeError("nobody foresaw it")
        return True

    return ask


def test_a_worker_that_fetches_goes_on(
    queue: Queue, may_fetch: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As do the others, which wait for their turn."""
    supervisor = Supervisor(queue, {"json": lambda context: None}, workers=WORKERS)
    monkeypatch.setattr(supervisor._fetcher, "_may_fetch", may_fetch)

    with supervisor:
        assert supervisor.drain(BOUND_S)
        assert all(worker.is_alive() for worker in supervisor._workers)


def test_the_thread_that_fetches_ahead_goes_on(queue: Queue, may_fetch: Callable[[], bool]) -> None:
    """It has no worker to take its place."""
    tally = Tally()
    # Without any that have ended, it fetches nothing ahead.
    for _ in range(20):
        tally.note_attempt(0.0, 0.0, 0.0)
    taken = threading.Event()
    fetcher = Fetcher(queue, Buffer(), tally, WORKERS, lambda leases: taken.set() or [], lambda jobs: None, may_fetch)
    fetcher.start()

    assert taken.wait(BOUND_S)
    fetcher.stop(BOUND_S)
