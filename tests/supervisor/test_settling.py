"""The settler: how many ends of attempts it tells at a time."""

import threading
from typing import Any

import pytest

from allocator import Queue, open_queue
from allocator.domain.lease import Lease
from allocator.supervisor import Supervisor
from tests.contract.builders import BOUND_S, counts, some_jobs


@pytest.fixture
def queue() -> Queue:
    """In process, in real time."""
    return open_queue("memory://test-settling")


def test_however_many_wait_a_group_has_64_at_most(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill -9 repeats what was not yet told, and one group of that may be on its way."""
    queue.enqueue_many(some_jobs(500))
    ended, told = threading.Semaphore(0), []
    settle = queue.settle

    def settle_once_all_ended(acks: Any, *others: Any) -> list[Lease]:
        if not told:
            # The first group waits until far more than a second one may take are behind it.
            for _ in range(200):
                assert ended.acquire(timeout=BOUND_S)
        told.append(len(acks))
        return settle(acks, *others)

    monkeypatch.setattr(queue, "settle", settle_once_all_ended)

    with Supervisor(queue, {"json": lambda context: ended.release()}) as supervisor:
        assert supervisor.drain(BOUND_S)

    assert max(told) == 64
    assert queue.counts() == counts(done=500)
