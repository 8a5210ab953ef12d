"""Who fetches: the worker that wants a job, and a thread that fetches ahead only while all workers are at work."""

import threading

import pytest

from allocator import Lease
from allocator.supervisor.buffer import Buffer
from allocator.supervisor.held import Held
from tests.contract.builders import BOUND_S, InThread, a_job
from tests.faults.running import until

NEVER_S = 3600.0


def some_held(count: int) -> list[Held]:
    """Jobs as the queue gives them."""
    leases = [Lease(a_job(), 1, f"token-{number}", 100.0, 0.0, 0.0) for number in range(count)]
    return [Held(lease, 60.0, fetched=0.0) for lease in leases]


class Source:
    """What workers fetch from: each fetch waits for what is given next, and puts it."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._given = threading.Semaphore(0)
        self._jobs: list[Held] = []
        self.threads: list[threading.Thread] = []
        self.at_once = self.most_at_once = 0

    def fetch(self) -> None:
        """As the fetcher's."""
        self.threads.append(threading.current_thread())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self._given.acquire(timeout=BOUND_S)
        self.at_once -= 1
        jobs, self._jobs = self._jobs, []
        self._buffer.put(jobs)

    def give(self, jobs: list[Held]) -> None:
        """Let the fetch that waits, or the next one, bring these."""
        self._jobs = jobs
        self._given.release()


def test_a_worker_gets_what_it_fetched_in_its_own_thread() -> None:
    """No other has to wake up on the way."""
    buffer = Buffer()
    source = Source(buffer)
    (job,) = some_held(1)
    source.give([job])

    assert buffer.take(source.fetch) is job
    assert source.threads == [threading.current_thread()]


def test_others_get_what_is_left_and_one_of_them_fetches_next() -> None:
    """Never two at a time, and never nobody."""
    buffer = Buffer()
    source = Source(buffer)
    takes = [InThread(buffer.take, source.fetch) for _ in range(4)]
    until(lambda: buffer.idle_count == 4, "all of them wait")
    jobs = some_held(4)

    source.give(jobs[:2])
    until(lambda: buffer.idle_count == 2, "two have one")
    until(lambda: len(source.threads) == 2, "one of the others fetches")
    source.give(jobs[2:3])
    until(lambda: buffer.idle_count == 1, "three have one")
    until(lambda: len(source.threads) == 3, "the last one fetches")
    source.give(jobs[3:])

    taken = [take.result() for take in takes]
    assert {held.lease.token for held in taken if held} == {held.lease.token for held in jobs}
    assert source.most_at_once == 1


def test_it_is_fetched_ahead_while_no_worker_waits() -> None:
    """One that waits fetches for itself, as soon as the turn of the other is over."""
    buffer = Buffer()
    source = Source(buffer)

    assert buffer.begin_fetching()
    take = InThread(buffer.take, source.fetch)
    until(lambda: buffer.idle_count == 1, "the worker waits")
    assert not source.threads
    buffer.end_fetching()
    until(lambda: source.threads, "it fetches")
    ahead = InThread(buffer.begin_fetching)
    source.give(some_held(1))

    assert take.result() is not None
    assert ahead.result() is True


@pytest.mark.parametrize("is_worker", [True, False], ids=["a worker", "ahead"])
def test_a_stop_waits_for_what_is_being_fetched(is_worker: bool) -> None:
    """What comes late finds nobody; so it returns when the fetch has, and nobody begins another."""
    buffer = Buffer()
    source = Source(buffer)
    if is_worker:
        take = InThread(buffer.take, source.fetch)
        until(lambda: source.threads, "it fetches")
    else:
        assert buffer.begin_fetching()
        take = InThread(buffer.take, source.fetch)
        until(lambda: buffer.idle_count == 1, "the worker waits")

    stop = InThread(buffer.stop_fetching, NEVER_S)
    until(lambda: buffer._fetching_ended, "the stop has begun")
    assert buffer.fetching is not None
    assert stop.is_alive()
    if is_worker:
        source.give([])
    else:
        buffer.end_fetching()
    stop.result()
    buffer.close()

    assert take.result() is None
    assert len(source.threads) == int(is_worker)
    assert not buffer.begin_fetching()


def test_a_stop_does_not_wait_for_ever() -> None:
    """A server that does not answer keeps whoever asks it."""
    buffer = Buffer()
    assert buffer.begin_fetching()

    buffer.stop_fetching(0.0)

    assert buffer.fetching is threading.current_thread()
