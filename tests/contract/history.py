"""What threads did to a queue, and the checker that says afterwards whether it may have happened."""

import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise

from allocator import Lease


@dataclass
class Held:
    """A lease as its holder saw it: the queue gave it before `from_s` and took it back after `until_s`."""

    job_id: str
    token: str
    attempt: int
    from_s: float
    until_s: float
    end: str
    """ack, nack, bury or release: what its holder said; silent: it said nothing; lost: the queue refused it."""


@dataclass
class History:
    """Appended to by any thread."""

    enqueued: list[str] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add_enqueued(self, job_ids: list[str]) -> None:
        """Note that these were accepted."""
        with self._lock:
            self.enqueued += job_ids

    def add_held(self, lease: Lease, from_s: float, until_s: float, end: str) -> None:
        """Note that a lease was held between two instants of the monotonic clock."""
        with self._lock:
            self.held.append(Held(lease.job.id, lease.token, lease.attempt, from_s, until_s, end))


def now_s() -> float:
    """The clock of a history."""
    return time.monotonic()


def problems(history: History, left: dict[str, str], *, leases_may_expire: bool = False) -> list[str]:
    """
    What must not have happened, one sentence each; empty when the history is valid.

    Args:
        left: The state of every job that the queue still knows, by id.
        leases_may_expire: A holder may then lose its lease without knowing, so holders may seem to overlap.
    """
    found = []
    enqueued = Counter(history.enqueued)
    by_job: dict[str, list[Held]] = defaultdict(list)
    for held in history.held:
        by_job[held.job_id].append(held)
    ends = {job_id: Counter(held.end for held in entries) for job_id, entries in by_job.items()}

    found += [f"job {job_id} was accepted {count} times" for job_id, count in enqueued.items() if count > 1]
    found += [f"job {job_id} was leased and never enqueued" for job_id in by_job if job_id not in enqueued]
    found += [f"job {job_id} is known and was never enqueued" for job_id in left if job_id not in enqueued]
    found += [f"token {token} was given {count} times" for token, count in _tokens(history).items() if count > 1]
    for job_id in enqueued:
        over = ends.get(job_id, Counter())
        if over["ack"] > 1:
            found.append(f"job {job_id} was done {over['ack']} times")
        if over["ack"] and job_id in left:
            found.append(f"job {job_id} was done and is still {left[job_id]}")
        if not over["ack"] and job_id not in left:
            found.append(f"job {job_id} is lost")
        if over["bury"] > 1:
            found.append(f"job {job_id} died {over['bury']} times")
        if over["bury"] and left.get(job_id) != "dead":
            found.append(f"job {job_id} died and is {left.get(job_id, 'gone')}")
    for job_id, entries in by_job.items():
        entries.sort(key=lambda held: held.from_s)
        for one, other in pairwise(entries):
            if not leases_may_expire and other.from_s < one.until_s:
                found.append(f"job {job_id} was leased twice at once, by {one.token} and {other.token}")
            charged = one.end in ("nack", "bury", "silent")
            if not leases_may_expire and other.attempt != one.attempt + charged:
                found.append(f"job {job_id}: attempt {other.attempt} followed {one.attempt}, which ended in {one.end}")
    return found


def _tokens(history: History) -> Counter[str]:
    return Counter(held.token for held in history.held)
