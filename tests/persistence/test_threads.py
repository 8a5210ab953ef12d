"""Several threads on one store."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from allocator.persistence import Store
from tests.persistence.builders import NOW, FakeQueue, Opener, a_job, a_lease, an_ending


def test_every_job_ends_once(store: Store, queue: FakeQueue) -> None:
    """Four threads begin and settle batches that overlap, in any order: each job ends once and nothing is lost."""
    jobs = store.submit_many(queue, [a_job() for _ in range(120)])

    def work(number: int) -> Counter[str]:
        ended: Counter[str] = Counter()
        for start in range(0, 120, 20):
            # Each thread goes another way round, with later leases than the thread before it.
            batch = [jobs[(start + 30 * number + k) % 120] for k in range(20)][:: 1 if number % 2 else -1]
            leases = [a_lease(job, attempt=number + 1, at=NOW + number) for job in batch]
            begun = store.begin(leases, queue)
            fenced = store.settle([an_ending(lease) for lease in begun.runnable])
            assert len(begun.runnable) + len(begun.finished) + len(begun.lost) == 20
            ended.update(lease.job.id for lease in begun.runnable)
            ended.subtract(ending.lease.job.id for ending in fenced)
        return ended

    with ThreadPoolExecutor(4) as pool:
        ended = sum(pool.map(work, range(4)), Counter())

    assert ended == Counter(job.id for job in jobs)
    assert store.counts()["done"] == 120


def test_two_stores_on_one_database(opener: Opener, queue: FakeQueue) -> None:
    """What one has written the other reads, and both write at once."""
    stores = [opener(), opener()]

    def work(number: int) -> None:
        for _ in range(10):
            store = stores[number]
            leases = [a_lease(job) for job in store.submit_many(queue, [a_job(), a_job()])]
            store.begin(leases, queue)
            store.settle([an_ending(lease) for lease in leases])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))

    assert [store.counts()["done"] for store in stores] == [40, 40]


def test_a_stranger_that_two_take_in_at_once(opener: Opener, queue: FakeQueue) -> None:
    """The row is made once, and the later lease has it."""
    stores = [opener(), opener()]
    leases = [[a_lease(a_job(id=f"job-{n}"), at=NOW + k) for n in range(50)] for k in range(2)]

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda k: stores[k].begin(leases[k], queue), range(2)))

    fenced = stores[0].settle([an_ending(lease) for lease in leases[0]])
    assert len(fenced) == 50
    assert stores[1].settle([an_ending(lease) for lease in leases[1]]) == []
