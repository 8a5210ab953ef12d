"""Point 3: only the present lease of a job settles or extends it, and only before it expires."""

from collections.abc import Callable

import pytest

from allocator import InvalidJob, Lease, LeaseLost, ManualClock, Nack, Queue, Release, State
from tests.contract.builders import Clients, a_job, counts, ids, numbers, some_jobs, take, take_all

USES: dict[str, Callable[[Queue, Lease], object]] = {
    "ack": lambda queue, lease: queue.ack(lease),
    "nack": lambda queue, lease: queue.nack(lease, "late"),
    "bury": lambda queue, lease: queue.nack(lease, "late", dead=True),
    "release": lambda queue, lease: queue.release(lease),
    "extend": lambda queue, lease: queue.extend(lease),
}
use = pytest.mark.parametrize("use", USES.values(), ids=USES.keys())


def test_a_lease_says_what_it_is(open_client: Clients, clock: ManualClock) -> None:
    """Attempt, instants and worker are there; the default lease is fifteen seconds."""
    queue = open_client(worker="host-a:12")
    queue.enqueue(a_job())
    clock.advance(2.0)

    lease = take(queue)

    assert queue.lease_s == 15.0
    assert (lease.attempt, lease.worker, lease.cancelled) == (1, "host-a:12", False)
    assert (clock.now(), clock.now() + 15.0) == (lease.leased_at, lease.expires_at)
    assert clock.now() - 2.0 == lease.due_at


def test_every_lease_has_a_token_of_its_own(open_client: Clients) -> None:
    """Also the second lease of the same job, and those of other clients."""
    one, two = open_client(), open_client()
    one.enqueue_many(some_jobs(40))
    tokens = []
    for queue in (one, two):
        for _ in range(2):
            leases = queue.dequeue_many(20, timeout=0)
            tokens += [lease.token for lease in leases]
            queue.settle(releases=leases)

    assert 80 == len(tokens) == len(set(tokens))


def test_a_leased_job_is_nobody_elses(open_client: Clients) -> None:
    """Two leases of one job do not exist at once."""
    one, two = open_client(), open_client()
    one.enqueue(a_job())
    take(one)

    assert two.dequeue(timeout=0) is None
    assert one.dequeue(timeout=0) is None


# Expiry


@use
def test_a_lease_works_until_just_before_it_expires(
    queue: Queue, clock: ManualClock, use: Callable[[Queue, Lease], object]
) -> None:
    """The last quarter of a second belongs to the holder."""
    queue.enqueue(a_job())
    lease = take(queue)

    clock.advance(queue.lease_s - 0.25)
    use(queue, lease)

    assert queue.reap() == []


@use
def test_a_lease_is_lost_exactly_when_it_expires(
    queue: Queue, clock: ManualClock, use: Callable[[Queue, Lease], object]
) -> None:
    """From `expires_at` on every use raises and changes nothing, although nobody has reaped it."""
    queue.enqueue(a_job(id="a"))
    lease = take(queue)

    clock.advance(queue.lease_s)
    with pytest.raises(LeaseLost):
        use(queue, lease)

    assert counts(leased=1) == queue.counts()
    assert queue.reap() == ["a"]
    assert take(queue).attempt == 2


@use
@pytest.mark.parametrize("first", USES.values(), ids=USES.keys())
def test_a_settled_lease_cannot_be_used_again(
    queue: Queue,
    clock: ManualClock,
    first: Callable[[Queue, Lease], object],
    use: Callable[[Queue, Lease], object],
) -> None:
    """Whatever settled it; only an extension leaves it usable."""
    queue.enqueue(a_job())
    lease = take(queue)
    first(queue, lease)
    before = queue.counts()

    if first is USES["extend"]:
        use(queue, lease)
    else:
        with pytest.raises(LeaseLost):
            use(queue, lease)
        assert before == queue.counts()


@use
def test_a_late_worker_cannot_touch_the_next_attempt(
    open_client: Clients, clock: ManualClock, use: Callable[[Queue, Lease], object]
) -> None:
    """The token of the first attempt does not open the second, which somebody else holds."""
    slow, quick = open_client(), open_client()
    slow.enqueue(a_job())
    old = take(slow)
    clock.advance(slow.lease_s)
    present = take(quick)

    with pytest.raises(LeaseLost):
        use(slow, old)

    assert counts(leased=1) == quick.counts()
    quick.ack(present)
    assert counts(done=1) == quick.counts()


