"""Point 4: failed attempts are tried again after the backoff, as often as the job allows."""

import pytest

from allocator import Backoff, ManualClock, Queue, State
from allocator.domain.backoff import MAX_CAP_S
from tests.contract.builders import Clients, a_job, bury, counts, take


def waits(queue: Queue, clock: ManualClock, attempts: int) -> list[float]:
    """Fail the next job so many times, and tell how long after each failure it was due again."""
    seconds = []
    for _ in range(attempts):
        lease = take(queue)
        queue.nack(lease, "broken")
        failed_at = clock.now()
        while (again := queue.dequeue(timeout=0)) is None:
            clock.advance(0.25)
        seconds.append(again.due_at - failed_at)
        assert again.due_at == clock.now()
        queue.release(again)
    return seconds


def test_the_backoff_is_one_two_four(queue: Queue, clock: ManualClock) -> None:
    """Seconds after the first, second and third failure; due exactly then and not before."""
    queue.enqueue(a_job())

    assert waits(queue, clock, 3) == [1.0, 2.0, 4.0]


def test_a_retry_is_due_exactly_at_its_time(queue: Queue, clock: ManualClock) -> None:
    """A quarter of a second earlier there is nothing to take."""
    queue.enqueue(a_job(id="a"))
    queue.nack(take(queue), "broken")

    clock.advance(0.75)
    early = queue.dequeue(timeout=0), queue.find(["a"])
    clock.advance(0.25)
    late = queue.find(["a"]), take(queue)

    assert early == (None, {"a": State.SCHEDULED})
    assert late[0] == {"a": State.READY}
    assert (late[1].attempt, late[1].job.failed_count) == (2, 1)


def test_a_queue_has_a_backoff(open_client: Clients, clock: ManualClock) -> None:
    """`open_queue(backoff=…)` holds for jobs that bring none."""
    queue = open_client(backoff=Backoff(base=0.5, factor=3.0, cap=4.0))
    queue.enqueue(a_job(max_retries=9))

    assert waits(queue, clock, 4) == [0.5, 1.5, 4.0, 4.0]


def test_a_job_has_a_backoff(open_client: Clients, clock: ManualClock) -> None:
    """`Job(backoff=…)` holds over the queue's."""
    queue = open_client(backoff=Backoff(base=100.0))
    queue.enqueue(a_job(backoff=Backoff(base=0.25, factor=1.0)))

    assert waits(queue, clock, 2) == [0.25, 0.25]


def test_a_nack_may_name_the_delay(queue: Queue, clock: ManualClock) -> None:
    """It holds over both; nought is at once."""
    queue.enqueue(a_job())
    queue.nack(take(queue), "broken", delay=7.0)

    clock.advance(6.75)
    early = queue.dequeue(timeout=0)
    clock.advance(0.25)
    queue.nack(take(queue), "broken", delay=0)
    at_once = take(queue)

    assert early is None
    assert at_once.attempt == 3


def test_seeded_jitter_moves_the_due_time(queue: Queue, clock: ManualClock) -> None:
    """By what the backoff says for this job and attempt, on every backend alike."""
    backoff = Backoff(base=8.0, jitter=0.5, seed=11)
    queue.enqueue(a_job(id="a", backoff=backoff))
    queue.nack(take(queue), "broken")
    expected = backoff.delay(1, key="a")

    clock.advance(expected - 0.001)
    early = queue.dequeue(timeout=0)
    clock.advance(0.002)
    lease = take(queue)

    assert 4.0 <= expected < 8.0
    assert early is None
    assert pytest.approx(clock.now() - 0.001, abs=0.0005) == lease.due_at


def test_the_longest_backoff_does_not_stop_a_nack(queue: Queue) -> None:
    """Whatever backoff was accepted with a job, its attempt can fail: no delay is too long to be taken."""
    queue.enqueue(a_job(backoff=Backoff(base=1e300, factor=1e300, cap=MAX_CAP_S)))
    lease = take(queue)

    queue.nack(lease, "broken")

    assert counts(scheduled=1) == queue.counts()


@pytest.mark.parametrize("max_retries", [0, 1, 3])
def test_after_its_retries_a_job_is_dead(queue: Queue, clock: ManualClock, max_retries: int) -> None:
    """One first attempt and `max_retries` more, and then no other."""
    queue.enqueue(a_job(max_retries=max_retries))
    attempts = []
    for _ in range(max_retries + 1):
        lease = take(queue)
        attempts.append(lease.attempt)
        queue.nack(lease, f"broken {lease.attempt}")
        clock.advance(60.0)

    assert list(range(1, max_retries + 2)) == attempts
    assert counts(dead=1) == queue.counts()
    assert f"broken {max_retries + 1}" == queue.dead_letters()[0].error


