"""Point 7: close is local, pause is stored with the queue, cancel of a leased job is a mark."""

from collections.abc import Callable

import pytest

from allocator import Lease, LeaseLost, ManualClock, Queue, QueueClosed, State, open_queue
from tests.contract.builders import Clients, a_job, bury, counts, ids, some_jobs, take, take_all

# Close


def test_a_closed_queue_gives_nothing(queue: Queue) -> None:
    """Every dequeue returns at once, also one that would wait for ever and one that could have had a job."""
    queue.enqueue(a_job())
    open_before = queue.closed

    queue.close()

    assert (open_before, queue.closed) == (False, True)
    assert queue.dequeue(timeout=None) is None
    assert queue.dequeue(timeout=0) is None
    assert queue.dequeue_many(10, timeout=None) == []


def test_a_closed_queue_accepts_nothing(open_client: Clients) -> None:
    """`enqueue` raises QueueClosed, which is a RuntimeError and names the queue."""
    queue, other = open_client(), open_client()
    queue.close()

    with pytest.raises(QueueClosed, match=queue.name):
        queue.enqueue(a_job())
    with pytest.raises(RuntimeError, match="closed"):
        queue.enqueue_many([a_job()])

    assert counts() == other.counts()


def test_close_is_idempotent(queue: Queue) -> None:
    """A second time does nothing."""
    queue.close()
    queue.close()

    assert queue.closed


def test_close_is_local(open_client: Clients) -> None:
    """Other objects on the same queue go on, and so does one that is opened afterwards."""
    closing, other = open_client(), open_client()
    closing.enqueue_many(some_jobs(2))
    closing.close()

    other.enqueue(a_job())
    taken = take_all(other)
    later = open_client()

    assert len(taken) == 3
    assert not other.closed
    assert counts(leased=3) == later.counts()


def test_held_leases_may_be_settled_after_close(queue: Queue, clock: ManualClock) -> None:
    """Extended too: a supervisor that stops finishes what it holds."""
    queue.enqueue_many(some_jobs(4))
    acked, nacked, released, extended = queue.dequeue_many(4, timeout=0)
    queue.close()

    queue.extend(extended, 60.0)
    queue.ack(acked)
    queue.nack(nacked, "broken")
    queue.release(released)

    assert clock.now() + 60.0 == extended.expires_at
    assert counts(ready=1, scheduled=1, leased=1, done=1) == queue.counts()


def test_a_closed_queue_can_be_looked_at(queue: Queue) -> None:
    """Counts, size, find and dead letters answer."""
    queue.enqueue(a_job(id="a"))
    queue.close()

    assert queue.size() == 1
    assert queue.find(["a"]) == {"a": State.READY}
    assert queue.dead_letters() == []


def test_a_queue_is_a_context_manager(open_client: Clients) -> None:
    """It closes itself at the end, also after an error."""
    with open_client() as queue:
        queue.enqueue(a_job())
    with pytest.raises(ZeroDivisionError), open_client() as other:
        raise ZeroDivisionError

    assert queue.closed
    assert other.closed


# Pause


def test_a_paused_queue_gives_nothing_to_anybody(open_client: Clients) -> None:
    """Until someone ends the pause, it does not matter who."""
    one, two = open_client(), open_client()
    one.enqueue(a_job())

    one.pause()
    paused = one.dequeue(timeout=0), two.dequeue(timeout=0), open_client().dequeue(timeout=0)
    two.resume()

    assert paused == (None, None, None)
    take(one)


def test_a_pause_outlives_who_made_it(open_client: Clients) -> None:
    """It is stored with the queue."""
    first = open_client()
    keeper = open_client()
    first.enqueue(a_job())
    first.pause()
    first.close()

    later = open_client()

    assert later.dequeue(timeout=0) is None
    later.resume()
    take(keeper)


def test_in_a_pause_everything_else_goes_on(queue: Queue, clock: ManualClock) -> None:
    """Enqueue, settle, extend, cancel, look, put back: all as ever."""
    queue.enqueue_many(some_jobs(4, max_retries=0))
    acked, nacked, released, extended = queue.dequeue_many(4, timeout=0)
    queue.pause()

    stored = queue.enqueue(a_job())
    queue.ack(acked)
    queue.nack(nacked, "broken")
    queue.release(released)
    queue.extend(extended, 60.0)
    put_back = queue.requeue_dead(all=True)
    cancelled = queue.cancel(stored.id)

    assert (put_back, cancelled) == (1, True)
    assert counts(ready=2, leased=1, done=1, cancelled=1) == queue.counts()