def test_reap_takes_back_an_expired_lease_and_not_before(queue: Queue, clock: ManualClock) -> None:
    """A job whose worker went silent is ready again at once."""
    job = queue.enqueue(a_job())
    take(queue)

    clock.advance(queue.lease_s - 0.25)
    early = queue.reap()
    clock.advance(0.25)
    late = queue.reap()

    assert early == []
    assert [job.id] == late
    assert counts(ready=1) == queue.counts()


def test_an_expired_lease_counts_as_a_failed_attempt(open_client: Clients, clock: ManualClock) -> None:
    """It is charged, without backoff, and says so in the history."""
    queue = open_client(worker="silent")
    queue.enqueue(a_job(max_retries=1))
    first = take(queue)
    clock.advance(queue.lease_s)
    second = take(queue)
    queue.nack(second, "broken")

    (letter,) = queue.dead_letters()

    assert second.attempt == 2
    assert clock.now() == second.due_at
    assert [(entry.number, entry.error) for entry in letter.attempts] == [(1, "lease expired"), (2, "broken")]
    assert ("silent", first.leased_at, first.expires_at) == (
        letter.attempts[0].worker,
        letter.attempts[0].leased_at,
        letter.attempts[0].failed_at,
    )


def test_one_dequeue_reaps_a_hundred(queue: Queue, clock: ManualClock) -> None:
    """The rest is left to the next ones, so that no call takes long."""
    queue.enqueue_many(some_jobs(250))
    queue.dequeue_many(250, timeout=0)
    clock.advance(queue.lease_s)

    first = queue.dequeue_many(5, timeout=0)

    assert len(first) == 1
    assert counts(ready=99, leased=151) == queue.counts()


def test_reap_takes_back_all(queue: Queue, clock: ManualClock) -> None:
    """However many have expired."""
    stored = queue.enqueue_many(some_jobs(250))
    queue.dequeue_many(250, timeout=0)
    clock.advance(queue.lease_s)

    taken = queue.reap()

    assert sorted(job.id for job in stored) == sorted(taken)
    assert counts(ready=250) == queue.counts()


def test_many_expired_jobs_all_come_again_in_order(queue: Queue, clock: ManualClock) -> None:
    """More expired leases than one call reaps are all handed out again, one at a time."""
    queue.enqueue_many(some_jobs(250))
    queue.dequeue_many(250, timeout=0)
    clock.advance(queue.lease_s)
    queue.reap()

    batches = [queue.dequeue_many(64, timeout=0) for _ in range(250)]

    assert {1} == {len(batch) for batch in batches}
    assert list(range(250)) == numbers([lease for batch in batches for lease in batch])


def test_leases_expire_one_by_one(queue: Queue, clock: ManualClock) -> None:
    """Each in its own time, whatever the order in which they were given or extended."""
    queue.enqueue_many([a_job(id=name) for name in "abc"])
    lease_a, lease_b = take(queue), take(queue)
    clock.advance(5.0)
    take(queue)
    queue.extend(lease_a, 30.0)
    del lease_b

    clock.advance(10.0)
    at_15 = queue.reap()
    clock.advance(5.0)
    at_20 = queue.reap()
    clock.advance(15.0)
    at_35 = queue.reap()

    assert (at_15, at_20, at_35) == (["b"], ["c"], ["a"])


# Extend


def test_extend_moves_the_expiry(open_client: Clients, clock: ManualClock) -> None:
    """To now plus the seconds given, by default the queue's lease, in place, for everyone to see."""
    queue, other = open_client(lease_s=10.0), open_client()
    queue.enqueue(a_job())
    lease = take(queue)
    clock.advance(4.0)

    returned = queue.extend(lease)
    by_default = lease.expires_at
    queue.extend(lease, 60.0)
    clock.advance(59.75)
    early = other.reap()
    clock.advance(0.25)
    late = other.reap()

    assert returned is lease
    assert lease.leased_at + 14.0 == by_default
    assert clock.now() == lease.expires_at
    assert ([], [lease.job.id]) == (early, late)


def test_extend_never_shortens(queue: Queue, clock: ManualClock) -> None:
    """Asking for less than is left changes nothing."""
    queue.enqueue(a_job())
    lease = take(queue)
    expires_at = lease.expires_at

    queue.extend(lease, 1.0)
    clock.advance(queue.lease_s - 0.25)

    assert expires_at == lease.expires_at
    assert queue.reap() == []


