"""Point 2: higher priority first, then first in, first out; a job keeps its place."""

import random

import pytest

from allocator import ManualClock, Queue
from tests.contract.builders import Clients, a_job, bury, counts, ids, numbers, some_jobs, take, take_all


def test_higher_priority_goes_first(queue: Queue) -> None:
    """Whatever the order of arrival, down to one step and out to both ends of the range."""
    priorities = [0, 1000, -1, 1, -1000, 999, -999, 1000, 0]
    queue.enqueue_many([a_job(priority=priority, payload={"n": n}) for n, priority in enumerate(priorities)])

    leases = take_all(queue)

    assert [lease.job.priority for lease in leases] == [1000, 1000, 999, 1, 0, 0, -1, -999, -1000]
    assert numbers(leases) == [1, 7, 5, 3, 0, 8, 2, 6, 4]


def test_every_priority_has_its_own_rank(queue: Queue) -> None:
    """No two of the 2,001 are packed into one another."""
    priorities = list(range(-1000, 1001))
    random.Random(1).shuffle(priorities)
    queue.enqueue_many([a_job(priority=priority) for priority in priorities])

    leases = take_all(queue, 1000)

    assert list(range(1000, -1001, -1)) == [lease.job.priority for lease in leases]


def test_first_in_first_out_however_they_come(queue: Queue) -> None:
    """A thousand jobs, one by one and in lists of many lengths, leave in the order in which they were accepted."""
    jobs, lengths = some_jobs(1000), random.Random(2)
    while jobs:
        length = lengths.choice([1, 1, 1, 2, 7, 40])
        batch, jobs = jobs[:length], jobs[length:]
        if length == 1:
            queue.enqueue(batch[0])
        else:
            queue.enqueue_many(batch)

    leases = [take(queue) for _ in range(300)] + take_all(queue, 33)

    assert list(range(1000)) == numbers(leases)


def test_ids_do_not_decide_the_order(queue: Queue) -> None:
    """Ties are not broken by the alphabet."""
    given = [f"{letter}-{n}" for n, letter in enumerate("zmakqbxz")]
    queue.enqueue_many([a_job(id=job_id) for job_id in given])

    assert given == ids(take_all(queue))


def test_order_holds_across_clients(open_client: Clients) -> None:
    """The order is the queue's, not the client's."""
    one, two = open_client(), open_client()
    for n in range(20):
        (one if n % 2 else two).enqueue(a_job(payload={"n": n}))

    leases = [take(one if n % 3 else two) for n in range(20)]

    assert list(range(20)) == numbers(leases)


def test_a_batch_stands_in_queue_order(queue: Queue) -> None:
    """Many at once come as they would have come one by one."""
    queue.enqueue_many([a_job(priority=n % 3, payload={"n": n}) for n in range(9)])

    first, rest = queue.dequeue_many(4, timeout=0), queue.dequeue_many(64, timeout=0)

    assert numbers(first) == [2, 5, 8, 1]
    assert numbers(rest) == [4, 7, 0, 3, 6]


def test_a_batch_is_never_larger_than_asked_or_than_a_thousand(queue: Queue) -> None:
    """The limit holds, and one call takes at most a thousand."""
    queue.enqueue_many(some_jobs(1100))

    taken = [len(queue.dequeue_many(limit, timeout=0)) for limit in (1, 2, 1050, 1000)]

    assert taken == [1, 2, 1000, 97]


@pytest.mark.parametrize("limit", [0, -1, 1.5, None, True])
def test_a_wrong_limit_is_refused(queue: Queue, limit: object) -> None:
    """It is a count of at least one; the text shows what came."""
    queue.enqueue(a_job())

    with pytest.raises(ValueError, match=f"limit: .*{limit!r}"):
        queue.dequeue_many(limit, timeout=0)  # type: ignore[arg-type]

    assert counts(ready=1) == queue.counts()


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan")])
def test_a_wrong_timeout_is_refused(queue: Queue, timeout: float) -> None:
    """It is None or at least 0 seconds."""
    with pytest.raises(ValueError, match="timeout: "):
        queue.dequeue(timeout=timeout)


# A job keeps its place


def test_a_released_job_keeps_its_place(queue: Queue) -> None:
    """It goes before what came after it."""
    queue.enqueue_many(some_jobs(3))

    queue.release(take(queue))

    assert numbers(take_all(queue)) == [0, 1, 2]


def test_a_job_released_with_a_delay_keeps_its_place(queue: Queue, clock: ManualClock) -> None:
    """Once due again it stands where it stood."""
    queue.enqueue_many(some_jobs(3))
    queue.release(take(queue), delay=2.0)

    clock.advance(2.0)

    assert numbers(take_all(queue)) == [0, 1, 2]


