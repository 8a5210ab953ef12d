"""Retention: the store forgets what ended long ago, and nothing else."""

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from allocator import ManualClock, Queue, open_queue
from allocator.persistence import Store, StoreUnavailable, open_store
from allocator.supervisor import Retention, Supervisor, reconciler
from allocator.supervisor.reconciler import Reconciler
from tests.contract.builders import BOUND_S
from tests.persistence.builders import finished, running

DAY_S = 86400.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A database of its own."""
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as opened:
        yield opened


@pytest.fixture
def queue() -> Iterator[Queue]:
    """A queue for the supervisor, without jobs."""
    with open_queue("memory://") as opened:
        yield opened


@pytest.fixture
def elsewhere() -> Iterator[Queue]:
    """Another queue on the same store, whose jobs have ended."""
    with open_queue("memory://", name="elsewhere") as opened:
        yield opened


class Rounds:
    """Listens to `Store.retain`: what each call gave, and a way to wait for a number of calls."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.deleted: list[int] = []
        self.failures = 0
        self._retain = store.retain
        self._condition = threading.Condition()
        monkeypatch.setattr(store, "retain", self._note)

    def _note(self, *arguments: Any, **options: Any) -> int:
        try:
            if self.failures:
                self.failures -= 1
                raise StoreUnavailable("the test's database", "full", "no space left", "Wait")
            count = self._retain(*arguments, **options)
        except StoreUnavailable:
            count = -1
            raise
        finally:
            with self._condition:
                self.deleted.append(count)
                self._condition.notify_all()
        return count

    def wait_for(self, count: int) -> None:
        """Return once so many calls have returned."""
        with self._condition:
            assert self._condition.wait_for(lambda: len(self.deleted) >= count, BOUND_S), self.deleted


