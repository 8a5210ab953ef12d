"""
A client that does everything to a queue at random, and is killed while it does.

Run as a program it is the executioner: it forks the clients, several at a time, lets each come to a number of log
lines that only its seed knows, waits a moment shorter than an operation, and kills it with -9. Forked, because
starting and importing for each would cost more than everything else here; before the fork nothing is open.

    python -m tests.faults.killed_client URL NAME FOLDER FIRST_SEED COUNT

Each client writes FOLDER/SEED.log: JSON lines, before each call what it is about to do, after it what came of it, and
when. `tests.faults.logs` reads them.
"""

import importlib
import json
import os
import random
import selectors
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from allocator import Backoff, Job, open_queue
from allocator.domain.lease import Lease, Nack, Release

AT_A_TIME = 3
LEASE_S = 0.3
BACKOFF = Backoff(base=0.01, factor=1.0, cap=0.01)

_OPERATIONS = {
    "enqueue": 22,
    "enqueue_many": 14,
    "dequeue_many": 22,
    "settle": 18,
    "extend": 5,
    "release": 5,
    "cancel": 6,
    "requeue_dead": 4,
    "purge_dead": 4,
    "reap": 2,
}


class Client:
    """
    The life of one client, decided by its seed.

    Args:
        log: A descriptor opened with O_APPEND.
        beat: A descriptor that gets a byte for each line of the log.
    """

    def __init__(self, url: str, name: str, seed: int, log: int, beat: int) -> None:
        self.random = random.Random(seed)
        self.seed = seed
        self._log = log
        self._beat = beat
        self._calls = 0
        self._made = 0
        self.ids: list[str] = []
        self.held: list[Lease] = []
        self.queue = open_queue(url, name=name, lease_s=LEASE_S, backoff=BACKOFF, worker=f"client-{seed}")

    def run(self) -> None:
        while True:
            self.step()

    def step(self) -> None:
        """One operation."""
        operation = self.random.choices(list(_OPERATIONS), list(_OPERATIONS.values()))[0]
        getattr(self, operation)()

    def _write(self, line: dict[str, Any]) -> None:
        # The epoch, for it is on one machine the clock of server and clients alike.
        os.write(self._log, json.dumps({**line, "at": time.time()}).encode() + b"\n")
        os.write(self._beat, b".")

    def _intend(self, operation: str, **facts: Any) -> None:
        self._calls += 1
        self._write({"call": self._calls, "op": operation, **facts})

    def _record(self, **facts: Any) -> None:
        self._write({"call": self._calls, "outcome": facts})

    def _job(self) -> Job:
        """A new job, or at times one with an id that was used before; the mark tells the two apart."""
        self._made += 1
        mark = f"{self.seed}.{self._made}"
        job_id = self.random.choice(self.ids) if self.ids and self.random.random() < 0.15 else f"job-{mark}"
        self.ids.append(job_id)
        return Job(
            type="faults",
            id=job_id,
            payload={"mark": mark},
            priority=self.random.choice((0, 0, 5, -5)),
            max_retries=self.random.choice((0, 1, 3)),
            delay=self.random.choice((0.0, 0.0, 0.0, 0.02)),
        )

    def _enqueue(self, operation: str, jobs: list[Job]) -> None:
        jobs_told = [(job.id, job.payload["mark"], job.priority, job.max_retries, job.delay) for job in jobs]
        self._intend(operation, jobs=jobs_told)
        stored = [self.queue.enqueue(jobs[0])] if operation == "enqueue" else self.queue.enqueue_many(jobs)
        self._record(stored=[(job.id, job.payload["mark"]) for job in stored])

    def enqueue(self) -> None:
        self._enqueue("enqueue", [self._job()])

    def enqueue_many(self) -> None:
        jobs = [self._job() for _ in range(self.random.randint(2, 6))]
        if self.random.random() < 0.3:
            twin = self._job()
            twin.id = jobs[0].id
            jobs.append(twin)
        self._enqueue("enqueue_many", jobs)

    def dequeue_many(self) -> None:
        limit = self.random.randint(1, 8)
        self._intend("dequeue_many", limit=limit)
        leases = self.queue.dequeue_many(limit, timeout=0)
        self._record(
            leased=[
                (lease.job.id, lease.token, lease.attempt, lease.leased_at, lease.expires_at, lease.due_at)
                for lease in leases
            ]
        )
        self.held += leases

    def _take_held(self, most: int) -> list[Lease]:
        self.random.shuffle(self.held)
        count = self.random.randint(0, most)
        taken, self.held = self.held[:count], self.held[count:]
        return taken

    def settle(self) -> None:
        acks, failed, given_back = self._take_held(5), self._take_held(3), self._take_held(2)
        nacks = [Nack(lease, "at random", delay=self.random.choice((None, 0.0))) for lease in failed]
        nacks = [nack._replace(dead=self.random.random() < 0.3) for nack in nacks]
        releases = [Release(lease, self.random.choice((0.0, 0.01))) for lease in given_back]
        self._tell(acks, nacks, releases)

    def _tell(self, acks: list[Lease], nacks: list[Nack], releases: list[Release]) -> None:
        ends = [(lease.token, "done", None) for lease in acks]
        ends += [(nack.lease.token, "buried" if nack.dead else "failed", nack.delay) for nack in nacks]
        ends += [(release.lease.token, "released", release.delay) for release in releases]
        self._intend("settle", ends=ends)
        lost = self.queue.settle(acks, nacks, releases)
        self._record(lost=[lease.token for lease in lost])

    def extend(self) -> None:
        leases = self.held[:4]
        self._intend("extend")
        lost = {lease.token for lease in self.queue.extend_many(leases, self.random.choice((LEASE_S, 2 * LEASE_S)))}
        self._record(kept=[(lease.token, lease.expires_at) for lease in leases if lease.token not in lost])

    def release(self) -> None:
        self._tell([], [], [Release(lease) for lease in self._take_held(1)])

    def cancel(self) -> None:
        job_id = self.random.choice(self.ids) if self.ids else "never-made"
        self._intend("cancel", id=job_id)
        self._record(done=self.queue.cancel(job_id))

    def requeue_dead(self) -> None:
        letters = self.queue.dead_letters(limit=3)
        job_id = self.random.choice(letters).job.id if letters and self.random.random() < 0.7 else None
        self._intend("requeue_dead", id=job_id)
        count = self.queue.requeue_dead(job_id) if job_id else self.queue.requeue_dead(all=True, error="lease expired")
        self._record(count=count)

    def purge_dead(self) -> None:
        letters = self.queue.dead_letters(limit=3)
        if not letters:
            return
        job_id = self.random.choice(letters).job.id
        self._intend("purge_dead", id=job_id)
        self._record(count=self.queue.purge_dead(job_id))

    def reap(self) -> None:
        self._intend("reap")
        self._record(ids=self.queue.reap())


