"""
Programs that tell how soon a job starts, and what waiting for one costs.

The monotonic clock is one for all processes of a machine, so that an instant may travel in a payload.
"""

import math
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from allocator.bench.scratch import scratch_queue
from allocator.domain.job import Job
from allocator.queue.base import Queue
from allocator.queue.opening import open_queue
from allocator.supervisor import Context, Supervisor

LEAST_GAP_S, MORE_GAP_S = 0.008, 0.012
"""Between two jobs that are to find the supervisor idle: at least, and in the mean beyond that."""

SPIN_S = 0.0003
"""A sleep may be late by half of this; the rest is waited for awake."""

WARM_UP = 20
"""Jobs in front that are not counted: connections, caches, the first look at each path."""

QUIET_S = 0.5
LATEST_S = 60.0


def idle_gaps(count: int, seed: int) -> list[float]:
    """When each job is to be sent, in seconds from the start: each after a random gap."""
    draw = random.Random(seed)
    at, times = 0.0, []
    for _ in range(count):
        at += LEAST_GAP_S + draw.expovariate(1 / MORE_GAP_S)
        times.append(at)
    return times


def steady(count: int, per_s: float) -> list[float]:
    """The same, at a constant rate."""
    return [order / per_s for order in range(count)]


class Taken:
    """
    What arrived: for each job the seconds since it was meant to be sent, and since it was sent.

    `first_line` is what a processor calls before anything else.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._rows: list[tuple[float, float, float]] = []
        self.complete = threading.Event()

    def first_line(self, payload: list[float]) -> None:
        now = time.monotonic()
        self._rows.append((payload[0], payload[1], now))
        if len(self._rows) == self._count:
            self.complete.set()

    def figures(self) -> dict[str, list[float]]:
        rows = sorted(self._rows)[WARM_UP:]
        return {
            "from_intended": [round(now - intended, 7) for intended, _, now in rows],
            "from_sent": [round(now - sent, 7) for _, sent, now in rows],
            "lateness": [round(sent - intended, 7) for intended, sent, _ in rows],
        }


def pickup(url: str, count: int, per_s: float, seed: int) -> dict[str, list[float]]:
    """
    Seconds until the first line of the processor, for jobs that find the supervisor idle or (`per_s` above 0) come
    at a constant rate.
    """

    def take(context: Context) -> None:
        taken.first_line(context.job.payload)

    taken = Taken(count + WARM_UP)
    with scratch_queue(url, "pickup") as queue, Supervisor(queue, {"pickup": take}):
        time.sleep(QUIET_S)
        _send_to(url, queue, schedule(count + WARM_UP, per_s, seed), taken)
    return taken.figures()


def bare_pickup(url: str, count: int, per_s: float, seed: int) -> dict[str, list[float]]:
    """The same for a loop that takes from the queue and settles, in one thread."""
    taken = Taken(count + WARM_UP)

    def loop() -> None:
        while not taken.complete.is_set():
            leases = queue.dequeue_many(64, timeout=0.2)
            for lease in leases:
                taken.first_line(lease.job.payload)
            if leases:
                queue.settle(acks=leases)

    with scratch_queue(url, "pickup") as queue:
        thread = threading.Thread(target=loop)
        thread.start()
        time.sleep(QUIET_S)
        _send_to(url, queue, schedule(count + WARM_UP, per_s, seed), taken)
        thread.join()
    return taken.figures()


def schedule(count: int, per_s: float, seed: int) -> list[float]:
    """Made before the run, so that a slow system cannot slow its load down."""
    return steady(count, per_s) if per_s else idle_gaps(count, seed)


def _send_to(url: str, queue: Queue, times: list[float], taken: Taken) -> None:
    if url.startswith("memory:"):
        # Such a queue is known to this process alone.
        send(queue, times)
    else:
        command = [sys.executable, "-m", __name__, url, queue.name]
        subprocess.run(command, input=msgspec.json.encode(times), check=True)
    if not taken.complete.wait(LATEST_S):
        raise RuntimeError(f"not all of {len(times)} jobs came within {LATEST_S:g} s")


def send(queue: Queue, times: Sequence[float]) -> None:
    """Enqueue a job at each of the times, never waiting for anything but the clock."""
    base = time.monotonic() + 0.1
    for after in times:
        intended = base + after
        ahead = intended - time.monotonic() - SPIN_S
        if ahead > 0:
            time.sleep(ahead)
        while (sent := time.monotonic()) < intended:
            pass
        queue.enqueue(Job(type="pickup", payload=[intended, sent]))


def idle(url: str, seconds: float) -> dict[str, list[float]]:
    """Share of a core that a supervisor uses while there is nothing to do."""
    with scratch_queue(url, "idle") as queue, Supervisor(queue, {"pickup": lambda context: None}):
        return {"share": [_share(lambda: time.sleep(seconds))]}


def idle_client(url: str, seconds: float) -> dict[str, list[float]]:
    """The same of one blocked call."""
    with scratch_queue(url, "idle") as queue:
        return {"share": [_share(lambda: queue.dequeue(timeout=seconds))]}


def _share(wait: Callable[[], object]) -> float:
    time.sleep(QUIET_S)
    cpu, start = time.process_time(), time.monotonic()
    wait()
    share = (time.process_time() - cpu) / (time.monotonic() - start)
    return share if math.isfinite(share) else 0.0


def _main(url: str, name: str) -> None:
    times = msgspec.json.decode(sys.stdin.buffer.read(), type=list[float])
    with open_queue(url, name=name) as queue:
        queue.size()
        send(queue, times)


if __name__ == "__main__":
    _main(*sys.argv[1:])