def test_leases_expire_in_a_pause(queue: Queue, clock: ManualClock) -> None:
    """A pause stops no clock; what was taken back waits with the others."""
    queue.enqueue(a_job(id="a"))
    take(queue)
    queue.pause()

    clock.advance(queue.lease_s)
    reaped = queue.reap()
    queue.resume()

    assert reaped == ["a"]
    assert take(queue).attempt == 2


def test_pause_and_resume_may_be_repeated(queue: Queue) -> None:
    """They do not add up; resume of what runs does nothing."""
    queue.enqueue_many(some_jobs(2))
    queue.resume()
    first = take(queue)
    queue.pause()
    queue.pause()
    nothing = queue.dequeue(timeout=0)
    queue.resume()

    assert (first.job.payload["n"], nothing) == (0, None)
    assert take(queue).job.payload["n"] == 1


# Cancel


@pytest.mark.parametrize("delay", [0.0, 60.0])
def test_a_waiting_job_is_cancelled_at_once(queue: Queue, clock: ManualClock, delay: float) -> None:
    """Ready or scheduled, it is never dequeued."""
    queue.enqueue_many([a_job(id="a", delay=delay), a_job(id="b", delay=delay)])

    cancelled = queue.cancel("a")
    clock.advance(delay)

    assert cancelled
    assert queue.find(["a", "b"]) == {"a": State.CANCELLED, "b": State.READY}
    assert ids(take_all(queue)) == ["b"]
    assert counts(leased=1, cancelled=1) == queue.counts()


def test_a_job_in_backoff_can_be_cancelled(queue: Queue, clock: ManualClock) -> None:
    """It waits like any other."""
    queue.enqueue(a_job(id="a"))
    queue.nack(take(queue), "broken")

    cancelled = queue.cancel("a")
    clock.advance(60.0)

    assert cancelled
    assert queue.dequeue(timeout=0) is None
    assert counts(cancelled=1) == queue.counts()


def test_what_neither_waits_nor_is_leased_cannot_be_cancelled(queue: Queue) -> None:
    """Unknown, done, dead and cancelled already: False, and nothing changes."""
    queue.enqueue_many([a_job(id="done"), a_job(id="cancelled")])
    queue.ack(take(queue))
    queue.cancel("cancelled")
    bury(queue, a_job(id="dead"))
    before = queue.counts()

    replies = [queue.cancel(job_id) for job_id in ("never", "done", "dead", "cancelled")]

    assert replies == [False] * 4
    assert before == queue.counts()


def test_cancel_of_a_leased_job_is_reported_by_extend(open_client: Clients) -> None:
    """The worker learns it with its next extension; until it settles, the job is leased."""
    queue, other = open_client(), open_client()
    queue.enqueue_many([a_job(id="a"), a_job(id="b")])
    marked, unmarked = queue.dequeue_many(2, timeout=0)

    replies = other.cancel("a"), other.cancel("a")
    before = marked.cancelled
    lost = queue.extend_many([marked, unmarked])

    assert (replies, before, lost) == ((True, True), False, [])
    assert (marked.cancelled, unmarked.cancelled) == (True, False)
    assert counts(leased=2) == queue.counts()
    assert queue.find(["a"]) == {"a": State.LEASED}


def test_an_ack_of_a_cancelled_job_is_done(queue: Queue) -> None:
    """The work was done before anybody could stop it."""
    queue.enqueue(a_job(id="a"))
    lease = take(queue)
    queue.cancel("a")

    queue.ack(lease)

    assert counts(done=1) == queue.counts()
    assert queue.find(["a"]) == {}