def test_a_supervisor_deletes_what_ended_long_ago(
    queue: Queue, elsewhere: Queue, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By default after 30 days; what runs, and what ended since, stays."""
    now = time.time()
    old = [finished(store, elsewhere, outcome, at=now - 31 * DAY_S) for outcome in ("done", "dead")]
    recent = finished(store, elsewhere, at=now - 29 * DAY_S)
    runs = running(store, elsewhere).job.id
    rounds = Rounds(store, monkeypatch)

    with caplog.at_level(logging.INFO), Supervisor(queue, {}, store=store):
        rounds.wait_for(1)

    assert [store.job(job_id) for job_id in old] == [None, None]
    assert store.job(recent) is not None
    assert store.job(runs) is not None
    assert "2 jobs that had ended were deleted" in caplog.text


def test_retention_can_be_turned_off(
    queue: Queue, elsewhere: Queue, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nothing is ever deleted."""
    old = finished(store, elsewhere, at=1.0)
    rounds = Rounds(store, monkeypatch)

    with Supervisor(queue, {}, store=store, retention=None):
        pass

    assert store.job(old) is not None
    assert rounds.deleted == []


def test_only_so_many_are_kept(queue: Queue, elsewhere: Queue, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each way to end, the last."""
    now = time.time()
    done = [finished(store, elsewhere, at=now - n) for n in range(5)]
    dead = finished(store, elsewhere, "dead", at=now - 9)
    rounds = Rounds(store, monkeypatch)

    with Supervisor(queue, {}, store=store, retention=Retention(age_s=None, count=2)):
        rounds.wait_for(1)

    assert [store.job(job_id) is not None for job_id in [*done, dead]] == [True, True, False, False, False, True]


def test_much_is_deleted_in_rounds(
    queue: Queue, elsewhere: Queue, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until a round is not full."""
    monkeypatch.setattr(reconciler, "RETAIN_ROUND", 2)
    for _ in range(5):
        finished(store, elsewhere, at=1.0)
    rounds = Rounds(store, monkeypatch)

    with Supervisor(queue, {}, store=store):
        rounds.wait_for(3)

    assert rounds.deleted == [2, 2, 1]
    assert store.counts()["done"] == 0


def test_a_stop_does_not_wait_for_all_of_it(
    queue: Queue, elsewhere: Queue, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The present round is finished, the rest is for the next supervisor."""
    monkeypatch.setattr(reconciler, "RETAIN_ROUND", 1)
    # The pause ends when a stop is asked for; so long that nothing else ends it here.
    monkeypatch.setattr(reconciler, "RETAIN_PAUSE_S", 10 * BOUND_S)
    for _ in range(3):
        finished(store, elsewhere, at=1.0)
    rounds = Rounds(store, monkeypatch)

    with Supervisor(queue, {}, store=store):
        rounds.wait_for(1)

    assert rounds.deleted == [1]
    assert store.counts()["done"] == 2


def test_comparing_goes_on_between_the_rounds(
    queue: Queue, elsewhere: Queue, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much there is to delete, lost jobs are put back in time; the deleting resumes after it."""
    monkeypatch.setattr(reconciler, "RETAIN_ROUND", 1)
    compared: list[int] = []
    compare = reconciler.reconcile

    def noted(*arguments: Any) -> int:
        compared.append(len(rounds.deleted))
        return compare(*arguments)

    monkeypatch.setattr(reconciler, "reconcile", noted)
    for _ in range(3):
        finished(store, elsewhere, at=1.0)
    rounds = Rounds(store, monkeypatch)
    thread = Reconciler(store, queue, interval_s=1e-9)

    thread.start()
    rounds.wait_for(4)
    thread.stop(BOUND_S)

    assert rounds.deleted == [1, 1, 1, 0]
    assert compared[:4] == [0, 1, 2, 3]


def test_it_is_not_looked_for_more_often_than_asked(
    queue: Queue, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comparing is far more frequent."""
    compared = threading.Semaphore(0)
    compare = reconciler.reconcile

    def noted(*arguments: Any) -> int:
        compared.release()
        return compare(*arguments)

    monkeypatch.setattr(reconciler, "reconcile", noted)
    rounds = Rounds(store, monkeypatch)
    thread = Reconciler(store, queue, interval_s=1e-9)

    thread.start()
    for _ in range(10):
        assert compared.acquire(timeout=BOUND_S)
    thread.stop(BOUND_S)

    assert rounds.deleted == [0]


def test_a_store_in_trouble_is_logged_and_tried_again(
    queue: Queue, elsewhere: Queue, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The thread lives on."""
    old = finished(store, elsewhere, at=1.0)
    rounds = Rounds(store, monkeypatch)
    rounds.failures = 1

    with Supervisor(queue, {}, store=store, reconcile_s=1e-3, retention=Retention(every_s=1e-3)):
        rounds.wait_for(2)

    assert rounds.deleted[:2] == [-1, 1]
    assert store.job(old) is None
    assert "could not be deleted" in caplog.text


def test_age_goes_by_the_clock_of_the_queue(elsewhere: Queue, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it has one of its own; by that clock the ends were recorded."""
    old = finished(store, elsewhere, at=100.0)
    rounds = Rounds(store, monkeypatch)
    clock = ManualClock(100.0 + DAY_S)

    with open_queue("memory://", clock=clock) as queue:
        with Supervisor(queue, {}, store=store, retention=Retention(age_s=DAY_S)):
            rounds.wait_for(1)
        kept = store.job(old)
        clock.advance(0.5)
        with Supervisor(queue, {}, store=store, retention=Retention(age_s=DAY_S)):
            rounds.wait_for(2)

    assert kept is not None
    assert store.job(old) is None


@pytest.mark.parametrize(
    ("options", "text"),
    [({"age_s": 0}, "age_s"), ({"count": -1}, "count"), ({"count": True}, "count"), ({"every_s": 0}, "every_s")],
)
def test_wrong_bounds_are_refused(options: dict[str, Any], text: str) -> None:
    """Naming the argument."""
    with pytest.raises(ValueError, match=text):
        Retention(**options)
