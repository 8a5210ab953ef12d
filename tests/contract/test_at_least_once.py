"""Point 1: what was accepted is at every instant in exactly one state, and no crash of a client loses it."""

import uuid
from collections.abc import Iterator

import pytest

from allocator import InvalidJob, Job, ManualClock, Queue, State
from allocator.queue.base import erase
from tests.contract.builders import Clients, a_job, bury, counts, ids, some_jobs, take, take_all

DAY_S = 86400.0


def test_enqueue_returns_the_job_as_stored(queue: Queue, clock: ManualClock) -> None:
    """The caller gets id and instant of acceptance, and its own job is left as it was."""
    given = a_job(payload={"n": 7}, meta={"tag": "x"})

    stored = queue.enqueue(given)

    assert uuid.UUID(stored.id).version == 7
    assert clock.now() == stored.enqueued_at
    assert (stored.payload, stored.meta) == ({"n": 7}, {"tag": "x"})
    assert (given.id, given.enqueued_at) == ("", None)


def test_a_lease_carries_every_field_of_the_job(queue: Queue) -> None:
    """What a worker gets is what was stored, field by field."""
    given = Job(
        type="media/übung",
        payload=[1, "two", None, {"three": 3.5}],
        priority=-7,
        max_retries=9,
        timeout=12.5,
        meta={"trace": "00-ab"},
        id="given-id",
    )

    stored = queue.enqueue(given)
    leased = take(queue).job

    assert stored == leased
    assert (given.type, given.payload, given.priority) == (leased.type, leased.payload, leased.priority)
    assert (given.max_retries, given.timeout, given.meta) == (leased.max_retries, leased.timeout, leased.meta)
    assert given.id == leased.id


def test_a_job_is_counted_in_one_state_at_a_time(queue: Queue, clock: ManualClock) -> None:
    """From scheduled to ready, leased, scheduled again, leased and done, there is always one."""
    seen = [queue.counts()]

    queue.enqueue(a_job(delay=5.0))
    seen.append(queue.counts())
    clock.advance(5.0)
    seen.append(queue.counts())
    lease = take(queue)
    seen.append(queue.counts())
    queue.nack(lease, "broken")
    seen.append(queue.counts())
    clock.advance(1.0)
    seen.append(queue.counts())
    queue.ack(take(queue))
    seen.append(queue.counts())

    states = ["scheduled", "ready", "leased", "scheduled", "ready", "done"]
    assert [counts(), *(counts(**{state: 1}) for state in states)] == seen


def test_size_counts_what_waits(queue: Queue) -> None:
    """Ready, delayed and backing-off jobs wait; leased and dead ones do not."""
    queue.enqueue_many([a_job(id="retried"), a_job(id="leased"), a_job(id="dead"), a_job(id="ready")])
    retried, _leased, dead = queue.dequeue_many(3, timeout=0)
    queue.settle(nacks=[(retried, "broken")])
    queue.nack(dead, "broken", dead=True)
    queue.enqueue(a_job(delay=60.0))

    size = queue.size()

    assert size == 3
    assert counts(ready=1, scheduled=2, leased=1, dead=1) == queue.counts()


def test_a_crashed_client_loses_nothing(open_client: Clients, clock: ManualClock) -> None:
    """What a client held when it went silent is handed to another once the lease has run out."""
    crashed = open_client()
    stored = crashed.enqueue_many(some_jobs(3))
    held = crashed.dequeue_many(2, timeout=0)
    other = open_client()

    at_first = take_all(other)
    other.settle(acks=at_first)
    clock.advance(other.lease_s)
    later = take_all(other)

    assert [stored[2].id] == ids(at_first)
    assert ids(held) == ids(later)


def test_jobs_outlive_the_object_that_accepted_them(open_client: Clients) -> None:
    """Closing is not clearing: a client that opens the queue later finds everything."""
    first = open_client()
    first.enqueue_many([a_job(id="ready"), a_job(id="later", delay=60.0), a_job(id="dead", priority=1)])
    first.nack(take(first), "broken", dead=True)
    first.close()

    second = open_client()

    assert second.find(["ready", "later", "dead"]) == {
        "ready": State.READY,
        "later": State.SCHEDULED,
        "dead": State.DEAD,
    }
    assert take(second).job.id == "ready"


def test_queues_of_other_names_share_nothing(open_client: Clients) -> None:
    """A name is a queue of its own, on the same server too."""
    ours, other = open_client(), open_client(name=f"{open_client.name}.other")
    ours.enqueue(a_job(id="ours"))

    taken = other.dequeue(timeout=0)
    lost = other.settle(acks=[take(ours)])

    assert taken is None
    assert other.find(["ours"]) == {}
    assert ids(lost) == ["ours"]
    assert (counts(leased=1), counts()) == (ours.counts(), other.counts())


