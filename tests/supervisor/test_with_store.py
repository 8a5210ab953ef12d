"""The supervisor with a store: the database is the record, whatever happens to the queue."""

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from allocator import Backoff, Job, Queue
from allocator.domain.job import MAX_PAYLOAD_BYTES
from allocator.domain.states import State
from allocator.persistence import JobState, Store, StoreLocked, StoreUnavailable, open_store
from allocator.queue.base import erase
from allocator.queue.inprocess import InProcessQueue
from allocator.supervisor import Context, Supervisor
from allocator.supervisor.held import Held
from allocator.supervisor.reconciler import reconcile
from allocator.supervisor.recording import Recording
from tests.contract.builders import BOUND_S, Clients, a_job, counts, some_jobs, take
from tests.supervisor.test_supervisor import Seen


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A database of its own."""
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as opened:
        yield opened


@pytest.fixture
def eager_queue(open_client: Clients) -> Queue:
    """Real time, and no pause before the next attempt."""
    return open_client(clock=None, backoff=Backoff(base=0.0))


def drained(queue: Queue, store: Store, processors: dict[str, Callable[[Context], Any]], **options: Any) -> Supervisor:
    """Run a supervisor until nothing waits and nothing is held."""
    with Supervisor(queue, processors, store=store, **options) as supervisor:
        assert supervisor.drain(BOUND_S), supervisor.stats()
    return supervisor


def test_a_job_is_recorded_from_submit_to_result(eager_queue: Queue, store: Store) -> None:
    """With its attempts, their errors, and what its processor returned."""
    job = store.submit(eager_queue, a_job())

    def second_time_lucky(context: Context) -> dict[str, int]:
        if context.attempt == 1:
            raise ValueError("not yet")
        return {"width": 640}

    drained(eager_queue, store, {"json": second_time_lucky})

    stored = store.job(job.id)
    assert stored is not None
    assert stored.state == JobState.DONE
    assert stored.result == {"width": 640}
    assert [(attempt.number, attempt.outcome, attempt.error) for attempt in stored.attempts] == [
        (1, "failed", "ValueError: not yet"),
        (2, "done", None),
    ]


def test_a_dead_letter_is_dead_in_both(eager_queue: Queue, store: Store) -> None:
    """With the same error."""
    job = store.submit(eager_queue, a_job(max_retries=1))

    def broken(context: Context) -> None:
        raise ValueError("no such colour")

    drained(eager_queue, store, {"json": broken})

    stored = store.job(job.id)
    assert stored is not None
    assert (stored.state, stored.error) == (JobState.DEAD, "ValueError: no such colour")
    assert [letter.job.id for letter in eager_queue.dead_letters()] == [job.id]


def test_progress_is_read_while_the_job_runs(eager_queue: Queue, store: Store) -> None:
    """Within about a second."""
    job = store.submit(eager_queue, a_job())
    may_end = threading.Event()

    def slow(context: Context) -> None:
        context.progress(3, 10, "frames")
        may_end.wait(BOUND_S)

    def seen_progress() -> tuple[float | None, float | None, str | None]:
        stored = store.job(job.id)
        assert stored is not None
        return stored.progress_done, stored.progress_total, stored.progress_message

    with Supervisor(eager_queue, {"json": slow}, store=store) as supervisor:
        pause = threading.Event()
        for _ in range(100):
            if seen_progress()[0] is not None:
                break
            pause.wait(0.1)
        progress = seen_progress()
        may_end.set()
        assert supervisor.drain(BOUND_S)

    assert progress == (3, 10, "frames")


def test_progress_that_nobody_can_write_stops_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """For whatever reason: it is told, and the next word is written."""
    with InProcessQueue() as queue:
        store.submit(queue, a_job())
        lease = take(queue)
        store.begin([lease], queue)
        recording, held = Recording(store, queue), Held(lease, 60.0, 0.0)

        with monkeypatch.context() as broken:
            broken.setattr(store, "progress", lambda updates: {}["nobody thought of it"])
            recording.report(held, 1, 2, "lost")
            recording.flush()
        recording.report(held, 2, 2, "seen")
        recording.flush()

    stored = store.job(lease.job.id)
    assert stored is not None
    assert (stored.progress_done, stored.progress_message) == (2, "seen")
    assert "nobody thought of it" in caplog.text


@pytest.mark.parametrize("result", [b"bytes", "x" * MAX_PAYLOAD_BYTES], ids=["no JSON", "too long"])
def test_a_result_that_cannot_be_kept_does_not_undo_the_work(eager_queue: Queue, store: Store, result: object) -> None:
    """The job is done, without a result."""
    job = store.submit(eager_queue, a_job())

    drained(eager_queue, store, {"json": lambda context: result})

    stored = store.job(job.id)
    assert stored is not None
    assert (stored.state, stored.result) == (JobState.DONE, None)


def test_a_job_enqueued_past_the_store_is_taken_in(eager_queue: Queue, store: Store) -> None:
    """So that the record is whole."""
    job = eager_queue.enqueue(a_job())

    drained(eager_queue, store, {"json": lambda context: None})

    stored = store.job(job.id)
    assert stored is not None
    assert stored.state == JobState.DONE


def test_a_job_that_is_done_in_the_store_is_not_run_again(eager_queue: Queue, store: Store) -> None:
    """As when the queue lost the ack."""
    job = store.submit(eager_queue, a_job())
    drained(eager_queue, store, {"json": lambda context: None})
    eager_queue.enqueue(a_job(id=job.id))
    runs: list[int] = []

    drained(eager_queue, store, {"json": lambda context: runs.append(1)})

    assert runs == []
    assert eager_queue.size() == 0


def test_a_job_cancelled_in_the_store_is_not_run(eager_queue: Queue, store: Store) -> None:
    """And is cancelled in the queue."""
    job = store.submit(eager_queue, a_job())
    store.cancel(job.id)
    runs: list[int] = []

    drained(eager_queue, store, {"json": lambda context: runs.append(1)})

    assert runs == []
    assert eager_queue.counts() == counts(cancelled=1)


def test_what_the_queue_has_lost_is_put_back(eager_queue: Queue, store: Store, open_client: Clients) -> None:
    """Everything in the queue vanishes; every job is still done, with the attempts that it had failed."""
    fails, *others = store.submit_many(eager_queue, [a_job(type="fails", backoff=Backoff(base=60.0)), *some_jobs(20)])
    attempts: list[int] = []

    def failing(context: Context) -> None:
        attempts.append(context.attempt)
        raise ValueError("no such colour")

    drained_once = Seen()
    processors = {"fails": failing, "json": lambda context: None}
    with Supervisor(eager_queue, processors, store=store, limits={"json": 0}, events=[drained_once]):
        drained_once.wait_for(("retry", fails.id))
    erase(eager_queue)
    emptied = open_client(clock=None)
    put_back = reconcile(store, emptied)
    again = reconcile(store, emptied)
    drained_rest = Seen()
    with Supervisor(emptied, {"json": lambda context: None}, store=store, events=[drained_rest]):
        drained_rest.wait_for(*(("done", job.id) for job in others))

    assert (put_back, again) == (21, 0)
    waiting = store.job(fails.id)
    assert waiting is not None
    assert (waiting.state, waiting.failed_count) == (JobState.QUEUED, 1)
    assert emptied.counts()["scheduled"] == 1


def test_a_supervisor_reconciles_at_its_start(eager_queue: Queue, store: Store, open_client: Clients) -> None:
    """Without being asked."""
    jobs = store.submit_many(eager_queue, some_jobs(5))
    erase(eager_queue)
    seen = Seen()

    with Supervisor(open_client(clock=None), {"json": lambda context: None}, store=store, events=[seen]):
        seen.wait_for(*(("done", job.id) for job in jobs))

    assert store.counts()["done"] == 5


def test_a_death_that_nobody_saw_is_copied_back(open_client: Clients, store: Store) -> None:
    """The worker went silent, and another client reaped the lease."""
    queue = open_client(clock=None, lease_s=0.2)
    job = store.submit(queue, a_job(max_retries=0))
    lease = queue.dequeue(timeout=0)
    assert lease is not None
    store.begin([lease], queue)
    while not queue.reap():
        threading.Event().wait(0.05)

    reconcile(store, queue)

    stored = store.job(job.id)
    assert stored is not None
    assert (stored.state, stored.error) == (JobState.DEAD, "lease expired")


def test_a_store_that_cannot_commit_stops_the_taking_of_jobs(
    eager_queue: Queue, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is acked meanwhile, nothing charged; when it is back, everything is done once."""
    from allocator.persistence import StoreUnavailable

    job, *others = store.submit_many(eager_queue, some_jobs(3))
    refused, may_commit = threading.Event(), threading.Event()
    settle = store.settle
    runs: list[int] = []

    def settle_when_up(endings: Any) -> Any:
        if not may_commit.is_set():
            refused.set()
            raise StoreUnavailable("the test's database", "full", "no space left", "Wait")
        return settle(endings)

    monkeypatch.setattr(store, "settle", settle_when_up)
    with Supervisor(
        eager_queue, {"json": lambda context: runs.append(context.job.payload["n"])}, store=store, workers=1
    ) as supervisor:
        assert refused.wait(BOUND_S)
        done_while_down = eager_queue.counts()["done"]
        may_commit.set()
        assert supervisor.drain(BOUND_S)

    assert done_while_down == 0
    assert sorted(runs) == [0, 1, 2]
    assert eager_queue.counts()["done"] == 3
    assert {stored.attempt for stored in (store.job(one.id) for one in (job, *others)) if stored} == {1}


