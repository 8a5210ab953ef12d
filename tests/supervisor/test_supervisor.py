"""The supervisor on every backend: every job that it takes is given its end."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from allocator import Backoff, Lease, Queue
from allocator.queue.inprocess import InProcessQueue
from allocator.supervisor import Context, Events, GiveUp, Supervisor
from tests.contract.builders import BOUND_S, Clients, a_job, counts, some_jobs

AT_ONCE = Backoff(base=0.0)


@pytest.fixture
def eager_queue(open_client: Clients) -> Queue:
    """Real time, and no pause before the next attempt."""
    return open_client(clock=None, backoff=AT_ONCE)


class Seen(Events):
    """Notes what it is told, and lets a test wait for it."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self._condition = threading.Condition()

    def _note(self, hook: str, lease: Lease) -> None:
        with self._condition:
            self.told.append((hook, lease.job.id))
            self._condition.notify_all()

    def on_started(self, lease: Lease) -> None:
        self._note("started", lease)

    def on_done(self, lease: Lease, wait_s: float, service_s: float) -> None:
        self._note("done", lease)

    def on_retry(self, lease: Lease, error: str, delay_s: float) -> None:
        self._note("retry", lease)

    def on_dead(self, lease: Lease, error: str) -> None:
        self._note("dead", lease)

    def on_released(self, lease: Lease) -> None:
        self._note("released", lease)

    def on_lost(self, lease: Lease) -> None:
        self._note("lost", lease)

    def wait_for(self, *wanted: tuple[str, str]) -> None:
        """Return once all of these were told."""
        with self._condition:
            arrived = self._condition.wait_for(lambda: set(wanted) <= set(self.told), BOUND_S)
        assert arrived, f"{wanted} not all in {self.told}"


def drained(queue: Queue, processors: dict[str, Callable[[Context], Any]], **options: Any) -> Supervisor:
    """Run a supervisor until nothing waits and nothing is held."""
    with Supervisor(queue, processors, **options) as supervisor:
        assert supervisor.drain(BOUND_S), supervisor.stats()
    return supervisor


def test_every_job_is_done_once(eager_queue: Queue) -> None:
    """Four workers, five hundred jobs."""
    eager_queue.enqueue_many(some_jobs(500))
    done: list[int] = []

    supervisor = drained(eager_queue, {"json": lambda context: done.append(context.job.payload["n"])})

    assert sorted(done) == list(range(500))
    assert eager_queue.counts() == counts(done=500)
    assert supervisor.stats().done == 500


def test_a_failed_attempt_is_tried_again(eager_queue: Queue) -> None:
    """With the next number, until it succeeds."""
    eager_queue.enqueue(a_job())
    attempts: list[int] = []

    def third_time_lucky(context: Context) -> None:
        attempts.append(context.attempt)
        if context.attempt < 3:
            raise ValueError("not yet")

    drained(eager_queue, {"json": third_time_lucky})

    assert attempts == [1, 2, 3]
    assert eager_queue.counts() == counts(done=1)


def test_a_job_that_always_fails_ends_as_a_dead_letter(eager_queue: Queue) -> None:
    """With the error and the traceback of each attempt."""
    eager_queue.enqueue(a_job(max_retries=2))

    def broken(context: Context) -> None:
        raise ValueError("no such colour")

    drained(eager_queue, {"json": broken})

    (letter,) = eager_queue.dead_letters()
    assert letter.error == "ValueError: no such colour"
    assert [attempt.number for attempt in letter.attempts] == [1, 2, 3]
    assert all("in broken" in (attempt.traceback or "") for attempt in letter.attempts)


def test_giving_up_needs_no_further_attempt(eager_queue: Queue) -> None:
    """The reason is the dead letter's error."""
    eager_queue.enqueue(a_job())

    def refuse(context: Context) -> None:
        raise GiveUp("not an image")

    drained(eager_queue, {"json": refuse})

    assert [letter.error for letter in eager_queue.dead_letters()] == ["not an image"]


def test_an_unknown_type_ends_as_a_dead_letter(eager_queue: Queue) -> None:
    """And the others go on."""
    eager_queue.enqueue_many([a_job(type="film"), a_job()])

    drained(eager_queue, {"json": lambda context: None})

    (letter,) = eager_queue.dead_letters()
    assert letter.error == "no processor for type 'film'; this supervisor has: json"
    assert eager_queue.counts() == counts(done=1, dead=1)