def test_extend_does_not_revive(queue: Queue, clock: ManualClock) -> None:
    """Neither before the expired lease is reaped nor after, and not after somebody else took the job."""
    queue.enqueue(a_job())
    lease = take(queue)
    clock.advance(queue.lease_s)

    lost = queue.extend_many([lease])
    queue.reap()
    lost += queue.extend_many([lease])
    present = take(queue)
    lost += queue.extend_many([lease])

    assert [lease] * 3 == lost
    queue.ack(present)


def test_extend_many_returns_what_is_lost(queue: Queue, clock: ManualClock) -> None:
    """The others are extended all the same."""
    queue.enqueue_many(some_jobs(3))
    first, second, third = queue.dequeue_many(3, timeout=0)
    queue.ack(second)

    lost = queue.extend_many([first, second, third], 40.0)

    assert [second] == lost
    assert [clock.now() + 40.0] * 2 == [first.expires_at, third.expires_at]
    assert clock.now() + queue.lease_s == second.expires_at


def test_a_lease_may_stand_twice_in_one_extension(queue: Queue, clock: ManualClock) -> None:
    """It is held, so it is not among the lost."""
    queue.enqueue(a_job())
    lease = take(queue)

    lost = queue.extend_many([lease, lease], 40.0)

    assert lost == []
    assert clock.now() + 40.0 == lease.expires_at


def test_extend_many_of_nothing_is_nothing(queue: Queue) -> None:
    """A lease keeper with nothing to keep may ask."""
    assert queue.extend_many([]) == []


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf"), "9", True])
def test_extend_refuses_seconds_that_are_none(queue: Queue, seconds: object) -> None:
    """The text names the argument, and the lease stays as it was."""
    queue.enqueue(a_job())
    lease = take(queue)

    with pytest.raises(ValueError, match="seconds"):
        queue.extend(lease, seconds)  # type: ignore[arg-type]

    queue.ack(lease)


# Release


def test_a_release_is_not_charged(queue: Queue, clock: ManualClock) -> None:
    """Given back untried, however often, it is still the first attempt, and has waited since it was due."""
    queue.enqueue(a_job(max_retries=0))
    due_at = []
    for _ in range(5):
        lease = take(queue)
        due_at.append(lease.due_at)
        clock.advance(1.0)
        queue.release(lease)

    lease = take(queue)

    assert lease.attempt == 1
    assert {lease.job.enqueued_at} == {*due_at, lease.due_at}
    assert counts(leased=1) == queue.counts()


def test_a_release_may_be_delayed(queue: Queue, clock: ManualClock) -> None:
    """It waits exactly that long."""
    queue.enqueue(a_job())
    queue.release(take(queue), delay=1.0)

    clock.advance(0.75)
    early = queue.dequeue(timeout=0)
    clock.advance(0.25)
    late = take(queue)

    assert early is None
    assert (1, clock.now()) == (late.attempt, late.due_at)


@pytest.mark.parametrize("delay", [-1.0, float("nan"), float("inf"), "1", True])
def test_a_wrong_delay_is_refused(queue: Queue, delay: object) -> None:
    """In `release` and in `nack`; the lease is still held."""
    queue.enqueue(a_job())
    lease = take(queue)

    with pytest.raises(InvalidJob, match="delay"):
        queue.release(lease, delay)  # type: ignore[arg-type]
    with pytest.raises(InvalidJob, match="delay"):
        queue.nack(lease, "broken", delay=delay)  # type: ignore[arg-type]

    queue.ack(lease)


# What has cost a worker its lease


def test_a_job_that_lost_a_lease_comes_alone(queue: Queue, clock: ManualClock) -> None:
    """It takes no neighbours with it, whether it stands first or not."""
    queue.enqueue_many([a_job(id="suspect"), a_job(id="b"), a_job(id="c")])
    take(queue)
    clock.advance(queue.lease_s)
    queue.enqueue(a_job(id="urgent", priority=1))

    batches = [queue.dequeue_many(10, timeout=0) for _ in range(4)]

    assert [ids(batch) for batch in batches] == [["urgent"], ["suspect"], ["b", "c"], []]
    assert [lease.job.id for batch in batches for lease in batch if lease.lost_before] == ["suspect"]


