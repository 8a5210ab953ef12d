"""Beginning, reporting and settling attempts; what a late worker may not do."""

import pytest

from allocator.domain.deadletter import MAX_ERROR_BYTES, MAX_TRACEBACK_BYTES
from allocator.persistence import Outcome, Progress, Store
from tests.persistence.builders import NOW, FakeQueue, a_job, a_lease, an_ending, finished, running, state_of


def test_an_attempt_that_runs_is_recorded(store: Store, queue: FakeQueue) -> None:
    """While a job runs, it is processing under its lease's token, and its attempt is the last of the list."""
    lease = running(store, queue)

    job = store.job(lease.job.id)

    assert job is not None
    assert (job.state, job.token, job.attempt, job.worker) == ("processing", lease.token, 1, "here:1")
    (attempt,) = job.attempts
    assert (attempt.number, attempt.outcome, attempt.leased_at, attempt.finished_at) == (1, "running", NOW, None)


def test_a_done_job_has_its_result(store: Store, queue: FakeQueue) -> None:
    """Result, instants and the attempt are read back as they were settled."""
    lease = running(store, queue)

    fenced = store.settle([an_ending(lease, result=b'{"rows":[1,2]}', started_at=NOW + 0.25, finished_at=NOW + 2)])

    job = store.job(lease.job.id)
    assert fenced == []
    assert job is not None
    assert (job.state, job.token, job.result, job.failed_count) == ("done", None, {"rows": [1, 2]}, 0)
    assert (job.leased_at, job.started_at, job.finished_at) == (NOW, NOW + 0.25, NOW + 2)
    (attempt,) = job.attempts
    assert (attempt.outcome, attempt.started_at, attempt.finished_at) == (Outcome.DONE, NOW + 0.25, NOW + 2)


def test_a_failed_attempt_waits_for_the_next(store: Store, queue: FakeQueue) -> None:
    """A retry is queued until it is due, with its error; the attempts stay in order to the end."""
    lease = running(store, queue)

    store.settle([an_ending(lease, "retry", error="no disk", traceback="line 1", due_at=NOW + 3)])

    waiting = store.job(lease.job.id)
    assert waiting is not None
    assert (waiting.state, waiting.due_at, waiting.failed_count, waiting.error) == ("queued", NOW + 3, 1, "no disk")
    assert waiting.job(NOW + 1).failed_count == 1

    second = a_lease(lease.job, attempt=2, at=NOW + 3)
    store.begin([second], queue)
    store.settle([an_ending(second, "dead", error="still no disk")])

    dead = store.job(lease.job.id)
    assert dead is not None
    assert (dead.state, dead.failed_count, dead.error, dead.finished_at) == ("dead", 2, "still no disk", NOW + 4)
    assert [(a.number, a.outcome, a.error, a.traceback) for a in dead.attempts] == [
        (1, "failed", "no disk", "line 1"),
        (2, "failed", "still no disk", None),
    ]


def test_a_release_is_not_charged(store: Store, queue: FakeQueue) -> None:
    """A lease given back untried leaves the count of failures as it was."""
    lease = a_lease(store.submit(queue, a_job()), attempt=3)
    store.begin([lease], queue)

    store.settle([an_ending(lease, "released", due_at=NOW + 1)])

    job = store.job(lease.job.id)
    assert job is not None
    assert (job.state, job.failed_count, job.due_at) == ("queued", 2, NOW + 1)
    assert [attempt.outcome for attempt in job.attempts] == ["released"]


def test_a_worker_that_went_silent_is_recorded_when_the_next_begins(store: Store, queue: FakeQueue) -> None:
    """The attempt that never ended is lost, with its worker and its lease's instant."""
    silent = running(store, queue)
    store.progress([Progress(silent.job.id, silent.token, 1, 2, "half", started_at=NOW + 0.5)])

    later = a_lease(silent.job, attempt=2, at=NOW + 15)
    store.begin([later], queue)

    job = store.job(silent.job.id)
    assert job is not None
    assert (job.token, job.failed_count, job.progress_done, job.started_at) == (later.token, 1, None, None)
    lost, present = job.attempts
    assert (lost.number, lost.outcome, lost.error, lost.started_at, lost.finished_at) == (
        1,
        "lost",
        "lease expired",
        NOW + 0.5,
        NOW + 15,
    )
    assert (present.number, present.outcome) == (2, "running")