def test_types_that_are_not_held_any_more_are_forgotten() -> None:
    """Whoever may enqueue can think of any number of types, and must not fill the memory with them."""
    with InProcessQueue() as queue:
        queue.enqueue_many([a_job(type=f"type-{n}") for n in range(100)])

        supervisor = drained(queue, {"json": lambda context: None})

        assert queue.counts() == counts(dead=100)
    assert len(supervisor._held_types) == 0


def test_a_coroutine_is_a_processor(eager_queue: Queue) -> None:
    """It runs to its end in the worker's thread."""
    eager_queue.enqueue(a_job())

    drained(eager_queue, {"json": "tests.supervisor.programs:co"})

    assert eager_queue.counts() == counts(done=1)


def test_one_worker_follows_the_order_of_the_queue(eager_queue: Queue) -> None:
    """Priority first, then the order of acceptance."""
    eager_queue.enqueue_many([a_job(payload={"n": n}, priority=priority) for n, priority in enumerate((0, 5, 0, 5, 9))])
    order: list[int] = []

    drained(eager_queue, {"json": lambda context: order.append(context.job.payload["n"])}, workers=1)

    assert order == [4, 1, 3, 0, 2]


def test_a_stop_gives_back_what_was_not_started(eager_queue: Queue) -> None:
    """What runs is finished, what was only fetched is not charged."""
    jobs = eager_queue.enqueue_many(some_jobs(10))
    seen, may_end = Seen(), threading.Event()

    def wait(context: Context) -> None:
        may_end.wait(BOUND_S)

    supervisor = Supervisor(eager_queue, {"json": wait}, workers=1, events=[seen]).start()
    seen.wait_for(("started", jobs[0].id))
    stopper = threading.Thread(target=supervisor.stop)
    stopper.start()
    supervisor.stopping.wait(BOUND_S)
    may_end.set()
    stopper.join(BOUND_S)

    assert eager_queue.counts() == counts(done=1, ready=9)
    lease = eager_queue.dequeue(timeout=0)
    assert lease is not None
    assert (lease.job.id, lease.attempt) == (jobs[1].id, 1)


def test_a_stop_may_be_said_twice(eager_queue: Queue) -> None:
    """And before anything was done."""
    supervisor = Supervisor(eager_queue, {}).start()

    assert supervisor.stop()
    assert supervisor.stop()


def test_a_thread_that_outlasts_the_grace_is_left_to_its_lease(open_client: Clients) -> None:
    """Stop says so; the lease is not extended any more, and the job runs elsewhere."""
    queue = open_client(clock=None, lease_s=0.5)
    (job,) = queue.enqueue_many(some_jobs(1))
    seen, may_end = Seen(), threading.Event()
    supervisor = Supervisor(queue, {"json": lambda context: may_end.wait(BOUND_S)}, events=[seen]).start()
    seen.wait_for(("started", job.id))

    ended = supervisor.stop(grace=0.0)
    lease = queue.dequeue(timeout=BOUND_S)
    may_end.set()

    assert not ended
    assert lease is not None
    assert (lease.job.id, lease.attempt) == (job.id, 2)


def test_what_runs_keeps_its_lease(open_client: Clients) -> None:
    """For longer than the lease was given."""
    queue = open_client(clock=None, lease_s=1.5)
    queue.enqueue(a_job())

    drained(queue, {"json": lambda context: threading.Event().wait(1.8)})

    assert queue.counts() == counts(done=1)


def test_a_worker_that_dies_of_a_base_exception_is_replaced(eager_queue: Queue) -> None:
    """Its job is charged, and the next worker goes on."""
    eager_queue.enqueue_many([a_job(type="exit", max_retries=0), *some_jobs(5)])

    supervisor = drained(
        eager_queue,
        {"exit": "tests.supervisor.programs:raise_system_exit", "json": lambda context: None},
        workers=1,
    )

    assert eager_queue.counts() == counts(done=5, dead=1)
    assert eager_queue.dead_letters()[0].error == "SystemExit: 4"
    assert supervisor.stats().restarts == 1


def test_a_thread_over_its_timeout_is_replaced(open_client: Clients) -> None:
    """Its lease runs out, the other jobs go on, and its late word changes nothing."""
    queue = open_client(clock=None, lease_s=1.0, backoff=AT_ONCE)
    slow, *others = queue.enqueue_many([a_job(type="slow", timeout=0.2, max_retries=0), *some_jobs(5)])
    may_end, seen = threading.Event(), Seen()
    processors: dict[str, Any] = {"slow": lambda context: may_end.wait(BOUND_S), "json": lambda context: None}

    with Supervisor(queue, processors, workers=1, events=[seen]) as supervisor:
        seen.wait_for(*(("done", job.id) for job in others))
        assert supervisor.drain(BOUND_S)
        while queue.counts()["leased"]:
            queue.reap()
        may_end.set()
        seen.wait_for(("lost", slow.id))

    assert [letter.error for letter in queue.dead_letters()] == ["lease expired"]
    assert queue.counts() == counts(done=5, dead=1)