def test_erasing_a_queue_leaves_the_others(open_client: Clients) -> None:
    """Every trace of the one goes, dead letters and totals included; a longer name is another queue."""
    ours, other = open_client(), open_client(name=f"{open_client.name}.other")
    for queue in (ours, other):
        bury(queue)
        queue.enqueue_many([*some_jobs(3), a_job(id="cancelled"), a_job(delay=60.0)])
        queue.cancel("cancelled")
        queue.ack(take(queue))
        queue.nack(take(queue), "broken")
        take(queue)
        queue.pause()
    before = other.counts()

    ours.close()
    erase(ours)
    again = open_client()

    assert again.counts() == counts()
    assert again.find(["cancelled"]) == {}
    again.enqueue(a_job(id="cancelled"))
    assert take(again).attempt == 1
    assert other.counts() == before
    assert len(other.dead_letters()) == 1


# Lists


def test_a_list_is_accepted_whole_and_in_order(queue: Queue) -> None:
    """The reply stands in the order of the list, and so does the queue."""
    stored = queue.enqueue_many(some_jobs(20))

    leases = take_all(queue)

    assert list(range(20)) == [job.payload["n"] for job in stored]
    assert [job.id for job in stored] == ids(leases)


def test_one_wrong_job_refuses_the_whole_list(queue: Queue) -> None:
    """All or nothing: the right jobs before a wrong one are not accepted either."""
    jobs = [*some_jobs(3), a_job(priority=1001), a_job()]

    with pytest.raises(InvalidJob, match="priority"):
        queue.enqueue_many(jobs)

    assert counts() == queue.counts()


def test_a_list_that_breaks_off_is_refused(queue: Queue) -> None:
    """A generator that fails half-way leaves nothing behind."""

    def jobs() -> Iterator[Job]:
        yield a_job()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        queue.enqueue_many(jobs())

    assert queue.size() == 0


def test_an_empty_list_is_accepted(queue: Queue) -> None:
    """Nothing to do is done."""
    assert queue.enqueue_many([]) == []
    assert counts() == queue.counts()


def test_a_long_list_is_accepted(queue: Queue) -> None:
    """Lists have no limit of their own."""
    queue.enqueue_many(some_jobs(5000))

    assert queue.size() == 5000
    assert list(range(1000)) == [lease.job.payload["n"] for lease in queue.dequeue_many(1000, timeout=0)]


# Ids that come twice


@pytest.mark.parametrize("state", ["ready", "scheduled", "leased", "dead"])
def test_a_known_id_is_not_enqueued_again(queue: Queue, clock: ManualClock, state: str) -> None:
    """The stored job comes back unchanged, and the newcomer is dropped."""
    stored = queue.enqueue(a_job(id="twice", payload={"n": 1}, delay=60.0 if state == "scheduled" else 0.0))
    if state in ("leased", "dead"):
        lease = take(queue)
        if state == "dead":
            queue.nack(lease, "broken", dead=True)
    before = queue.counts()
    clock.advance(1.0)

    again = queue.enqueue(a_job(id="twice", type="other", payload={"n": 2}, priority=5))

    assert (again.payload, again.type, again.priority) == ({"n": 1}, "json", 0)
    assert stored.enqueued_at == again.enqueued_at
    assert before == queue.counts()
    assert {"twice": State(state)} == queue.find(["twice"])


def test_an_id_twice_in_one_list_is_one_job(queue: Queue) -> None:
    """The first of them is stored, and stands in both places of the reply."""
    stored = queue.enqueue_many(
        [a_job(id="a", payload={"n": 1}), a_job(id="b"), a_job(id="a", payload={"n": 2}, delay=9.0)]
    )

    leases = take_all(queue)

    assert [(job.id, job.payload["n"]) for job in stored] == [("a", 1), ("b", 0), ("a", 1)]
    assert stored[0] == stored[2]
    assert ids(leases) == ["a", "b"]


def test_known_and_new_ids_may_share_a_list(queue: Queue) -> None:
    """Only the unknown ones are added, after what waits already."""
    queue.enqueue_many([a_job(id="a", payload={"n": 1}), a_job(id="b")])

    reply = queue.enqueue_many([a_job(id="c"), a_job(id="a", payload={"n": 9}), a_job(id="d")])

    assert [(job.id, job.payload["n"]) for job in reply] == [("c", 0), ("a", 1), ("d", 0)]
    assert ids(take_all(queue)) == ["a", "b", "c", "d"]


def test_a_known_job_tells_its_failed_attempts(queue: Queue) -> None:
    """The stored job that comes back shows what happened to it since."""
    queue.enqueue(a_job(id="twice"))
    queue.nack(take(queue), "broken", delay=60.0)

    again = queue.enqueue(a_job(id="twice"))

    assert again.failed_count == 1


@pytest.mark.parametrize("end", ["done", "cancelled", "purged"])
def test_an_id_may_come_again_after_its_end(queue: Queue, end: str) -> None:
    """A queue forgets what is over; the newcomer is a job with a history of its own."""
    queue.enqueue(a_job(id="again", payload={"n": 1}))
    lease = take(queue)
    if end == "done":
        queue.ack(lease)
    elif end == "cancelled":
        queue.release(lease)
        queue.cancel("again")
    else:
        queue.nack(lease, "broken", dead=True)
        queue.purge_dead("again")

    queue.enqueue(a_job(id="again", payload={"n": 2}))
    second = take(queue)

    assert (second.job.payload, second.attempt) == ({"n": 2}, 1)
    assert counts(leased=1, **{end: 1}) == queue.counts()
    assert queue.find(["again"]) == {"again": State.LEASED}


