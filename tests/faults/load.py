"""Producers and consumers that keep a queue busy while something happens to its server."""

import threading
import time
from math import inf
from types import TracebackType
from typing import Self

from allocator import Job
from allocator.bench.checker import Attempt, Enqueue, History, Judgement, check
from allocator.queue.base import Queue
from tests.faults.running import LONG_S, Running, until


class Load:
    """
    Two producers, one by one and in lists, and two consumers, each in a thread. A context manager.

    Attributes:
        accepted: Each job that a call to enqueue has returned.
        done: Each lease, with whether its ack was taken.
    """

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.accepted: list[Enqueue] = []
        self.done: list[Attempt] = []
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
            # The epoch, for it is on one machine the clock of server and clients alike.
            asked_at = time.time()
            stored = [self.queue.enqueue(jobs[0])] if size == 1 else self.queue.enqueue_many(jobs)
            answered_at = time.time()
            self.accepted += [Enqueue(job.id, True, asked_at, answered_at) for job in stored]
            number += size

    def _consume(self, limit: int) -> None:
        while not self._stop_consuming.is_set():
            asked_at = time.time()
            leases = self.queue.dequeue_many(limit, timeout=0.1)
            given_at = time.time()
            lost = {lease.token for lease in self.queue.settle(acks=leases)}
            self.done += [
                Attempt(
                    *(lease.job.id, lease.token, "done", lease.attempt, lease.token not in lost),
                    *(lease.leased_at, given_at, lease.expires_at, asked_at, given_at),
                )
                for lease in leases
            ]

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

    def history(self, before: float = inf) -> History:
        """
        What the clients did, and what the queue, which nobody else uses, says of it.

        Args:
            before: Only what was accepted before this.
        """
        accepted = [enqueue for enqueue in self.accepted if enqueue.answered_at < before]
        counts, found = self.queue.counts(), self.queue.find(sorted(enqueue.job for enqueue in accepted))
        return History(
            accepted,
            attempts=self.done,
            counts=counts,
            found={job: str(state) for job, state in found.items()},
            left=counts["ready"] + counts["scheduled"] + counts["leased"],
        )

    def judge(self) -> Judgement:
        """Whether each job was accepted and done exactly once, in its turn."""
        return check(self.history())
