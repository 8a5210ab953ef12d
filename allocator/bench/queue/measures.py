"""What is measured: for each operation of a backend, its own rate and the rate of the bare limit beside it."""

import queue as standard_queue
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from allocator.bench.scratch import scratch_queue
from allocator.domain.job import Job
from allocator.queue.base import Queue

PAYLOAD = "x" * 100
"""100 bytes, as the payload of every job below."""

Rate = Callable[[], float]
"""Runs once and gives operations a second."""


@dataclass
class Measure:
    """
    One row of the result.

    Args:
        backend: in process, Redis or PostgreSQL.
        operation: What is measured.
        limit_name: The bare limit measured beside it.
        subject, limit: One run of each.
        target: Least ratio of subject to limit; or least subject rate where `target_is_rate`; None: only reported.
    """

    backend: str
    operation: str
    limit_name: str
    subject: Rate
    limit: Rate
    target: float | None
    target_is_rate: bool = False
    subject_rates: list[float] = field(default_factory=list)
    limit_rates: list[float] = field(default_factory=list)

    def run(self, round_number: int) -> None:
        """Measure both once. The order alternates, so that drift of the machine falls on both."""
        first_limit = round_number % 2 == 0
        if first_limit:
            self.limit_rates.append(self.limit())
        self.subject_rates.append(self.subject())
        if not first_limit:
            self.limit_rates.append(self.limit())

    @property
    def ratios(self) -> list[float]:
        """Subject over limit, one a round."""
        return [subject / limit for subject, limit in zip(self.subject_rates, self.limit_rates, strict=True)]

    @property
    def reached(self) -> bool | None:
        """Whether the median met the target in this run; None where there is none."""
        if self.target is None:
            return None
        if self.target_is_rate:
            return statistics.median(self.subject_rates) >= self.target
        return statistics.median(self.ratios) >= self.target


