"""Point 6: time is the server's, and a test's where it gives a clock."""

import time

import pytest

from allocator import ManualClock, Queue
from tests.contract.builders import Clients, a_job, bury, take

HOUR_S = 3600.0


def test_every_instant_is_on_the_clock_of_the_queue(queue: Queue, clock: ManualClock) -> None:
    """Acceptance, due time, lease, expiry and death, all by the clock that was given."""
    began = clock.now()
    stored = queue.enqueue(a_job(delay=1.5))
    clock.advance(2.0)
    lease = take(queue)
    clock.advance(3.0)
    queue.nack(lease, "broken", dead=True)
    (letter,) = queue.dead_letters()

    assert began == stored.enqueued_at
    assert (began + 1.5, began + 2.0, began + 17.0) == (lease.due_at, lease.leased_at, lease.expires_at)
    assert (began + 2.0, began + 5.0, began + 5.0) == (
        letter.attempts[0].leased_at,
        letter.attempts[0].failed_at,
        letter.dead_at,
    )


def test_nothing_happens_while_the_clock_stands(queue: Queue) -> None:
    """Real time does not count where a clock was given."""
    queue.enqueue(a_job(delay=0.001))

    taken = queue.dequeue(timeout=0.05)

    assert taken is None
    assert queue.counts()["scheduled"] == 1


def test_fractions_of_a_second_are_kept_to_the_millisecond(queue: Queue, clock: ManualClock) -> None:
    """Delays and leases are not rounded to seconds."""
    queue.enqueue(a_job(delay=0.125))
    clock.advance(0.124)
    early = queue.dequeue(timeout=0)
    clock.advance(0.001)
    lease = take(queue)

    assert early is None
    assert pytest.approx(clock.now(), abs=1e-5) == lease.due_at


def test_long_delays_are_kept(queue: Queue, clock: ManualClock) -> None:
    """Years do not overflow."""
    years = 9 * 365 * 24 * HOUR_S
    queue.enqueue(a_job(delay=years))

    clock.advance(years - 1.0)
    early = queue.dequeue(timeout=0)
    clock.advance(1.0)

    assert early is None
    assert clock.now() == take(queue).due_at


@pytest.mark.on_servers
def test_clients_whose_clocks_are_hours_off_agree(open_client: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fast client neither expires the leases of others nor sees their jobs early."""
    right = open_client(clock=None)
    before = time.time()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: before + 2 * HOUR_S)
        fast = open_client(clock=None)
        fast.enqueue(a_job(id="now"))
        fast.enqueue(a_job(id="later", delay=HOUR_S))
        lease = take(right)
        reaped, taken = fast.reap(), fast.dequeue(timeout=0)
        fast.extend(lease, 20.0)
        found = fast.counts()

    assert (reaped, taken) == ([], None)
    assert abs(lease.leased_at - before) < HOUR_S
    assert abs(lease.expires_at - before) < HOUR_S
    assert (found["leased"], found["scheduled"]) == (1, 1)
    right.ack(lease)


@pytest.mark.on_servers
def test_without_a_clock_the_instants_are_of_this_time(real_queue: Queue) -> None:
    """Seconds since the epoch, as everybody counts them."""
    stored = bury(real_queue)[0]

    (letter,) = real_queue.dead_letters()

    assert stored.enqueued_at is not None
    assert abs(stored.enqueued_at - time.time()) < HOUR_S
    assert stored.enqueued_at <= letter.attempts[0].leased_at <= letter.attempts[0].failed_at <= letter.dead_at
