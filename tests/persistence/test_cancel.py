"""Cancelling, and what the reconciler copies back."""

from allocator.domain.states import State
from allocator.persistence import Store
from tests.persistence.builders import NOW, FakeQueue, a_job, a_lease, an_ending, finished, running, state_of


def test_a_waiting_job_is_cancelled_at_once(store: Store, queue: FakeQueue) -> None:
    """And only once."""
    job = store.submit(queue, a_job())

    answers = [store.cancel(job.id, at=NOW + 1), store.cancel(job.id), store.cancel("nobody")]

    assert answers == [True, False, False]
    assert state_of(store, job.id) == "cancelled"


def test_a_running_job_is_cancelled_unless_it_gets_done(store: Store, queue: FakeQueue) -> None:
    """Done wins; a retry, a release and a death become cancelled."""
    leases = {outcome: running(store, queue) for outcome in ("done", "retry", "released", "dead")}
    for lease in leases.values():
        assert store.cancel(lease.job.id)

    fenced = store.settle([an_ending(lease, outcome) for outcome, lease in leases.items()])

    states = [state_of(store, lease.job.id) for lease in leases.values()]
    assert fenced == []
    assert states == ["done", "cancelled", "cancelled", "cancelled"]


def test_a_job_that_was_to_be_cancelled_does_not_begin_again(store: Store, queue: FakeQueue) -> None:
    """Its worker went silent, so that nobody was left to end it."""
    silent = running(store, queue)
    store.cancel(silent.job.id)
    later = a_lease(silent.job, attempt=2, at=NOW + 15)

    begun = store.begin([later], queue)

    job = store.job(silent.job.id)
    assert begun.cancelled == [later]
    assert job is not None
    assert (job.state, [attempt.outcome for attempt in job.attempts]) == ("cancelled", ["lost"])


def test_what_died_in_the_queue_is_copied_back(store: Store, queue: FakeQueue) -> None:
    """Dead and cancelled are; what waits or is leased there is not."""
    silent, waiting, called_off = running(store, queue), store.submit(queue, a_job()), store.submit(queue, a_job())
    seen = store.unfinished(queue.identity)
    states = {silent.job.id: State.DEAD, waiting.id: State.READY, called_off.id: State.CANCELLED, "other": State.DEAD}

    changed = store.copy_back(states, seen, at=NOW + 60)

    dead = store.job(silent.job.id)
    assert sorted(changed) == sorted([silent.job.id, called_off.id])
    assert dead is not None
    assert (dead.state, dead.error, dead.failed_count, dead.finished_at) == ("dead", "lease expired", 1, NOW + 60)
    assert [attempt.outcome for attempt in dead.attempts] == ["lost"]
    assert state_of(store, waiting.id) == "queued"
    assert state_of(store, called_off.id) == "cancelled"


def test_what_died_in_the_queue_before_its_first_begin_can_be_put_back(store: Store, queue: FakeQueue) -> None:
    """Its workers all went silent before they said anything to the store."""
    job = store.submit(queue, a_job())
    store.copy_back({job.id: "dead"}, store.unfinished(queue.identity), at=NOW + 60)
    lease = a_lease(job, attempt=1, at=NOW + 90)

    begun = store.begin([lease], queue)

    assert begun.runnable == [lease]
    assert store.settle([an_ending(lease)]) == []


def test_a_job_that_moved_on_is_not_copied_back(store: Store, queue: FakeQueue) -> None:
    """Between the look and the copy it was put back and somebody began it."""
    silent = running(store, queue)
    seen = store.unfinished(queue.identity)
    later = a_lease(silent.job, attempt=1, at=NOW + 30)
    store.begin([later], queue)

    changed = store.copy_back({silent.job.id: "dead"}, seen)

    assert changed == []
    assert store.settle([an_ending(later)]) == []


def test_a_reconciler_sees_its_own_queue_only(store: Store, queue: FakeQueue) -> None:
    """Pages of what has not ended, in the order of ids, and a second look at them."""
    other = FakeQueue("redis:other:default")
    jobs = store.submit_many(queue, [a_job(id=f"job-{n}") for n in range(5)])
    store.submit(other, a_job())
    lease = a_lease(jobs[1])
    store.begin([lease], queue)
    store.settle([an_ending(lease)])
    finished(store, queue, "dead", id="dead")

    first = store.unfinished(queue.identity, limit=2)
    second = store.unfinished(queue.identity, after_id=first[-1].id, limit=10)
    again = store.still_unfinished(["job-1", "job-2", "nobody", "dead"])

    assert [job.id for job in first] == ["job-0", "job-2"]
    assert [job.id for job in second] == ["job-3", "job-4"]
    assert [job.id for job in again] == ["job-2"]
