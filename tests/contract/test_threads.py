"""Threads at work on one queue: what must hold afterwards, whatever their order was."""

import random
import threading

import pytest

from allocator import Lease, Nack, Queue
from allocator.bench.checker import Promise
from tests.contract.builders import Clients, InThread, a_job, some_jobs
from tests.contract.history import Notes, now_s

PRODUCERS, WORKERS, JOBS_EACH = 4, 4, 60


def produce(queue: Queue, notes: Notes, seed: int) -> None:
    """Enqueue one by one and in lists, with priorities and delays that end at once."""
    source, left = random.Random(seed), JOBS_EACH
    while left:
        count = min(left, source.choice([1, 1, 2, 5, 13]))
        jobs = [
            a_job(priority=source.randint(-2, 2), delay=source.choice([0.0, 0.0, 0.0, 0.01]), max_retries=1000)
            for _ in range(count)
        ]
        asked_at = now_s()
        stored = [queue.enqueue(jobs[0])] if count == 1 else queue.enqueue_many(jobs)
        notes.enqueued(stored, asked_at, now_s())
        left -= count


def settle_one_way(queue: Queue, leases: list[Lease], source: random.Random) -> dict[str, str]:
    """Settle each of the leases in some way, by single calls or by one; gives what was said, by token."""
    said = {lease.token: source.choices(["ack", "nack", "bury", "release"], [6, 2, 1, 2])[0] for lease in leases}
    of = {verb: [lease for lease in leases if said[lease.token] == verb] for verb in set(said.values())}
    for lease in of.get("bury", []):
        queue.nack(lease, "given up", dead=True)
    if source.random() < 0.5:
        lost = queue.settle(
            acks=of.get("ack", []),
            nacks=[Nack(lease, "broken", delay=0.0) for lease in of.get("nack", [])],
            releases=of.get("release", []),
        )
        assert lost == []
    else:
        for lease in of.get("ack", []):
            queue.ack(lease)
        for lease in of.get("nack", []):
            queue.nack(lease, "broken", delay=0.0)
        for lease in of.get("release", []):
            queue.release(lease)
    return said


class Finish:
    """Counts jobs that came to their end, and tells when all have."""

    def __init__(self, wanted: int) -> None:
        self._left = wanted
        self._lock = threading.Lock()
        self.reached = threading.Event()

    def count(self, number: int) -> None:
        """So many more."""
        with self._lock:
            self._left -= number
            if self._left <= 0:
                self.reached.set()


@pytest.mark.parametrize("objects", ["shared", "own"])
def test_eight_threads_lose_and_double_nothing(open_client: Clients, objects: str) -> None:
    """Four enqueue, four take and settle in every way, through one object or each through its own."""
    notes, finish = Notes(), Finish(PRODUCERS * JOBS_EACH)
    shared = open_client(clock=None, lease_s=60.0)
    queues = [shared if objects == "shared" else open_client(clock=None, lease_s=60.0) for _ in range(8)]

    def work(queue: Queue, seed: int) -> None:
        source = random.Random(seed)
        asked_at = now_s()
        while leases := queue.dequeue_many(source.randint(1, 8), timeout=None):
            # Held surely from here until the calls that settle them, so these two instants are the ones to note.
            began = now_s()
            queue.extend_many(leases)
            ended = now_s()
            said = settle_one_way(queue, leases, source)
            for lease in leases:
                notes.held(lease, began, ended, said[lease.token], asked_at=asked_at, expires_at=began + 30.0)
            finish.count(sum(verb in ("ack", "bury") for verb in said.values()))
            asked_at = now_s()

    workers = [InThread(work, queue, n) for n, queue in enumerate(queues[:WORKERS])]
    producers = [InThread(produce, queue, notes, 100 + n) for n, queue in enumerate(queues[WORKERS:])]
    for thread in producers:
        thread.result()
    assert finish.reached.wait(60.0), f"not all jobs came to their end: {shared.counts()}"
    for queue in queues:
        queue.close()
    for thread in workers:
        thread.result()

    judgement = notes.judge(shared)
    assert judgement.told() == []
    # There are no faults, stores, traces of bodies or workers here.
    beyond = {Promise.EXPLAINED, Promise.TRANSITIONS, Promise.GRACEFUL}
    assert set(judgement.not_judged()) == beyond
    figures = shared.counts()
    assert figures["done"] + figures["dead"] == PRODUCERS * JOBS_EACH
    assert (figures["ready"], figures["scheduled"], figures["leased"]) == (0, 0, 0)


def test_silent_workers_lose_nothing(open_client: Clients) -> None:
    """Threads that now and then drop what they hold: short leases bring it all back, and nothing is done twice."""
    notes, finish = Notes(), Finish(120)
    producer = open_client(clock=None)
    asked_at = now_s()
    stored = producer.enqueue_many(some_jobs(120, max_retries=1000))
    notes.enqueued(stored, asked_at, now_s())

    def work(seed: int) -> None:
        source = random.Random(seed)
        queue = queues[seed]
        while leases := queue.dequeue_many(4, timeout=None):
            began = now_s()
            if source.random() < 0.1:
                for lease in leases:
                    notes.held(lease, began, began, "silent")
                continue
            lost = {lease.token for lease in queue.settle(acks=leases)}
            for lease in leases:
                notes.held(lease, began, began, "ack", taken=lease.token not in lost)
            finish.count(len(leases) - len(lost))

    queues = [open_client(clock=None, lease_s=0.1) for _ in range(4)]
    workers = [InThread(work, n) for n in range(4)]
    assert finish.reached.wait(60.0), f"not all jobs came to their end: {producer.counts()}"
    for queue in queues:
        queue.close()
    for thread in workers:
        thread.result()

    assert notes.judge(producer).told() == []
    assert (producer.counts()["done"], producer.size()) == (120, 0)


def test_one_lease_settled_by_many_threads_is_settled_once(open_client: Clients) -> None:
    """Of eight that ack, nack or release it at once, one gets through and the others are told."""
    queue = open_client(clock=None)
    for _ in range(10):
        queue.enqueue(a_job(max_retries=1000))
        lease = queue.dequeue(timeout=0)
        assert lease is not None
        start = threading.Barrier(8)

        def settle(n: int, lease: Lease = lease, start: threading.Barrier = start) -> int:
            start.wait(20.0)
            if n % 3 == 0:
                return len(queue.settle(acks=[lease]))
            if n % 3 == 1:
                return len(queue.settle(nacks=[(lease, "broken")]))
            return len(queue.settle(releases=[lease]))

        threads = [InThread(settle, n) for n in range(8)]
        lost = sum(thread.result() for thread in threads)
        figures = queue.counts()

        assert lost == 7
        assert figures["leased"] == 0
        queue.settle(acks=queue.dequeue_many(10, timeout=0))


def test_one_id_enqueued_by_many_threads_is_one_job(open_client: Clients) -> None:
    """All of them get the job of the one that was first."""
    queues = [open_client(clock=None) for _ in range(8)]
    start = threading.Barrier(8)

    def enqueue(n: int) -> list[int]:
        start.wait(20.0)
        stored = queues[n].enqueue_many([a_job(id=f"job-{i}", payload={"n": n}) for i in range(20)])
        return [job.payload["n"] for job in stored]

    threads = [InThread(enqueue, n) for n in range(8)]
    replies = {tuple(thread.result()) for thread in threads}
    leases = queues[0].dequeue_many(100, timeout=0)

    assert len(leases) == 20
    assert {tuple(lease.job.payload["n"] for lease in leases)} == replies