def test_too_many_hanging_threads_end_the_supervisor(open_client: Clients) -> None:
    """It takes no more jobs, and its exit status says so."""
    queue = open_client(clock=None, backoff=AT_ONCE)
    queue.enqueue_many([a_job(timeout=0.1) for _ in range(2)])
    may_end = threading.Event()

    status = Supervisor(queue, {"json": lambda context: may_end.wait(BOUND_S)}, workers=1).run(grace=0.0)
    may_end.set()

    assert status == 1


def test_a_limit_holds_for_its_type(eager_queue: Queue) -> None:
    """Two of a type at most, whatever the number of workers; the others wait, uncharged."""
    eager_queue.enqueue_many([a_job(type="few", payload={"n": n}, max_retries=0) for n in range(4)])
    lock, running, most = threading.Lock(), 0, 0
    two_run = threading.Event()

    def few(context: Context) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == 2:
                two_run.set()
        two_run.wait(BOUND_S)
        with lock:
            running -= 1

    supervisor = drained(eager_queue, {"few": few}, workers=4, limits={"few": 2})

    assert most == 2
    assert eager_queue.counts() == counts(done=4)
    assert supervisor.stats().released > 0


def test_a_cancelled_job_is_told(open_client: Clients) -> None:
    """Through the context, at the next extension; what it does then is discarded."""
    queue = open_client(clock=None, lease_s=0.3)
    (job,) = queue.enqueue_many(some_jobs(1))
    seen = Seen()

    def patient(context: Context) -> None:
        while not context.cancelled:
            threading.Event().wait(0.01)
        raise ValueError("stopped half-way")

    with Supervisor(queue, {"json": patient}, events=[seen]) as supervisor:
        seen.wait_for(("started", job.id))
        queue.cancel(job.id)
        assert supervisor.drain(BOUND_S)

    assert queue.counts() == counts(cancelled=1)


