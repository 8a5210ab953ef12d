"""Point 10: a call repeated after a lost reply changes nothing more and gets the same reply."""

from collections.abc import Callable
from typing import Any

import pytest

from allocator import DeadLetter, InvalidJob, Lease, LeaseLost, ManualClock, Queue, State
from tests.contract.builders import Clients, InThread, LostReplies, a_job, bury, counts, ids, some_jobs, take, take_all

pytestmark = pytest.mark.on_servers


def test_a_repeated_enqueue_is_one_job(queue: Queue) -> None:
    """The job that is returned is the one that waits."""
    with LostReplies(queue) as lost:
        stored = queue.enqueue(a_job())

    assert lost.lost_count == 1
    assert counts(ready=1) == queue.counts()
    assert stored == take(queue).job


def test_a_repeated_list_is_one_list(queue: Queue) -> None:
    """Known and doubled ids included, the reply is that of the first time."""
    queue.enqueue(a_job(id="known", payload={"n": 1}))

    with LostReplies(queue):
        stored = queue.enqueue_many([a_job(id="new"), a_job(id="known"), a_job(id="new"), a_job(id="late", delay=1)])

    assert [(job.id, job.payload["n"]) for job in stored] == [("new", 0), ("known", 1), ("new", 0), ("late", 0)]
    assert counts(ready=2, scheduled=1) == queue.counts()


@pytest.mark.parametrize("limit", [1, 10])
def test_a_repeated_dequeue_gives_the_same_leases(queue: Queue, limit: int) -> None:
    """None is lost on the way, and no attempt is charged for it."""
    queue.enqueue_many(some_jobs(20, max_retries=0))

    with LostReplies(queue):
        leases = queue.dequeue_many(limit, timeout=0)

    assert list(range(limit)) == [lease.job.payload["n"] for lease in leases]
    assert counts(ready=20 - limit, leased=limit) == queue.counts()
    assert {1} == {lease.attempt for lease in leases}
    assert queue.settle(acks=leases) == []


def test_a_repeated_dequeue_of_an_empty_queue_is_empty(queue: Queue) -> None:
    """Nothing twice is nothing."""
    with LostReplies(queue):
        leases = queue.dequeue_many(10, timeout=0)

    assert leases == []
    assert counts() == queue.counts()


def test_a_repeated_ack_is_no_lost_lease(queue: Queue) -> None:
    """The job is done once, and the worker is not told that its result was discarded."""
    queue.enqueue(a_job())
    lease = take(queue)

    with LostReplies(queue):
        queue.ack(lease)

    assert counts(done=1) == queue.counts()


def test_a_repeated_nack_is_one_failed_attempt(queue: Queue, clock: ManualClock) -> None:
    """Charged once, with the backoff of one."""
    queue.enqueue(a_job())
    lease = take(queue)

    with LostReplies(queue):
        queue.nack(lease, "broken")
    clock.advance(1.0)

    assert take(queue).attempt == 2


def test_a_repeated_nack_makes_one_dead_letter(queue: Queue) -> None:
    """With one attempt in it."""
    queue.enqueue(a_job())
    lease = take(queue)

    with LostReplies(queue):
        queue.nack(lease, "broken", dead=True)

    (letter,) = queue.dead_letters()
    assert (letter.attempt_count, len(letter.attempts)) == (1, 1)


def test_a_repeated_release_does_not_take_the_job_from_the_next(open_client: Clients) -> None:
    """When another client has taken the job meanwhile, the repetition leaves it alone."""
    queue, other = open_client(), open_client()
    queue.enqueue(a_job())
    lease = take(queue)
    taken: list[Lease] = []
    sessions = queue._sessions  # type: ignore[attr-defined]
    pause = sessions._pause

    def pause_and_take(seconds: float, for_dequeue: bool) -> None:
        taken.extend(other.dequeue_many(1, timeout=0))
        pause(seconds, for_dequeue)

    sessions._pause = pause_and_take
    with LostReplies(queue):
        queue.release(lease)

    assert [lease.job.id] == ids(taken)
    assert counts(leased=1) == queue.counts()
    other.ack(taken[0])


def test_a_repeated_extend_is_no_lost_lease(queue: Queue, clock: ManualClock) -> None:
    """It says until when, and whether the job was cancelled."""
    queue.enqueue(a_job(id="a"))
    lease = take(queue)
    queue.cancel("a")

    with LostReplies(queue):
        queue.extend(lease, 60.0)

    assert (clock.now() + 60.0, True) == (lease.expires_at, lease.cancelled)


def test_a_repeated_settle_tells_lost_leases_from_settled_ones(queue: Queue) -> None:
    """What the first try settled is not lost; what was lost before is."""
    queue.enqueue_many(some_jobs(4))
    a, b, c, gone = queue.dequeue_many(4, timeout=0)
    queue.ack(gone)

    with LostReplies(queue):
        lost = queue.settle(acks=[a, gone], nacks=[(b, "broken")], releases=[c])

    assert [gone] == lost
    assert counts(done=2, scheduled=1, ready=1) == queue.counts()


def test_a_lost_lease_is_still_told(queue: Queue) -> None:
    """Repeating does not hide what was refused."""
    queue.enqueue(a_job())
    lease = take(queue)
    queue.ack(lease)

    with LostReplies(queue), pytest.raises(LeaseLost):
        queue.ack(lease)


@pytest.mark.parametrize("verb", ["requeue_dead", "purge_dead"])
def test_repeated_work_on_dead_letters_counts_once(queue: Queue, verb: str) -> None:
    """One and many, the count is that of the first time."""
    bury(queue, *(a_job(id=f"dead-{n}") for n in range(5)))

    with LostReplies(queue):
        one = getattr(queue, verb)("dead-2")
        rest = getattr(queue, verb)(all=True)

    assert (one, rest) == (1, 4)
    assert counts(**{"ready" if verb == "requeue_dead" else "purged": 5}) == queue.counts()