def test_a_cancelled_id_that_came_again_is_no_longer_cancelled(queue: Queue) -> None:
    """When its second life is over, the end of the first is not told any more."""
    queue.enqueue(a_job(id="again"))
    queue.cancel("again")
    queue.enqueue(a_job(id="again"))

    queue.ack(take(queue))

    assert queue.find(["again"]) == {}
    assert counts(done=1, cancelled=1) == queue.counts()


def test_an_id_twice_in_one_list_comes_back_with_its_failed_attempts(queue: Queue) -> None:
    """A restored job is the same in both places."""
    stored = queue.enqueue_many([a_job(id="a", failed_count=2), a_job(id="a")])

    assert stored[0] == stored[1]
    assert [job.failed_count for job in stored] == [2, 2]


def test_a_settled_id_that_came_again_is_safe_from_its_old_lease(queue: Queue) -> None:
    """The token of the first life means nothing in the second."""
    queue.enqueue(a_job(id="again"))
    old = take(queue)
    queue.ack(old)
    queue.enqueue(a_job(id="again"))
    take(queue)

    lost = queue.settle(acks=[old])

    assert [old] == lost
    assert counts(leased=1, done=1) == queue.counts()


@pytest.mark.parametrize("job_id", ["a", "x" * 200, "grün-0001", "a:b/c{d}e|f", "%s", "-", "0", "';--"])
def test_ids_are_opaque(queue: Queue, job_id: str) -> None:
    """Whatever printable text an application uses as an id goes through every operation."""
    queue.enqueue(a_job(id=job_id))
    queue.nack(take(queue), "broken", dead=True)
    put_back = queue.requeue_dead(job_id)
    lease = take(queue)
    queue.extend(lease)
    found = queue.find([job_id])
    queue.ack(lease)

    assert put_back == 1
    assert job_id == lease.job.id
    assert {job_id: State.LEASED} == found
    assert counts(done=1) == queue.counts()


# Find


def test_find_tells_states_of_known_ids(queue: Queue, clock: ManualClock) -> None:
    """Waiting, leased, dead and lately cancelled ids are known; done, purged and unheard-of ones are not."""
    queue.enqueue_many([a_job(id=name) for name in ("leased", "done", "dead", "purged", "ready", "cancelled")])
    queue.enqueue_many([a_job(id="scheduled", delay=60.0), a_job(id="due", delay=1.0)])
    _leased, done, dead, purged = queue.dequeue_many(4, timeout=0)
    queue.settle(acks=[done])
    queue.nack(dead, "broken", dead=True)
    queue.nack(purged, "broken", dead=True)
    queue.purge_dead("purged")
    queue.cancel("cancelled")
    clock.advance(1.0)

    found = queue.find(["leased", "done", "dead", "purged", "ready", "cancelled", "scheduled", "due", "never", "ready"])

    assert found == {
        "leased": State.LEASED,
        "dead": State.DEAD,
        "ready": State.READY,
        "cancelled": State.CANCELLED,
        "scheduled": State.SCHEDULED,
        "due": State.READY,
    }


def test_find_of_nothing_is_nothing(queue: Queue) -> None:
    """An empty question has an empty answer."""
    assert queue.find([]) == {}


def test_find_takes_many_ids(queue: Queue) -> None:
    """A reconciler may ask for thousands at once."""
    stored = queue.enqueue_many(some_jobs(3000))

    found = queue.find([*(job.id for job in stored), *(f"unknown-{n}" for n in range(3000))])

    assert dict.fromkeys((job.id for job in stored), State.READY) == found


def test_an_expired_lease_is_found_as_leased_until_it_is_reaped(queue: Queue, clock: ManualClock) -> None:
    """State changes happen in calls, never by themselves."""
    queue.enqueue(a_job(id="a"))
    take(queue)
    clock.advance(queue.lease_s)

    before = queue.find(["a"]), queue.counts()
    queue.reap()
    after = queue.find(["a"]), queue.counts()

    assert ({"a": State.LEASED}, counts(leased=1)) == before
    assert ({"a": State.READY}, counts(ready=1)) == after


def test_a_cancelled_id_is_remembered_for_a_day(queue: Queue, clock: ManualClock) -> None:
    """Long enough for whoever reconciles, and not for ever."""
    queue.enqueue(a_job(id="a"))
    queue.cancel("a")

    clock.advance(DAY_S - 1.0)
    within = queue.find(["a"])
    clock.advance(1.0)
    after = queue.find(["a"])

    assert within == {"a": State.CANCELLED}
    assert after == {}


def test_a_dead_letter_is_a_known_id(queue: Queue) -> None:
    """Whoever enqueues a dead job again must put it back instead."""
    (stored,) = bury(queue, a_job(id="a", payload={"n": 1}))

    again = queue.enqueue(a_job(id="a", payload={"n": 2}))

    assert stored.payload == again.payload
    assert counts(dead=1) == queue.counts()