def test_a_late_settlement_changes_nothing(store: Store, queue: FakeQueue) -> None:
    """Whatever a worker says whose lease was taken over, it comes back to it, and the job goes on."""
    silent = running(store, queue)
    later = a_lease(silent.job, attempt=2, at=NOW + 15)
    store.begin([later], queue)
    late = [an_ending(silent, outcome) for outcome in ("done", "retry", "dead", "released", "cancelled")]

    fenced = store.settle(late)
    store.progress([Progress(silent.job.id, silent.token, 9, 9, "late")])

    job = store.job(silent.job.id)
    assert fenced == late
    assert job is not None
    assert (job.state, job.token, job.progress_done) == ("processing", later.token, None)
    assert store.settle([an_ending(later)]) == []


def test_a_late_begin_does_not_take_over(store: Store, queue: FakeQueue) -> None:
    """A lease given earlier cannot begin once a later one has, whether that one still runs or not."""
    job = store.submit(queue, a_job())
    early, late = a_lease(job, at=NOW), a_lease(job, at=NOW + 15)
    store.begin([late], queue)

    while_running = store.begin([early], queue)
    store.settle([an_ending(late, "released")])
    afterwards = store.begin([early], queue)

    assert while_running.lost == [early]
    assert afterwards.lost == [early]
    assert state_of(store, job.id) == "queued"


def test_what_is_done_is_not_run_again(store: Store, queue: FakeQueue) -> None:
    """A lease of a job that is done, cancelled or given up is sorted out; the others of its batch run."""
    done, dead, cancelled = finished(store, queue), finished(store, queue, "dead"), finished(store, queue, "cancelled")
    fresh = store.submit(queue, a_job())
    by_id = {job.id: job for job in queue.enqueued}
    leases = {key: a_lease(by_id[key], attempt=2, at=NOW + 20) for key in (done, dead, cancelled, fresh.id)}

    begun = store.begin(leases.values(), queue)

    assert begun.finished == [leases[done]]
    assert begun.dead == [leases[dead]]
    assert begun.cancelled == [leases[cancelled]]
    assert begun.runnable == [leases[fresh.id]]
    assert [state_of(store, key) for key in (done, dead, cancelled)] == ["done", "dead", "cancelled"]


def test_a_dead_letter_that_was_put_back_runs(store: Store, queue: FakeQueue) -> None:
    """Its attempts count from 1 again, and the earlier ones stay."""
    lease = running(store, queue)
    store.settle([an_ending(lease, "dead", error="broken")])
    again = a_lease(lease.job, attempt=1, at=NOW + 100)

    begun = store.begin([again], queue)
    store.settle([an_ending(again)])

    job = store.job(lease.job.id)
    assert begun.runnable == [again]
    assert job is not None
    assert (job.state, job.failed_count, job.finished_at) == ("done", 0, NOW + 101)
    assert [(attempt.number, attempt.outcome) for attempt in job.attempts] == [(1, "failed"), (1, "done")]


def test_a_job_enqueued_past_the_store_is_taken_in(store: Store, queue: FakeQueue) -> None:
    """The first lease of a stranger makes its row."""
    stranger = a_lease(a_job(id="stranger", payload=[1], max_retries=1, enqueued_at=NOW - 9), attempt=2)

    begun = store.begin([stranger], queue)
    store.settle([an_ending(stranger)])

    job = store.job("stranger")
    assert begun.runnable == [stranger]
    assert job is not None
    assert (job.state, job.queue, job.payload, job.max_retries) == ("done", queue.identity, [1], 1)
    assert job.submitted_at == NOW - 9


def test_duplicates_in_one_batch(store: Store, queue: FakeQueue) -> None:
    """Of two leases of one job the later runs; the same lease twice is one; the first ending of a lease counts."""
    job = store.submit(queue, a_job())
    early, late = a_lease(job, at=NOW), a_lease(job, at=NOW + 15)

    begun = store.begin([late, early, late], queue)
    first, second = an_ending(late), an_ending(late, "dead")
    fenced = store.settle([first, second])

    assert (begun.runnable, begun.lost) == ([late], [early])
    assert fenced == [second]
    assert state_of(store, job.id) == "done"