def test_a_suspect_is_told_by_its_lease(queue: Queue, clock: ManualClock) -> None:
    """Whether it comes in a list or by itself, and whoever reaped it."""
    queue.enqueue(a_job())
    first = take(queue)
    clock.advance(queue.lease_s)
    queue.reap()

    again = take(queue)

    assert (first.lost_before, again.lost_before) == (False, True)


def test_a_suspect_stays_one(queue: Queue, clock: ManualClock) -> None:
    """Release, retry and a second life after the dead letters do not wash it clean."""
    queue.enqueue_many([a_job(id="suspect"), a_job(id="b")])
    take(queue)
    clock.advance(queue.lease_s)
    queue.release(take(queue))
    after_release = queue.dequeue_many(10, timeout=0)
    assert after_release[0].lost_before
    queue.nack(after_release[0], "broken", delay=0.0)
    after_nack = queue.dequeue_many(10, timeout=0)
    queue.nack(after_nack[0], "broken", dead=True)
    queue.requeue_dead("suspect")
    queue.release(take(queue))
    queue.enqueue(a_job(id="c"))

    after_requeue = [ids(queue.dequeue_many(10, timeout=0)) for _ in range(3)]

    assert (ids(after_release), ids(after_nack)) == (["suspect"], ["suspect"])
    assert after_requeue == [["b"], ["suspect"], ["c"]]


def test_a_nack_does_not_make_a_suspect(queue: Queue) -> None:
    """Who fails in good order may share a batch."""
    queue.enqueue_many(some_jobs(3))
    queue.nack(take(queue), "broken", delay=0.0)

    assert numbers(queue.dequeue_many(10, timeout=0)) == [0, 1, 2]


def test_a_job_that_kills_its_worker_ends_as_a_dead_letter(queue: Queue, clock: ManualClock) -> None:
    """Its neighbours are charged once at most, for the batch they shared with it, and are done."""
    queue.enqueue_many([a_job(id="poison" if n == 3 else f"good-{n}", max_retries=2) for n in range(8)])

    def work() -> None:
        """A worker that takes batches and dies of the poison."""
        while leases := queue.dequeue_many(10, timeout=0):
            if "poison" in ids(leases):
                return
            queue.settle(acks=leases)

    for _ in range(4):
        work()
        clock.advance(queue.lease_s)
    (letter,) = queue.dead_letters()

    assert counts(done=7, dead=1) == queue.counts()
    assert (letter.job.id, letter.error, letter.attempt_count) == ("poison", "lease expired", 3)
    assert [entry.error for entry in letter.attempts] == ["lease expired"] * 3


# Settle


def test_settle_mixes_what_it_is_given(queue: Queue, clock: ManualClock) -> None:
    """Acks, nacks and releases in every form, in one call."""
    queue.enqueue_many([a_job(id=name, max_retries=1) for name in "abcdefgh"])
    a, b, c, d, e, f, g, h = queue.dequeue_many(8, timeout=0)

    lost = queue.settle(
        acks=[a, b],
        nacks=[(c, "plain"), Nack(d, "with delay", None, 9.0), Nack(e, "given up", "trace", dead=True)],
        releases=[f, Release(g, 5.0), (h, 0.0)],
    )

    assert lost == []
    assert counts(ready=2, scheduled=3, dead=1, done=2) == queue.counts()
    assert ids(take_all(queue)) == ["f", "h"]
    clock.advance(1.0)
    assert ids(take_all(queue)) == ["c"]
    clock.advance(4.0)
    assert ids(take_all(queue)) == ["g"]
    clock.advance(4.0)
    assert ids(take_all(queue)) == ["d"]
    assert [letter.job.id for letter in queue.dead_letters()] == ["e"]


def test_settle_applies_what_is_valid_and_returns_the_rest(queue: Queue, clock: ManualClock) -> None:
    """Lost leases stop nobody, wherever they stand."""
    queue.enqueue_many([a_job(id=name) for name in "abcdef"])
    a, b, c = queue.dequeue_many(3, timeout=0)
    clock.advance(10.0)
    d, e, f = queue.dequeue_many(3, timeout=0)
    clock.advance(5.0)

    lost = queue.settle(acks=[a, d], nacks=[(b, "late"), (e, "broken")], releases=[c, f])

    assert sorted(ids(lost)) == ["a", "b", "c"]
    assert all(any(entry is lease for lease in (a, b, c)) for entry in lost)
    assert counts(leased=3, done=1, scheduled=1, ready=1) == queue.counts()