def test_a_second_process_is_refused_an_in_process_queue(store: Store) -> None:
    """It would take the first one's jobs for lost."""
    from allocator import open_queue

    first, second = open_queue("memory://"), open_queue("memory://")

    with Supervisor(first, {}, store=store), pytest.raises(StoreLocked):
        Supervisor(second, {}, store=store).start()


def test_a_comparison_rests_between_its_pages(
    eager_queue: Queue, open_client: Clients, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is missing there is no hurry, and a stop is heard."""
    monkeypatch.setattr("allocator.supervisor.reconciler.PAGE", 2)
    store.submit_many(eager_queue, some_jobs(5))
    rests: list[float] = []

    def rest(seconds: float) -> bool:
        rests.append(seconds)
        return False

    assert reconcile(store, eager_queue, rest) == 0
    assert len(rests) == 2
    assert all(seconds > 0 for seconds in rests)

    assert reconcile(store, eager_queue, lambda seconds: rest(seconds) or True) == 0
    assert len(rests) == 3

    erase(eager_queue)
    assert reconcile(store, open_client(clock=None), rest) == 5
    assert len(rests) == 3


def test_a_comparison_ends_although_jobs_keep_coming(
    eager_queue: Queue, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is submitted after its start is for the next one."""
    find = eager_queue.find
    came: list[Job] = []

    def find_while_another_comes(ids: Iterable[str]) -> dict[str, State]:
        found = find(ids)
        assert len(came) < 20, "it goes on for as long as jobs come"
        came.append(store.submit(eager_queue, a_job()))
        return found

    store.submit(eager_queue, a_job())
    monkeypatch.setattr(eager_queue, "find", find_while_another_comes)

    assert reconcile(store, eager_queue) == 0
    assert len(came) == 1


def test_a_job_on_its_way_from_store_to_queue_is_not_lost(
    eager_queue: Queue, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The one has it a moment before the other; an operator who is told of a loss each time stops reading."""
    find = eager_queue.find

    def find_before_it_comes(ids: Iterable[str]) -> dict[str, State]:
        found = find(ids)
        eager_queue.enqueue_many(on_its_way)
        on_its_way.clear()
        return found

    with monkeypatch.context() as held_up:
        held_up.setattr(eager_queue, "enqueue_many", list)
        on_its_way = store.submit_many(eager_queue, [a_job()])
    monkeypatch.setattr(eager_queue, "find", find_before_it_comes)

    assert reconcile(store, eager_queue) == 0
    assert caplog.messages == []
    assert eager_queue.counts() == counts(ready=1)


def test_waiting_for_a_limit_leaves_no_trace(eager_queue: Queue, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that was taken and given back because of its type's limit has one attempt in the end, as every other."""
    monkeypatch.setattr("allocator.supervisor.supervisor.GIVE_BACK_S", 0.0)
    jobs = store.submit_many(eager_queue, some_jobs(8))
    seen = Seen()

    drained(eager_queue, store, {"json": lambda context: None}, limits={"json": 1}, events=[seen])

    assert ("released", jobs[-1].id) in seen.told
    for job in jobs:
        stored = store.job(job.id)
        assert stored is not None
        assert [attempt.outcome for attempt in stored.attempts] == ["done"]


def test_a_begin_whose_reply_is_lost_is_given_back_in_the_store_as_well(
    eager_queue: Queue, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt that never started is not taken for lost when the job comes again."""
    monkeypatch.setattr("allocator.supervisor.supervisor.GIVE_BACK_S", 0.0)
    monkeypatch.setattr("allocator.supervisor.fetching.PAUSE_S", 0.01)
    (job,) = store.submit_many(eager_queue, some_jobs(1))
    begin, failures = store.begin, [StoreUnavailable("under test", "down", "the reply is lost", "Nothing to do.")]

    def losing_one_reply(*arguments: Any) -> Any:
        begun = begin(*arguments)
        if failures:
            raise failures.pop()
        return begun

    monkeypatch.setattr(store, "begin", losing_one_reply)

    drained(eager_queue, store, {"json": lambda context: None})

    stored = store.job(job.id)
    assert stored is not None
    assert [attempt.outcome for attempt in stored.attempts] == ["released", "done"]


def test_a_begin_that_fails_for_no_foreseen_reason_gives_the_jobs_back(
    eager_queue: Queue, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held without an end to come, their leases would be extended for ever."""
    monkeypatch.setattr("allocator.supervisor.supervisor.GIVE_BACK_S", 0.0)
    monkeypatch.setattr("allocator.supervisor.fetching.PAUSE_S", 0.01)
    store.submit_many(eager_queue, some_jobs(3))
    begin, failures = store.begin, [RuntimeError("nobody thought of it")]

    def failing_once(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return begin(*arguments)

    monkeypatch.setattr(store, "begin", failing_once)

    drained(eager_queue, store, {"json": lambda context: None})

    assert eager_queue.counts() == counts(done=3)