def _rate(operation: Callable[[], object], count: int, jobs_each: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(count):
        operation()
    return count * jobs_each / (time.perf_counter() - start)


def _jobs(count: int) -> list[Job]:
    return [Job(type="bench", payload=PAYLOAD) for _ in range(count)]


def _drain(queue: Queue, count: int) -> float:
    done = 0
    start = time.perf_counter()
    while done < count:
        leases = queue.dequeue_many(100, timeout=0)
        if not leases:
            raise RuntimeError(f"queue {queue.name} ran dry after {done} of {count} jobs")
        queue.settle(acks=leases)
        done += len(leases)
    return done / (time.perf_counter() - start)


@contextmanager
def in_process_measures(scale: float) -> Iterator[list[Measure]]:
    """The in-process queue beside the standard library's heap under a lock."""
    with scratch_queue("memory://", "bench") as queue:
        bare: standard_queue.PriorityQueue[tuple[int, int]] = standard_queue.PriorityQueue()

        def cycle() -> None:
            queue.enqueue(Job(type="bench", payload={"n": 1}))
            lease = queue.dequeue(timeout=0)
            assert lease is not None
            queue.ack(lease)

        def put_and_get() -> None:
            bare.put((0, 1))
            bare.get()

        count = int(40_000 * scale)
        yield [
            Measure(
                "in process",
                "enqueue + dequeue + ack, one thread",
                "queue.PriorityQueue put + get",
                lambda: _rate(cycle, count),
                lambda: _rate(put_and_get, count),
                0.30,
            )
        ]


@contextmanager
def redis_measures(url: str, scale: float) -> Iterator[list[Measure]]:
    """The Redis queue beside bare redis-py on the same server."""
    import redis

    with ExitStack() as stack:
        queue = stack.enter_context(scratch_queue(url, "bench"))
        client = stack.enter_context(redis.Redis.from_url(url))
        value = PAYLOAD.encode()
        key = f"allocator:{{{queue.name}}}:bare"

        def set_in_pipelines(count: int) -> float:
            start = time.perf_counter()
            for _ in range(count // 100):
                pipeline = client.pipeline(transaction=False)
                for index in range(100):
                    pipeline.set(f"{key}:{index}", value)
                pipeline.execute()
            return count / (time.perf_counter() - start)

        single, many = int(3_000 * scale), max(1000, int(20_000 * scale) // 1000 * 1000)
        pipelined = "redis-py SETs in pipelines of 100"
        yield [
            Measure(
                "Redis",
                "enqueue, one by one",
                "redis-py PING loop",
                lambda: _rate(lambda: queue.enqueue(Job(type="bench", payload=PAYLOAD)), single),
                lambda: _rate(client.ping, single),
                0.60,
            ),
            Measure(
                "Redis",
                "enqueue_many, lists of 1,000",
                pipelined,
                lambda: _rate(lambda: queue.enqueue_many(_jobs(1000)), many // 1000, 1000),
                lambda: set_in_pipelines(many),
                0.50,
            ),
            Measure(
                "Redis",
                "dequeue_many(100) + settle",
                pipelined,
                # What the two measures above have put in during this round.
                lambda: _drain(queue, many),
                lambda: set_in_pipelines(many),
                0.45,
            ),
        ]


@contextmanager
def postgres_measures(url: str, scale: float) -> Iterator[list[Measure]]:
    """The PostgreSQL queue beside bare psycopg on the same server."""
    import psycopg

    from allocator.domain.ids import new_id

    with ExitStack() as stack:
        queue = stack.enter_context(scratch_queue(url, "bench"))
        connection = stack.enter_context(psycopg.connect(url, autocommit=True))
        # A table that only this connection sees would not be written ahead: it must be an ordinary one.
        table = "allocator_bench_" + queue.name.replace("-", "_")
        connection.execute(f"CREATE TABLE {table} (id text, record bytea)".encode())
        stack.callback(lambda: connection.execute(f"DROP TABLE {table}".encode()))
        insert = f"INSERT INTO {table} VALUES (%s, %s)".encode()
        copy = f"COPY {table} FROM STDIN".encode()
        record = b'{"type":"bench","payload":"' + PAYLOAD.encode() + b'"}'

        transactional = stack.enter_context(psycopg.connect(url))

        def insert_and_commit() -> None:
            transactional.execute(insert, (new_id(), record))
            transactional.commit()

        def insert_in_autocommit() -> None:
            connection.execute(insert, (new_id(), record))

        def copy_a_thousand() -> None:
            with connection.cursor() as cursor, cursor.copy(copy) as rows:
                for _ in range(1000):
                    rows.write_row((new_id(), record))

        single, many = int(1_000 * scale), max(1000, int(10_000 * scale) // 1000 * 1000)
        yield [
            Measure(
                "PostgreSQL",
                "enqueue, one by one",
                "psycopg INSERT + COMMIT loop",
                lambda: _rate(lambda: queue.enqueue(Job(type="bench", payload=PAYLOAD)), single),
                lambda: _rate(insert_and_commit, single),
                0.70,
            ),
            Measure(
                "PostgreSQL",
                "enqueue, one by one, again",
                "psycopg INSERT in autocommit, one round trip",
                lambda: _rate(lambda: queue.enqueue(Job(type="bench", payload=PAYLOAD)), single),
                lambda: _rate(insert_in_autocommit, single),
                None,
            ),
            Measure(
                "PostgreSQL",
                "enqueue_many, lists of 1,000",
                "psycopg COPY of the same rows",
                lambda: _rate(lambda: queue.enqueue_many(_jobs(1000)), many // 1000, 1000),
                lambda: _rate(copy_a_thousand, many // 1000, 1000),
                0.35,
            ),
            Measure(
                "PostgreSQL",
                "dequeue_many(100) + settle",
                "psycopg COPY of the same rows",
                lambda: _drain(queue, many),
                lambda: _rate(copy_a_thousand, many // 1000, 1000),
                20_000,
                target_is_rate=True,
            ),
        ]