def test_a_retried_job_keeps_its_place(queue: Queue, clock: ManualClock) -> None:
    """Its backoff over, it goes before what came after it."""
    queue.enqueue_many(some_jobs(3))
    queue.nack(take(queue), "broken")

    clock.advance(1.0)

    assert numbers(take_all(queue)) == [0, 1, 2]


def test_an_expired_job_keeps_its_place(queue: Queue, clock: ManualClock) -> None:
    """Reaped, it stands where it stood."""
    queue.enqueue_many(some_jobs(3))
    take(queue)

    clock.advance(queue.lease_s)

    assert numbers(take_all(queue)) == [0, 1, 2]


def test_a_delayed_job_has_the_place_of_its_acceptance(queue: Queue, clock: ManualClock) -> None:
    """Neither the due time nor the moment of promotion decides, once all are due."""
    queue.enqueue_many(
        [a_job(payload={"n": 0}, delay=3.0), a_job(payload={"n": 1}), a_job(payload={"n": 2}, delay=1.0)]
    )
    queue.enqueue(a_job(payload={"n": 3}))

    clock.advance(1.0)
    promoted = take(queue)
    queue.release(promoted)
    clock.advance(2.0)

    assert promoted.job.payload["n"] == 1
    assert numbers(take_all(queue)) == [0, 1, 2, 3]


def test_priority_survives_release_expiry_and_retry(queue: Queue, clock: ManualClock) -> None:
    """What was urgent stays urgent."""
    queue.enqueue_many([a_job(priority=priority, payload={"n": priority}) for priority in (1, 2, 3, 4)])
    four, three, two = queue.dequeue_many(3, timeout=0)
    queue.settle(nacks=[(four, "broken")], releases=[two])
    clock.advance(queue.lease_s)

    order = numbers(take_all(queue))

    assert order == [4, 3, 2, 1]
    assert three.job.priority == 3


def test_requeue_dead_gives_a_new_place(queue: Queue) -> None:
    """What was put back stands behind what waits already, within its priority."""
    bury(queue, a_job(payload={"n": 0}), a_job(payload={"n": 1}, priority=5))
    queue.enqueue_many([a_job(payload={"n": 2}), a_job(payload={"n": 3}, priority=5)])

    queue.requeue_dead(all=True)

    assert numbers(take_all(queue)) == [3, 1, 2, 0]


# Due jobs


def test_a_job_is_due_exactly_at_its_due_time(queue: Queue, clock: ManualClock) -> None:
    """Not a quarter of a second before, and not later."""
    queue.enqueue(a_job(delay=10.0))

    clock.advance(9.75)
    before = queue.dequeue(timeout=0), queue.counts()
    clock.advance(0.25)
    after = queue.counts(), queue.dequeue(timeout=0)

    assert (None, counts(scheduled=1)) == before
    assert counts(ready=1) == after[0]
    assert after[1] is not None
    assert clock.now() == after[1].due_at


def test_more_due_jobs_than_one_call_promotes_all_come(queue: Queue, clock: ManualClock) -> None:
    """Each dequeue promotes a hundred at most, and none is left behind or out of order."""
    queue.enqueue_many(some_jobs(350, delay=1.0))

    clock.advance(1.0)
    ready = queue.counts()["ready"]
    leases = take_all(queue, 20)

    assert ready == 350
    assert list(range(350)) == numbers(leases)


def test_due_jobs_are_not_starved_by_a_busy_queue(queue: Queue, clock: ManualClock) -> None:
    """Urgent jobs that come due go before a backlog, however many there are of either."""
    queue.enqueue_many([a_job(priority=1, delay=1.0, payload={"n": n}) for n in range(250)])
    queue.enqueue_many([a_job(payload={"n": 1000 + n}) for n in range(250)])
    clock.advance(1.0)

    leases = [take(queue) for _ in range(500)]

    assert [*range(250), *range(1000, 1250)] == numbers(leases)


def test_jobs_that_come_due_at_one_instant_keep_their_places(queue: Queue, clock: ManualClock) -> None:
    """However many they are, and in whatever order they came to wait."""
    queue.enqueue_many(some_jobs(250))
    for lease in reversed(take_all(queue)):
        queue.nack(lease, "broken", delay=1.0)
    clock.advance(1.0)

    assert numbers([take(queue) for _ in range(250)]) == list(range(250))


def test_due_jobs_of_equal_priority_pass_a_backlog_that_came_later(queue: Queue, clock: ManualClock) -> None:
    """A steady stream of new jobs does not keep a due one waiting."""
    queue.enqueue(a_job(delay=1.0, payload={"n": -1}))
    queue.enqueue_many(some_jobs(10))
    clock.advance(1.0)
    queue.enqueue_many(some_jobs(10))

    assert take(queue).job.payload["n"] == -1