def test_repeats_after_a_lost_reply(store: Store, queue: FakeQueue) -> None:
    """The same begin and the same endings again change nothing more and get the same answers."""
    leases = [a_lease(job) for job in store.submit_many(queue, [a_job(), a_job(), a_job()])]
    endings = [an_ending(lease, outcome) for lease, outcome in zip(leases, ("done", "retry", "dead"), strict=True)]

    begun = [store.begin(leases, queue).runnable for _ in range(2)]
    fenced = [store.settle(endings) for _ in range(2)]

    assert begun == [leases, leases]
    assert fenced == [[], []]
    jobs = [store.job(lease.job.id) for lease in leases]
    assert [(job.state, len(job.attempts)) for job in jobs if job] == [("done", 1), ("queued", 1), ("dead", 1)]


def test_a_lease_that_ended_before_does_not_keep_others_from_ending(store: Store, queue: FakeQueue) -> None:
    """It began again, as when a begin arrives late: what its attempt came to stays, and its job has the new end."""
    twice, once = running(store, queue), running(store, queue)
    store.settle([an_ending(twice, "retry", error="no disk")])

    begun = store.begin([twice], queue)
    fenced = store.settle([an_ending(twice), an_ending(once)])

    assert begun.runnable == [twice]
    assert fenced == []
    assert [state_of(store, lease.job.id) for lease in (twice, once)] == ["done", "done"]
    job = store.job(twice.job.id)
    assert job is not None
    assert [(attempt.outcome, attempt.error) for attempt in job.attempts] == [("failed", "no disk")]


def test_an_unknown_outcome_is_refused_as_a_whole(store: Store, queue: FakeQueue) -> None:
    """A mistake in one ending leaves the others undone."""
    first, second = running(store, queue), running(store, queue)

    with pytest.raises(ValueError, match="must be done, retry"):
        store.settle([an_ending(first), an_ending(second, "fine")])

    assert state_of(store, first.job.id) == "processing"


def test_an_ending_of_a_job_that_the_store_does_not_know_comes_back(store: Store) -> None:
    """Nothing is invented for it."""
    ending = an_ending(a_lease(a_job(id="nobody")))

    assert store.settle([ending]) == [ending]
    assert store.job("nobody") is None


def test_errors_that_no_database_would_take(store: Store, queue: FakeQueue) -> None:
    """NUL and lone surrogates are written out, and long texts keep their end."""
    lease = running(store, queue, type="a\0b")
    lease.worker = "w\0\ud800"

    store.progress([Progress(lease.job.id, lease.token, 1, 2, "half \0 \ud800")])
    during = store.job(lease.job.id)
    store.settle([an_ending(lease, "dead", error="bad \0 \ud800 name", traceback="x" * 99_999 + "the end \0")])

    job = store.job(lease.job.id)
    assert during is not None
    assert during.progress_message == "half \\0 \\ud800"
    assert job is not None
    assert (job.type, job.worker, job.error) == ("a\\0b", "w\\0\\ud800", "bad \\0 \\ud800 name")
    traceback = job.attempts[0].traceback or ""
    assert traceback.endswith("the end \\0")
    assert len(traceback) <= MAX_TRACEBACK_BYTES
    assert len(job.error or "") <= MAX_ERROR_BYTES


def test_a_result_of_a_mebibyte_comes_back(store: Store, queue: FakeQueue) -> None:
    """Large results are kept whole."""
    lease = running(store, queue)
    result = b'"' + b"x" * 1024 * 1024 + b'"'

    store.settle([an_ending(lease, result=result)])

    job = store.job(lease.job.id)
    assert job is not None
    assert job.result_json == result


def test_progress_is_seen_while_the_job_runs(store: Store, queue: FakeQueue) -> None:
    """The last word about an attempt that runs is read back."""
    lease = running(store, queue)

    store.progress([Progress(lease.job.id, lease.token, 3, 10, "copying", started_at=NOW + 1)])
    store.progress([Progress(lease.job.id, lease.token, 4, 10, None)])

    job = store.job(lease.job.id)
    assert job is not None
    assert (job.progress_done, job.progress_total, job.progress_message, job.started_at) == (4, 10, None, NOW + 1)


def test_a_clock_that_was_set_back_does_not_hold_up_retries(store: Store, queue: FakeQueue) -> None:
    """A higher attempt is the later one, whatever the clock says."""
    lease = running(store, queue)

    begun = store.begin([a_lease(lease.job, attempt=2, at=NOW - 3600)], queue)

    assert len(begun.runnable) == 1