def test_a_repeated_cancel_says_yes(queue: Queue) -> None:
    """Although by then there is nothing left to cancel."""
    queue.enqueue(a_job(id="a"))

    with LostReplies(queue):
        cancelled = queue.cancel("a")

    assert cancelled
    assert counts(cancelled=1) == queue.counts()


def test_a_repeated_reap_tells_the_ids(queue: Queue, clock: ManualClock) -> None:
    """All of them, over several rounds, each charged once."""
    stored = queue.enqueue_many(some_jobs(150))
    queue.dequeue_many(150, timeout=0)
    clock.advance(queue.lease_s)

    with LostReplies(queue):
        reaped = queue.reap()

    assert sorted(job.id for job in stored) == sorted(reaped)
    assert {2} == {lease.attempt for lease in take_all(queue)}


def test_a_call_may_be_repeated_many_times(queue: Queue) -> None:
    """Not only once."""
    with LostReplies(queue, times=3) as lost:
        queue.enqueue(a_job())
        lease = take(queue)
        queue.ack(lease)

    assert lost.lost_count == 9
    assert counts(done=1) == queue.counts()


def test_threads_repeat_their_own_calls(queue: Queue) -> None:
    """Calls of several threads through one object are told apart."""

    def work() -> int:
        done = 0
        for _ in range(10):
            queue.enqueue(a_job())
            leases = queue.dequeue_many(1, timeout=0)
            done += len(leases)
            queue.settle(acks=leases)
        return done

    with LostReplies(queue):
        threads = [InThread(work) for _ in range(4)]
        done = sum(thread.result() for thread in threads)
    rest = take_all(queue)

    assert done + len(rest) == 40
    assert counts(leased=len(rest), done=done) == queue.counts()


def test_a_whole_story_is_the_same_without_its_first_replies(open_client: Clients, clock: ManualClock) -> None:
    """Every kind of call in turn: all replies and all figures are those of a queue that lost none."""
    plain, lossy = open_client(name=f"{open_client.name}-plain"), open_client()

    began = clock.now()
    expected = _story(plain, clock)
    # The second telling happens at another time; what is compared is the time since its beginning.
    clock.advance(began + 1000.0 - clock.now())
    with LostReplies(lossy) as lost:
        told = _story(lossy, clock)

    assert lost.lost_count > 40
    assert expected == told


def _story(queue: Queue, clock: ManualClock) -> list[Any]:
    began = clock.now()
    told: list[Any] = []

    def tell(act: Callable[[], Any]) -> Any:
        try:
            reply = act()
        except (LeaseLost, InvalidJob, KeyError) as error:
            reply = type(error)
        told.append((_plain(reply, began), queue.counts(), _plain(queue.dead_letters(), began)))
        return reply

    tell(lambda: queue.enqueue(a_job(id="solo", priority=-5)))
    tell(lambda: queue.enqueue_many([a_job(id=f"n{n}", priority=n % 3, max_retries=1) for n in range(12)]))
    tell(lambda: queue.enqueue_many([a_job(id="n3"), a_job(id="late", delay=5.0), a_job(id="late")]))
    batch = tell(lambda: queue.dequeue_many(6, timeout=0))
    tell(lambda: queue.ack(batch[0]))
    tell(lambda: queue.ack(batch[0]))
    tell(lambda: queue.nack(batch[1], "broken", "trace"))
    tell(lambda: queue.nack(batch[2], "hopeless", dead=True))
    tell(lambda: queue.release(batch[3]))
    tell(lambda: queue.release(batch[3], delay=2.0))
    tell(lambda: queue.cancel(batch[4].job.id))
    tell(lambda: queue.extend_many(batch, 20.0))
    tell(lambda: queue.settle(acks=[batch[1]], nacks=[(batch[4], "stopped")], releases=[batch[3]]))
    tell(lambda: queue.cancel("solo"))
    tell(lambda: queue.cancel("solo"))
    tell(queue.pause)
    tell(lambda: queue.dequeue_many(3, timeout=0))
    tell(queue.resume)
    clock.advance(5.0)
    tell(lambda: queue.dequeue_many(3, timeout=0))
    clock.advance(15.0)
    tell(queue.reap)
    for _ in range(4):
        tell(lambda: queue.dequeue_many(3, timeout=0))
    clock.advance(15.0)
    tell(lambda: queue.dequeue_many(3, timeout=0))
    tell(lambda: queue.requeue_dead("n2"))
    tell(lambda: queue.requeue_dead(all=True, error="expired"))
    tell(lambda: queue.purge_dead(all=True))
    tell(lambda: queue.find([f"n{n}" for n in range(12)] + ["solo", "late"]))
    tell(lambda: take_all(queue))
    return told


def _plain(reply: Any, began: float) -> Any:
    """A reply without tokens and names, its instants counted from the beginning."""
    if isinstance(reply, list):
        return [_plain(entry, began) for entry in reply]
    if isinstance(reply, Lease):
        return (
            reply.job.id,
            reply.attempt,
            reply.due_at - began,
            reply.leased_at - began,
            reply.expires_at - began,
            reply.cancelled,
        )
    if isinstance(reply, DeadLetter):
        attempts = [(entry.number, entry.error, entry.failed_at - began) for entry in reply.attempts]
        return reply.job.id, reply.error, attempts, reply.attempt_count, reply.dead_at - began, reply.position
    if isinstance(reply, dict):
        return {key: State(value) for key, value in reply.items()}
    return getattr(reply, "id", reply)