@pytest.mark.parametrize(
    "end",
    [
        lambda queue, lease: queue.nack(lease, "broken"),
        lambda queue, lease: queue.nack(lease, "broken", dead=True),
        lambda queue, lease: queue.release(lease),
        lambda queue, lease: queue.release(lease, delay=60.0),
    ],
    ids=["nack", "bury", "release", "delayed-release"],
)
def test_any_other_end_of_a_cancelled_job_is_cancelled(
    queue: Queue, clock: ManualClock, end: Callable[[Queue, Lease], None]
) -> None:
    """It does not come again, and it is no dead letter."""
    queue.enqueue(a_job(id="a", max_retries=0))
    lease = take(queue)
    queue.cancel("a")

    end(queue, lease)
    clock.advance(120.0)

    assert queue.dequeue(timeout=0) is None
    assert counts(cancelled=1) == queue.counts()
    assert queue.find(["a"]) == {"a": State.CANCELLED}
    assert queue.dead_letters() == []


def test_the_expiry_of_a_cancelled_job_is_cancelled(queue: Queue, clock: ManualClock) -> None:
    """Its worker went silent; nobody else has to try."""
    queue.enqueue(a_job(id="a"))
    lease = take(queue)
    queue.cancel("a")

    clock.advance(queue.lease_s)
    taken = queue.dequeue(timeout=0)

    assert taken is None
    assert counts(cancelled=1) == queue.counts()
    with pytest.raises(LeaseLost):
        queue.ack(lease)


def test_the_mark_does_not_outlive_the_job(queue: Queue) -> None:
    """A new job with the id of a cancelled one is not cancelled."""
    queue.enqueue(a_job(id="a"))
    lease = take(queue)
    queue.cancel("a")
    queue.release(lease)
    queue.enqueue(a_job(id="a"))

    lease = take(queue)
    queue.extend(lease)
    queue.release(lease)

    assert not lease.cancelled
    assert counts(ready=1, cancelled=1) == queue.counts()


def test_settle_tells_cancelled_jobs_apart(queue: Queue) -> None:
    """In one call, each by its own mark."""
    queue.enqueue_many([a_job(id=name) for name in "abcdef"])
    leases = queue.dequeue_many(6, timeout=0)
    a, b, c, d, e, f = leases
    for job_id in "ace":
        queue.cancel(job_id)

    lost = queue.settle(acks=[a, b], nacks=[(c, "broken"), (d, "broken")], releases=[e, f])

    assert lost == []
    assert counts(done=2, cancelled=2, scheduled=1, ready=1) == queue.counts()


def test_thousands_can_be_cancelled(queue: Queue) -> None:
    """In any order; what is left comes in its own."""
    stored = queue.enqueue_many([*some_jobs(1000), *some_jobs(500, delay=60.0)])
    kept = {job.id for job in stored[:1000:10]}

    replies = {queue.cancel(job.id) for job in reversed(stored) if job.id not in kept}

    assert {True} == replies
    assert counts(ready=100, cancelled=1400) == queue.counts()
    assert [job.id for job in stored if job.id in kept] == ids(take_all(queue))


# Opening


def test_an_option_out_of_range_is_refused(open_client: Clients) -> None:
    """The text names it, before anything is connected."""
    for option, value in [
        ("lease_s", 0),
        ("lease_s", -1.0),
        ("lease_s", float("inf")),
        ("backoff", 2.0),
        ("dead_letter_age_s", 0),
        ("dead_letter_count", -1),
        ("dead_letter_count", 1.5),
    ]:
        with pytest.raises(ValueError, match=option):
            open_client(**{option: value})


@pytest.mark.parametrize("name", ["", "a b", "a:b", "{a}", "a/b", "ä", "x" * 65, None, "a\n", "*"])
def test_a_wrong_name_is_refused(open_client: Clients, name: object) -> None:
    """Names go into keys and statements; what does not fit is refused with the rule."""
    with pytest.raises(ValueError, match="1 to 64 of letters, digits"):
        open_queue(open_client.url, name=name)


@pytest.mark.parametrize("suffix", ["A-z_0.9", "x" * 43, "..", "--"])
def test_a_good_name_is_good_everywhere(open_client: Clients, suffix: str) -> None:
    """Up to 64 characters, whatever they look like."""
    queue = open_client(name=f"{open_client.name}{suffix}")

    queue.enqueue(a_job(id="a"))

    assert take(queue).job.id == "a"
    assert len(queue.name) <= 64
