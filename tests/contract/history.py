"""What threads did to a queue, noted as they do it, for the checker to say afterwards whether it may have happened."""

import threading
import time
from collections.abc import Iterable
from math import nan

from allocator import Lease, Queue
from allocator.bench.checker import Attempt, Enqueue, History, Judgement, check
from allocator.domain.job import Job

OUTCOMES = {"ack": "done", "nack": "failed", "bury": "buried", "release": "released", "silent": "lost"}
"""What a holder does with its lease, and what that is called of an attempt."""


class Notes:
    """Taken by any thread, on the monotonic clock."""

    def __init__(self) -> None:
        self.enqueues: list[Enqueue] = []
        self.attempts: list[Attempt] = []
        self._lock = threading.Lock()

    def enqueued(self, jobs: Iterable[Job], asked_at: float, answered_at: float) -> None:
        """These were accepted by a call between two instants."""
        with self._lock:
            self.enqueues += [
                Enqueue(job.id, True, asked_at, answered_at, job.priority, job.delay, job.max_retries) for job in jobs
            ]

    def held(
        self,
        lease: Lease,
        given_at: float,
        told_at: float,
        end: str,
        *,
        taken: bool = True,
        asked_at: float = nan,
        expires_at: float = nan,
    ) -> None:
        """
        A lease was held from when its holder had it until it set out to end it.

        Args:
            asked_at: When the call began that gave it; left out, its place in the order is not judged.
            expires_at: Before which it surely did not run out; left out, whenever it was given.
        """
        attempt = Attempt(lease.job.id, lease.token, OUTCOMES[end], lease.attempt, taken, given_at, told_at)
        attempt.asked_at = asked_at
        attempt.expires_at = given_at if expires_at != expires_at else expires_at
        attempt.delay_s = 0.0 if end == "nack" else nan
        with self._lock:
            self.attempts.append(attempt)

    def judge(self, queue: Queue) -> Judgement:
        """Now that the threads have ended, and everything has come to its end."""
        found = queue.find([enqueue.job for enqueue in self.enqueues])
        counts = queue.counts()
        history = History(
            self.enqueues,
            attempts=self.attempts,
            counts=counts,
            found={job: state.value for job, state in found.items()},
            left=counts["ready"] + counts["scheduled"] + counts["leased"],
        )
        return check(history)


def now_s() -> float:
    """The clock of the notes."""
    return time.monotonic()
