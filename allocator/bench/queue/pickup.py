"""Idle pickup: from the call of `enqueue` to the return of `dequeue` in another process that waits."""

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from allocator.bench.scratch import scratch_queue
from allocator.domain.job import Job
from allocator.queue.base import Queue
from allocator.queue.opening import open_queue


@dataclass
class Pickup:
    """
    Args:
        backend: in process, Redis or PostgreSQL.
        pickup_s: One for each job, seconds.
        floor_s: Two PING round trips (Redis) or two SELECT 1 (PostgreSQL), measured in between; seconds.
        idle_cpu: Share of a core that the waiting process used while it waited for nothing.
    """

    backend: str
    pickup_s: list[float]
    floor_s: list[float]
    idle_cpu: float | None


IDLE_S = 4.0


def measure_pickup(backend: str, url: str, count: int) -> Pickup:
    """
    Enqueue `count` jobs, 5 to 15 ms apart, each when the other side is idle again.

    The monotonic clock is one for all processes of a machine, so the two sides may be compared.
    """
    with scratch_queue(url, "pickup") as queue:
        sent: list[float] = []
        floor: list[float] = []
        ping = _ping(url)
        pauses = random.Random(7)

        def send(order: int) -> None:
            time.sleep(pauses.uniform(0.005, 0.015))
            floor.append(_timed(ping))
            sent.append(time.monotonic())
            queue.enqueue(Job(type="pickup", payload=order))

        if url.startswith("memory:"):
            received: list[float] = []
            receiver = threading.Thread(target=lambda: received.extend(_receive(queue, count)))
            receiver.start()
            for order in range(count):
                send(order)
            receiver.join()
            return Pickup(backend, _differences(sent, received), floor, None)

        command = [sys.executable, "-m", "allocator.bench.queue.pickup", url, queue.name, str(count)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            idle = json.loads(process.stdout.readline())
            for order in range(count):
                send(order)
            received = json.loads(process.stdout.readline())
        return Pickup(backend, _differences(sent, received), floor, idle["cpu"])


def _differences(sent: list[float], received: list[float]) -> list[float]:
    return [arrival - departure for departure, arrival in zip(sent, received, strict=True)]


def _ping(url: str) -> Callable[[], object]:
    if url.startswith("redis"):
        import redis

        return redis.Redis.from_url(url).ping
    if url.startswith("postgres"):
        import psycopg

        connection = psycopg.connect(url, autocommit=True)
        return lambda: connection.execute("SELECT 1").fetchone()
    return lambda: None


def _timed(ping: Callable[[], object]) -> float:
    start = time.monotonic()
    ping()
    ping()
    return time.monotonic() - start


def _receive(queue: Queue, count: int) -> list[float]:
    received = []
    for _ in range(count):
        lease = queue.dequeue(timeout=60)
        received.append(time.monotonic())
        if lease is None:
            raise RuntimeError(f"no job within 60 s; {len(received) - 1} of {count} had come")
        queue.ack(lease)
    return received


def _main(url: str, name: str, count: str) -> None:
    with open_queue(url, name=name) as queue:
        queue.dequeue(timeout=0.1)
        cpu, start = time.process_time(), time.monotonic()
        queue.dequeue(timeout=IDLE_S)
        print(json.dumps({"cpu": (time.process_time() - cpu) / (time.monotonic() - start)}), flush=True)
        print(json.dumps(_receive(queue, int(count))), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