def _live(url: str, name: str, seed: int, folder: Path, beat: int) -> None:
    """In the forked child; never returns."""
    log = os.open(folder / f"{seed}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        Client(url, name, seed, log, beat).run()
    except BaseException:
        os.write(log, json.dumps({"error": traceback.format_exc()}).encode() + b"\n")
    finally:
        os._exit(3)


def execute(url: str, name: str, folder: Path, seeds: list[int]) -> None:
    """Run and kill a client for each seed."""
    importlib.import_module("allocator.queue.postgres" if url.startswith("postgres") else "allocator.queue.redis")
    waiting = list(reversed(seeds))
    selector = selectors.DefaultSelector()

    def spawn() -> None:
        seed = waiting.pop()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _live(url, name, seed, folder, writer)
        os.close(writer)
        fate = random.Random(-seed - 1)
        selector.register(reader, selectors.EVENT_READ, [child, seed, fate.randint(1, 80), fate.uniform(0.0, 0.001)])

    while waiting or selector.get_map():
        while waiting and len(selector.get_map()) < AT_A_TIME:
            spawn()
        for key, _ in selector.select(timeout=60):
            child, seed, lines_left, pause_s = key.data
            beats = len(os.read(key.fd, 4096))
            key.data[2] = lines_left - beats
            if key.data[2] > 0 and beats:
                continue
            time.sleep(pause_s)
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            was_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            print(json.dumps({"seed": seed, "killed": was_killed}), flush=True)
            selector.unregister(key.fd)
            os.close(key.fd)


if __name__ == "__main__":
    first = int(sys.argv[4])
    execute(sys.argv[1], sys.argv[2], Path(sys.argv[3]), list(range(first, first + int(sys.argv[5]))))
