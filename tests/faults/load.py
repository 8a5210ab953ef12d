"""Producers and consumers that keep a queue busy while something happens to its server."""

import threading
import time
from collections import Counter
from types import TracebackType
from typing import Self

from allocator import Job
from allocator.queue.base import Queue
from tests.faults.running import LONG_S, Running, until


class Load:
    """
    Two producers, one by one and in lists, and two consumers, each in a thread. A context manager.

    Attributes:
        accepted: (job id, monotonic time of the reply) of each job that a call to enqueue has returned.
        done: (job id, attempt) of each lease whose ack was taken.
    """

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.accepted: list[tuple[str, float]] = []
        self.done: list[tuple[str, int]] = []
        self._stop_producing = threading.Event()
        self._stop_consuming = threading.Event()
        self._producers = [Running(self._produce, "one", 1), Running(self._produce, "list", 20)]
        self._consumers = [Running(self._consume, 1), Running(self._consume, 50)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_producing.set()
        self._stop_consuming.set()

    def _produce(self, name: str, size: int) -> None:
        number = 0
        # The pause keeps the backlog from growing for as long as a slow machine takes.
        while not self._stop_producing.wait(0.001 * size):
            jobs = [Job(type="faults", id=f"{name}-{number + n}", payload={"n": n}) for n in range(size)]
            stored = [self.queue.enqueue(jobs[0])] if size == 1 else self.queue.enqueue_many(jobs)
            now = time.monotonic()
            self.accepted += [(job.id, now) for job in stored]
            number += size

    def _consume(self, limit: int) -> None:
        while not self._stop_consuming.is_set():
            leases = self.queue.dequeue_many(limit, timeout=0.1)
            lost = {lease.token for lease in self.queue.settle(acks=leases)}
            self.done += [(lease.job.id, lease.attempt) for lease in leases if lease.token not in lost]

    def check(self) -> None:
        """Raise what a thread has raised."""
        for thread in (*self._producers, *self._consumers):
            if thread.done:
                thread.result()

    def await_done(self, more: int, within_s: float = LONG_S) -> None:
        """Wait until `more` jobs than now are done."""
        target = len(self.done) + more

        def reached() -> bool:
            self.check()
            return len(self.done) >= target

        until(reached, f"{more} more jobs done", within_s)

    def finish(self) -> None:
        """Stop producing, let the consumers finish, and stop them; raises what any call has raised."""
        self._stop_producing.set()
        for producer in self._producers:
            producer.result()

        def drained() -> bool:
            self.check()
            counts = self.queue.counts()
            return counts["ready"] + counts["leased"] == 0

        until(drained, "everything done")
        self._stop_consuming.set()
        for consumer in self._consumers:
            consumer.result()

    def lost(self) -> list[tuple[str, float]]:
        """Accepted and never done."""
        done = {job_id for job_id, _ in self.done}
        return [entry for entry in self.accepted if entry[0] not in done]

    def doubled(self) -> list[str]:
        """Done more than once."""
        return [job_id for job_id, count in Counter(job_id for job_id, _ in self.done).items() if count > 1]
