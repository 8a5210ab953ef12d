"""What a large backlog costs: the price of each operation beside its price at a small one, and the room of a job."""

import statistics
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass

from allocator.bench.queue.measures import PAYLOAD
from allocator.bench.scratch import scratch_queue
from allocator.domain.job import Job
from allocator.queue.base import Queue

SMALL = 1_000


@dataclass
class BacklogCost:
    """
    Args:
        large: The backlog, in jobs; compared with 1,000.
        small_us, large_us: Operation -> microseconds, median of the slices.
        bytes_per_job: What a waiting job with a 100-byte payload takes, or None where it could not be read.
    """

    backend: str
    large: int
    small_us: dict[str, float]
    large_us: dict[str, float]
    bytes_per_job: float | None

    @property
    def ratios(self) -> dict[str, float]:
        """Operation -> cost at the large backlog over cost at 1,000."""
        return {name: self.large_us[name] / self.small_us[name] for name in self.small_us}


def measure_backlog(backend: str, url: str, large: int, advance: Callable[[int], None]) -> BacklogCost:
    """
    Two queues side by side, measured in turns: one with 1,000 jobs waiting, one with `large`.

    `advance(jobs)` is told of progress while the backlog is built.
    """
    with scratch_queue(url, "small") as small, scratch_queue(url, "large") as full:
        _fill(small, SMALL, lambda _: None)
        room = _used_bytes(url)
        _fill(full, large, advance)
        room_after = _used_bytes(url)
        costs: list[tuple[dict[str, float], dict[str, float]]] = []
        operations = 4_000 if backend == "in process" else 400
        for _ in range(9):
            costs.append((_cost(small, operations // 8), _cost(full, operations // 8)))
    names = ("enqueue", "dequeue", "ack")
    return BacklogCost(
        backend,
        large,
        {name: statistics.median(at_small[name] for at_small, _ in costs) for name in names},
        {name: statistics.median(at_large[name] for _, at_large in costs) for name in names},
        _in_process_bytes() if room is None or room_after is None else (room_after - room) / large,
    )


def _fill(queue: Queue, count: int, advance: Callable[[int], None]) -> None:
    for start in range(0, count, 1000):
        jobs = [Job(type="bench", payload=PAYLOAD, priority=index % 7) for index in range(min(1000, count - start))]
        queue.enqueue_many(jobs)
        advance(len(jobs))


def _cost(queue: Queue, count: int) -> dict[str, float]:
    """Microseconds for each operation, the backlog staying as it is."""
    start = time.perf_counter()
    for index in range(count):
        queue.enqueue(Job(type="bench", payload=PAYLOAD, priority=index % 7))
    enqueued = time.perf_counter()
    leases = [queue.dequeue(timeout=0) for _ in range(count)]
    dequeued = time.perf_counter()
    for lease in leases:
        assert lease is not None
        queue.ack(lease)
    acked = time.perf_counter()
    return {
        "enqueue": (enqueued - start) / count * 1e6,
        "dequeue": (dequeued - enqueued) / count * 1e6,
        "ack": (acked - dequeued) / count * 1e6,
    }


def _used_bytes(url: str) -> float | None:
    """What the server holds now; on Redis memory, on PostgreSQL the tables of the queue with their indexes."""
    if url.startswith("redis"):
        import redis

        with redis.Redis.from_url(url) as client:
            return float(client.info("memory")["used_memory"])
    if url.startswith("postgres"):
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            row = connection.execute(
                "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c "
                "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'allocator' AND c.relkind = 'r'"
            ).fetchone()
            return float(row[0]) if row and row[0] is not None else None
    return None


def _in_process_bytes() -> float:
    """What Python allocates for a waiting job, told by tracemalloc on a queue of its own."""
    count = 20_000
    with scratch_queue("memory://", "room") as queue:
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            _fill(queue, count, lambda _: None)
            return (tracemalloc.get_traced_memory()[0] - before) / count
        finally:
            tracemalloc.stop()