def test_settle_of_nothing_is_nothing(queue: Queue) -> None:
    """An idle settler may call it."""
    assert queue.settle() == []
    assert queue.settle([], [], []) == []


def test_settle_takes_iterators(queue: Queue) -> None:
    """Whatever can be walked through once."""
    queue.enqueue_many(some_jobs(3))
    leases = queue.dequeue_many(3, timeout=0)

    lost = queue.settle(acks=(lease for lease in leases[:2]), releases=iter(leases[2:]))

    assert lost == []
    assert counts(done=2, ready=1) == queue.counts()


@pytest.mark.parametrize("twice", ["ack ack", "ack nack", "ack release", "nack nack", "nack release"])
def test_the_first_word_about_a_lease_counts(queue: Queue, twice: str) -> None:
    """A second one in the same call finds it settled; neighbours are unharmed."""
    queue.enqueue_many(some_jobs(2))
    lease, neighbour = queue.dequeue_many(2, timeout=0)
    first = twice.split()[0]
    acks = [lease] * twice.count("ack") if first == "ack" and "nack" not in twice else [lease] * (first == "ack")
    nacks = [(lease, "broken")] * twice.count("nack")
    releases = [lease] * twice.count("release")

    lost = queue.settle(acks=[*acks, neighbour], nacks=nacks, releases=releases)

    assert [lease] == lost
    expected = counts(done=2) if first == "ack" else counts(done=1, scheduled=1)
    assert expected == queue.counts()


def test_settle_takes_thousands(queue: Queue) -> None:
    """More than any limit on the arguments of a call."""
    queue.enqueue_many(some_jobs(3000))
    leases = [lease for _ in range(3) for lease in queue.dequeue_many(1000, timeout=0)]

    lost = queue.settle(
        acks=leases[:1500],
        nacks=[(lease, "broken") for lease in leases[1500:2500]],
        releases=leases[2500:],
    )

    assert lost == []
    assert counts(done=1500, scheduled=1000, ready=500) == queue.counts()


@pytest.mark.parametrize("error", [None, 7, b"broken", ValueError("broken")])
def test_an_error_that_is_not_text_is_refused(queue: Queue, error: object) -> None:
    """Before anything has changed: the lease is still held."""
    queue.enqueue(a_job())
    lease = take(queue)

    with pytest.raises(InvalidJob, match="error: must be a string"):
        queue.nack(lease, error)  # type: ignore[arg-type]

    queue.ack(lease)


# What the worker is told


def test_the_error_names_job_attempt_and_what_to_do(queue: Queue, clock: ManualClock) -> None:
    """The same facts are there as attributes."""
    queue.enqueue(a_job(id="job-7"))
    lease = take(queue)
    clock.advance(queue.lease_s)

    with pytest.raises(LeaseLost) as caught:
        queue.ack(lease)

    text = str(caught.value)
    assert "job job-7 attempt 1" in text
    assert "Extend the lease while working, or raise lease_s (now 15)" in text
    assert ("job-7", 1, lease.expires_at) == (caught.value.job_id, caught.value.attempt, caught.value.expires_at)


def test_each_lease_has_a_job_of_its_own(queue: Queue) -> None:
    """A worker may change its job; the next attempt sees it as it was enqueued."""
    given = a_job(payload={"rows": [1, 2]}, meta={"a": "b"})
    queue.enqueue(given)
    given.payload["rows"].append("the caller's")
    first = take(queue)
    first.job.payload["rows"].append("the worker's")
    first.job.meta["a"] = "changed"
    queue.release(first)

    second = take(queue)

    assert (second.job.payload, second.job.meta) == ({"rows": [1, 2]}, {"a": "b"})


def test_lease_s_is_of_the_client_that_takes(open_client: Clients, clock: ManualClock) -> None:
    """Each client holds its leases for as long as it said."""
    short, long = open_client(lease_s=1.0), open_client(lease_s=60.0)
    short.enqueue_many([a_job(id="a"), a_job(id="b")])
    take(short)
    take(long)

    clock.advance(1.0)

    assert short.reap() == ["a"]
    assert short.find(["a", "b"]) == {"a": State.READY, "b": State.LEASED}