def test_a_hook_that_fails_harms_no_job(eager_queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged."""

    class Broken(Events):
        def on_done(self, lease: Lease, wait_s: float, service_s: float) -> None:
            raise RuntimeError("metrics are down")

    eager_queue.enqueue(a_job())

    with caplog.at_level(logging.ERROR):
        drained(eager_queue, {"json": lambda context: None}, events=[Broken()])

    assert eager_queue.counts() == counts(done=1)
    assert "the hook on_done" in caplog.text


def test_stats_tell_what_a_worker_is_at(eager_queue: Queue) -> None:
    """The job, its type, and that it runs."""
    job = eager_queue.enqueue(a_job())
    seen, may_end = Seen(), threading.Event()

    with Supervisor(
        eager_queue, {"json": lambda context: may_end.wait(BOUND_S)}, workers=1, events=[seen]
    ) as supervisor:
        seen.wait_for(("started", job.id))
        (worker,) = supervisor.stats().workers
        may_end.set()

    assert (worker.state, worker.job_id, worker.job_type) == ("running", job.id, "json")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"workers": 0}, "at least one of them"),
        ({"workers": -1}, "workers: must be an integer"),
        ({"processes": 1}, "module:function"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"limits": {"json": "2"}}, "limits: that of 'json' must be an integer of at least 0, not '2'"),
        ({"backoffs": {"json": 2.0}}, "backoffs: that of 'json' must be a Backoff, not 2.0"),
    ],
)
def test_wrong_arguments_are_refused(eager_queue: Queue, options: dict[str, Any], text: str) -> None:
    """Before anything starts, naming the argument."""
    with pytest.raises(ValueError, match=text):
        Supervisor(eager_queue, {"json": lambda context: None}, **options)


def test_a_processor_that_cannot_be_found_is_refused(eager_queue: Queue) -> None:
    """Naming it."""
    with pytest.raises(ValueError, match="programs:nothing"):
        Supervisor(eager_queue, {"json": "tests.supervisor.programs:nothing"})


def test_signals_need_the_main_thread(eager_queue: Queue) -> None:
    """Elsewhere it says so, and nothing is started."""
    supervisor = Supervisor(eager_queue, {}, handle_signals=True)
    errors: list[Exception] = []

    def start() -> None:
        try:
            supervisor.start()
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join(BOUND_S)

    assert "main thread" in str(errors[0])


def test_a_lease_that_was_lost_before_its_start_is_not_held_any_more(eager_queue: Queue) -> None:
    """It is not run, and does not count against the limit of its type."""
    job = eager_queue.enqueue(a_job())
    seen, runs = Seen(), []
    supervisor = Supervisor(eager_queue, {"json": runs.append}, workers=1, events=[seen])
    lease = eager_queue.dequeue(timeout=0)
    assert lease is not None
    (held,) = supervisor._accept([lease])
    eager_queue.ack(lease)
    held.lost = True
    supervisor._buffer.put([held])

    with supervisor:
        seen.wait_for(("lost", job.id))
        assert supervisor.drain(BOUND_S)

    assert runs == []
    assert supervisor._held_types["json"] == 0


def test_a_stop_before_the_start_is_nothing(eager_queue: Queue) -> None:
    """As when what comes between making and starting has failed."""
    assert Supervisor(eager_queue, {}).stop()


@pytest.mark.parametrize("method", ["dequeue_many", "extend_many"])
def test_an_error_that_nobody_foresaw_ends_no_thread(
    open_client: Clients, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """It is logged; jobs are fetched and leases kept as before."""
    queue = open_client(clock=None, lease_s=1.5)
    queue.enqueue(a_job(max_retries=0))
    plain, failed = getattr(queue, method), threading.Event()

    def failing_once(*arguments: Any, **options: Any) -> Any:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("a bug of a client library")
        return plain(*arguments, **options)

    monkeypatch.setattr(queue, method, failing_once)
    monkeypatch.setattr("allocator.supervisor.fetching.PAUSE_S", 0.05)
    # For longer than the lease was given, where it is to be seen that it is extended.
    seconds = 1.8 if method == "extend_many" else 0.0
    drained(queue, {"json": lambda context: threading.Event().wait(seconds)})

    assert failed.is_set()
    assert queue.counts() == counts(done=1)


def test_a_heartbeat_does_not_change_when_a_job_was_started(eager_queue: Queue) -> None:
    """Only the timeout begins anew: wait time and service time are those of the whole attempt."""
    eager_queue.enqueue(a_job())
    service: list[float] = []
    begun: list[float] = []
    beaten: list[float] = []

    class Times(Events):
        def on_done(self, lease: Lease, wait_s: float, service_s: float) -> None:
            service.append(service_s)

    def beat(context: Context) -> None:
        begun.append(time.monotonic())
        threading.Event().wait(0.2)
        context.heartbeat()
        beaten.append(time.monotonic())

    drained(eager_queue, {"json": beat}, events=[Times()])

    assert service[0] >= beaten[0] - begun[0]


def test_a_job_that_says_it_is_alive_may_outlast_its_timeout(eager_queue: Queue) -> None:
    """As long as it says so often enough."""
    eager_queue.enqueue(a_job(timeout=1.0, max_retries=0))

    def beat(context: Context) -> None:
        for _ in range(8):
            threading.Event().wait(0.2)
            context.heartbeat()

    drained(eager_queue, {"json": beat})

    assert eager_queue.counts() == counts(done=1)


def test_jobs_that_lost_a_lease_run_one_at_a_time_in_threads(
    open_client: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them may end the program, which the others would pay for; what has lost none runs beside it."""
    monkeypatch.setattr("allocator.supervisor.supervisor.GIVE_BACK_S", 0.02)
    queue = open_client(clock=None)
    suspects = {job.id for job in queue.enqueue_many(some_jobs(3))}
    dying = open_client(clock=None, lease_s=0.01)
    assert len(dying.dequeue_many(3, timeout=0)) == 3
    fresh = queue.enqueue(a_job())
    lock, running, seen = threading.Lock(), set(), []
    beside = threading.Event()

    def run(context: Context) -> None:
        if context.job.id == fresh.id:
            # Until the first suspect has begun, so that nothing but the rule keeps the next one waiting.
            assert beside.wait(BOUND_S)
            return
        with lock:
            running.add(context.job.id)
            seen.append(set(running))
        beside.set()
        time.sleep(0.1)
        with lock:
            running.remove(context.job.id)

    drained(queue, {"json": run})

    assert [len(together) for together in seen] == [1, 1, 1]
    assert set().union(*seen) == suspects
    assert queue.counts() == counts(done=4)
