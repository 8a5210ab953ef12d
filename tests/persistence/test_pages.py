"""Pages of jobs, and what is kept of them."""

import pytest

from allocator.persistence import Store
from tests.persistence.builders import NOW, FakeQueue, a_job, a_lease, an_ending, finished, running


def test_pages_of_dead_jobs_come_latest_first(store: Store, queue: FakeQueue) -> None:
    """By when they died; ties by id; no job twice and none left out."""
    ids = [finished(store, queue, "dead", at=NOW + n // 2, id=f"dead-{n}") for n in range(5)]
    finished(store, FakeQueue("other"), "dead")
    finished(store, queue)

    first = store.jobs(state="dead", queue=queue.identity, limit=2)
    second = store.jobs(state="dead", queue=queue.identity, limit=2, after=first[-1])
    third = store.jobs(state="dead", queue=queue.identity, limit=2, after=second[-1].id)

    assert [job.id for job in first + second + third] == ids[::-1]


def test_pages_of_every_state_and_type(store: Store, queue: FakeQueue) -> None:
    """Each filter gives its own jobs; without one the last come first."""
    done = finished(store, queue, id="1-done")
    cancelled = finished(store, queue, "cancelled", id="2-cancelled")
    lease = running(store, queue, id="3-processing", type="media")
    queued = store.submit(queue, a_job(id="4-queued", type="media"))

    assert [job.id for job in store.jobs()] == [queued.id, lease.job.id, cancelled, done]
    assert [job.id for job in store.jobs(after=lease.job.id)] == [cancelled, done]
    assert [job.id for job in store.jobs(state="done")] == [done]
    assert [job.id for job in store.jobs(state="cancelled")] == [cancelled]
    assert [job.id for job in store.jobs(state="processing")] == [lease.job.id]
    assert [job.id for job in store.jobs(state="queued")] == [queued.id]
    assert [job.id for job in store.jobs(type="media")] == [queued.id, lease.job.id]
    assert store.jobs(queue="nobody's") == []
    assert store.counts() == {"queued": 1, "processing": 1, "done": 1, "dead": 0, "cancelled": 1}
    assert store.counts("nobody's")["done"] == 0


def test_pages_of_waiting_jobs_leave_none_out(store: Store, queue: FakeQueue) -> None:
    """Also where several queues share the store."""
    other = FakeQueue("another")
    ids = {store.submit(where, a_job()).id for where in (queue, other) * 3}

    pages = [store.jobs(state="queued", limit=4)]
    pages.append(store.jobs(state="queued", limit=4, after=pages[0][-1].id))

    assert [len(page) for page in pages] == [4, 2]
    assert {job.id for page in pages for job in page} == ids


def test_a_page_after_a_job_that_is_gone(store: Store) -> None:
    """Says what to pass instead."""
    with pytest.raises(KeyError, match="pass the job"):
        store.jobs(after="gone")


def test_an_unknown_state_is_refused(store: Store) -> None:
    """Rather than found empty."""
    with pytest.raises(ValueError, match="leased"):
        store.jobs(state="leased")


def test_retention_by_age(store: Store, queue: FakeQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ended longer ago goes, in batches and with its attempts; what has not ended stays."""
    monkeypatch.setattr("allocator.persistence.store.RETAIN_BATCH", 2)
    old = [finished(store, queue, outcome, at=NOW) for outcome in ("done", "done", "done", "dead", "cancelled")]
    young = finished(store, queue, at=NOW + 50)
    waiting = store.submit(queue, a_job())

    deleted = store.retain(age_s=50, now=NOW + 100)

    assert deleted == len(old)
    assert {job.id for job in store.jobs()} == {young, waiting.id}
    assert store.settle([an_ending(a_lease(a_job(id=old[0])), "done")]) != []
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT job_id FROM attempts").scalars().all() == [young]


def test_retention_by_count(store: Store, queue: FakeQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each state the last ones stay, so that the done do not push out the dead."""
    monkeypatch.setattr("allocator.persistence.store.RETAIN_BATCH", 2)
    done = [finished(store, queue, at=NOW + n // 3, id=f"done-{n}") for n in range(8)]
    dead = [finished(store, queue, "dead", at=NOW - n) for n in range(2)]

    deleted = store.retain(count=2)

    assert deleted == 6
    assert {job.id for job in store.jobs()} == {*done[-2:], *dead}
    assert store.retain(count=2) == 0


def test_retention_stops_at_a_limit(store: Store, queue: FakeQueue) -> None:
    """By age and by number, over all states; the rest goes with the next calls."""
    for n in range(3):
        finished(store, queue, at=NOW + n)
        finished(store, queue, "dead", at=NOW + n)

    by_age = [store.retain(age_s=10, now=NOW + 100, limit=2) for _ in range(2)]
    by_count = [store.retain(count=0, limit=1) for _ in range(3)]

    assert by_age == [2, 2]
    assert by_count == [1, 1, 0]
