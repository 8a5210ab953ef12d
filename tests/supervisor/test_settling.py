"""The settler: how many ends of attempts it tells at a time, and how many wait for it."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from allocator import Queue, open_queue
from allocator.domain.errors import QueueUnavailable
from allocator.persistence import open_store
from allocator.supervisor import Context, Supervisor, fetching
from tests.contract.builders import BOUND_S, counts, some_jobs
from tests.faults.running import until

WORKERS = 3
GROUP = 64


@pytest.fixture
def queue() -> Queue:
    """In process, in real time."""
    return open_queue("memory://test-settling")


class Slow:
    """
    Settling that does not begin until no more jobs are run, or far too many were.

    Attributes:
        most: Jobs that had run at one time, and were not settled.
        told: Sizes of the groups.
    """

    def __init__(self, settle: Callable[..., Any]) -> None:
        self._settle = settle
        self._ran = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._untold = self.most = 0
        self.told: list[int] = []

    def run(self, context: Context) -> None:
        """The processor."""
        with self._lock:
            self._untold += 1
            self.most = max(self.most, self._untold)
        self._ran.release()

    def settle(self, ended: Any, *others: Any, **options: Any) -> Any:
        """In the place of the real one."""
        if not self.told:
            # Nobody can tell that no more will come but by waiting for it.
            for _ in range(3 * GROUP):
                if not self._ran.acquire(timeout=0.5):
                    break
        self.told.append(len(ended))
        found = self._settle(ended, *others, **options)
        with self._lock:
            self._untold -= len(ended)
        return found


def test_no_more_wait_to_be_told_than_a_kill_may_repeat(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ran and one group, however slow the queue and however fast the jobs."""
    queue.enqueue_many(some_jobs(500))
    slow = Slow(queue.settle)
    monkeypatch.setattr(queue, "settle", slow.settle)

    with Supervisor(queue, {"json": slow.run}, workers=WORKERS) as supervisor:
        assert supervisor.drain(BOUND_S)

    assert GROUP <= slow.most <= GROUP + WORKERS
    assert max(slow.told) <= GROUP
    assert queue.counts() == counts(done=500)


def test_no_more_wait_to_be_recorded_than_a_kill_may_repeat(
    queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same where a store is told first: what it has as done is not run again."""
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as store:
        store.submit_many(queue, some_jobs(500))
        slow = Slow(store.settle)
        monkeypatch.setattr(store, "settle", slow.settle)

        with Supervisor(queue, {"json": slow.run}, workers=WORKERS, store=store) as supervisor:
            assert supervisor.drain(BOUND_S)

        assert GROUP <= slow.most <= GROUP + WORKERS
        assert store.counts()["done"] == 500


def test_no_more_is_fetched_than_can_be_told_in_time(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits here for longer would go back untried: where the telling is slow, jobs without work start slowly."""
    queue.enqueue_many(some_jobs(2000))
    settle = queue.settle

    def settle_slowly(*given: Any) -> Any:
        # As a database across the ocean: it takes half a second for what may be held here.
        time.sleep(0.03)
        return settle(*given)

    monkeypatch.setattr(queue, "settle", settle_slowly)
    monkeypatch.setattr(fetching, "LATE_S", 0.3)

    with Supervisor(queue, {"json": lambda context: None}, workers=WORKERS) as supervisor:
        assert supervisor.drain(BOUND_S)
        stats = supervisor.stats()

    assert (stats.done, stats.released) == (2000, 0)


def test_workers_that_wait_for_the_settler_end_at_a_stop(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though its queue cannot be told: they have nothing to finish."""
    queue.enqueue_many(some_jobs(500))
    ran: list[str] = []

    def cannot_be_told(*given: Any) -> None:
        raise QueueUnavailable("the server is away")

    monkeypatch.setattr(queue, "settle", cannot_be_told)
    supervisor = Supervisor(queue, {"json": lambda context: ran.append(context.token)}, workers=WORKERS).start()
    until(lambda: len(ran) >= GROUP, "as many have ended as may wait")

    assert supervisor.stop(grace=0.0)

    assert GROUP <= len(ran) <= GROUP + WORKERS