def test_dead_gives_up_at_once(queue: Queue) -> None:
    """Retries that are left do not matter."""
    queue.enqueue(a_job(max_retries=5))

    queue.nack(take(queue), "hopeless", dead=True)

    assert counts(dead=1) == queue.counts()


def test_expiries_and_failures_share_one_budget(queue: Queue, clock: ManualClock) -> None:
    """Two silent workers and two errors are four attempts, and the backoff goes by their number."""
    queue.enqueue(a_job(max_retries=3))
    take(queue)
    clock.advance(queue.lease_s)
    queue.nack(take(queue), "broken")
    clock.advance(1.75)
    early = queue.dequeue(timeout=0)
    clock.advance(0.25)
    take(queue)
    clock.advance(queue.lease_s)
    last = take(queue)
    queue.nack(last, "broken again")

    (letter,) = queue.dead_letters()

    assert early is None
    assert last.attempt == 4
    assert [entry.error for entry in letter.attempts] == ["lease expired", "broken", "lease expired", "broken again"]


def test_the_last_attempt_may_expire(queue: Queue, clock: ManualClock) -> None:
    """Then the job is dead when its lease is reaped, by whichever call."""
    queue.enqueue(a_job(max_retries=0))
    take(queue)

    clock.advance(queue.lease_s)
    taken = queue.dequeue(timeout=0)

    assert taken is None
    assert counts(dead=1) == queue.counts()
    assert queue.dead_letters()[0].error == "lease expired"


def test_put_back_it_has_a_fresh_budget(queue: Queue, clock: ManualClock) -> None:
    """Attempts count from one again, and so does the backoff."""
    bury(queue, a_job(max_retries=1))
    queue.requeue_dead(all=True)

    first = take(queue)
    queue.nack(first, "broken")
    clock.advance(1.0)
    second = take(queue)
    queue.nack(second, "broken")

    assert (first.attempt, second.attempt) == (1, 2)
    assert first.job.failed_count == 0
    assert counts(dead=1) == queue.counts()


def test_a_restored_job_keeps_its_failed_attempts(queue: Queue, clock: ManualClock) -> None:
    """A reconciler puts back id, failed attempts and remaining delay; budget and backoff go on from there."""
    stored = queue.enqueue(a_job(id="restored", failed_count=2, delay=5.0, max_retries=3))
    clock.advance(4.75)
    early = queue.dequeue(timeout=0)
    clock.advance(0.25)
    third = take(queue)
    queue.nack(third, "broken")
    clock.advance(3.75)
    too_early = queue.dequeue(timeout=0)
    clock.advance(0.25)
    fourth = take(queue)
    queue.nack(fourth, "broken")

    assert (stored.failed_count, stored.id) == (2, "restored")
    assert (early, too_early) == (None, None)
    assert (third.attempt, third.job.failed_count) == (3, 2)
    assert fourth.attempt == 4
    assert counts(dead=1) == queue.counts()


@pytest.mark.parametrize("failed_count", [1, 4, 9])
def test_a_restored_job_may_be_ready_at_once(queue: Queue, failed_count: int) -> None:
    """Also with its budget used up: it gets the one attempt that was under way."""
    queue.enqueue(a_job(failed_count=failed_count, max_retries=3))

    lease = take(queue)

    assert failed_count + 1 == lease.attempt
    queue.nack(lease, "broken", delay=0.0)
    assert counts(**{"ready" if failed_count < 3 else "dead": 1}) == queue.counts()


def test_a_restored_job_shares_batches(queue: Queue) -> None:
    """That it failed before does not make it a suspect."""
    queue.enqueue_many([a_job(failed_count=1), a_job()])

    assert len(queue.dequeue_many(10, timeout=0)) == 2


def test_releases_and_extensions_leave_the_budget(queue: Queue, clock: ManualClock) -> None:
    """Only what failed is charged."""
    queue.enqueue(a_job(max_retries=0))
    for _ in range(3):
        lease = take(queue)
        clock.advance(10.0)
        queue.extend(lease)
        clock.advance(10.0)
        queue.release(lease)

    assert take(queue).attempt == 1
