"""The settler: how many ends of attempts it tells at a time, and how many wait for it."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from allocator import Queue, open_queue
from allocator.domain.errors import QueueUnavailable
from allocator.persistence import open_store
from allocator.queue.base import MAX_TAKEN
from allocator.supervisor import Context, Supervisor
from allocator.supervisor.buffer import Buffer
from allocator.supervisor.ending import Ending
from allocator.supervisor.events import Listeners
from allocator.supervisor.fetching import Fetcher
from allocator.supervisor.held import Held
from allocator.supervisor.settling import Settler
from allocator.supervisor.stats import Tally
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


@pytest.mark.parametrize(
    ("ended", "held_up_s", "room"),
    [
        pytest.param(0, 0.0, 0, id="nothing is known yet"),
        pytest.param(20, 0.0, 20, id="no more than have ended"),
        pytest.param(5000, 0.0, MAX_TAKEN, id="no work, told at once"),
        pytest.param(5000, 0.005, 30, id="no work, told slowly"),
    ],
)
def test_no_more_is_fetched_than_can_be_told_in_time(queue: Queue, ended: int, held_up_s: float, room: int) -> None:
    """What waits here for longer would go back untried: a slow database slows the fetching."""
    tally = Tally()
    for _ in range(ended):
        tally.note_attempt(0.0, 0.0, held_up_s)
    fetcher = Fetcher(queue, Buffer(), tally, WORKERS, lambda leases: [], lambda jobs: None, lambda: True)

    assert fetcher._room() == pytest.approx(room, abs=1)


def test_workers_that_wait_for_the_settler_end_at_a_stop(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though its queue cannot be told: they have nothing to finish."""
    queue.enqueue_many(some_jobs(500))
    ran: list[str] = []
    many_ran = threading.Event()

    def cannot_be_told(*given: Any) -> None:
        # Not before: from then on nothing is fetched.
        many_ran.wait(BOUND_S)
        raise QueueUnavailable("the server is away")

    monkeypatch.setattr(queue, "settle", cannot_be_told)
    supervisor = Supervisor(queue, {"json": lambda context: ran.append(context.token)}, workers=WORKERS).start()
    until(lambda: len(ran) >= GROUP, "as many have ended as may wait")
    many_ran.set()

    assert supervisor.stop(grace=0.0)

    assert GROUP <= len(ran) <= GROUP + WORKERS


class KeptFrom(threading.Condition):
    """One that a thread of this name cannot take until it is let go."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self.reached, self.let_go = threading.Event(), threading.Event()

    def __enter__(self) -> bool:
        if threading.current_thread().name == self._name:
            self.reached.set()
            assert self.let_go.wait(BOUND_S)
        return super().__enter__()

    def is_waited_for(self) -> bool:
        """Whether some thread sleeps until it is notified."""
        return bool(self._waiters)  # type: ignore[attr-defined]


def test_who_comes_late_to_wake_the_settler_does_not_leave_it_asleep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a worker put was settled with another's before that worker came to say so; then a third one ends."""
    queue = open_queue("memory://test-late")
    queue.enqueue_many(some_jobs(3))
    first, second, third = (Ending(Held(lease, BOUND_S, 0.0), "done") for lease in queue.dequeue_many(3))
    settler = Settler(queue, None, Tally(), Listeners([]), {}, lambda jobs: None)
    filled = KeptFrom("late")
    monkeypatch.setattr(settler, "_filled", filled)
    settler.start()
    until(filled.is_waited_for, "it sleeps")
    late = threading.Thread(target=settler.put, args=[first], name="late")

    late.start()
    assert filled.reached.wait(BOUND_S)
    settler.put(second)
    until(lambda: queue.counts()["done"] == 2, "it settles both")
    until(filled.is_waited_for, "it sleeps again")
    filled.let_go.set()
    late.join(BOUND_S)
    until(filled.is_waited_for, "it looked, and sleeps again")
    settler.put(third)

    until(lambda: queue.counts()["done"] == 3, "it settles the third", BOUND_S)
    settler.stop(BOUND_S)
