"""What single calls to a queue take, by one client that makes one after the other: no waiting, no load."""

import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import pandas as pd

from allocator.bench.scratch import scratch_name, scratch_queue
from allocator.domain.job import Job
from allocator.queue.base import Queue, erase
from allocator.queue.opening import open_queue

T = TypeVar("T")

CONNECTIONS = 20


def time_calls(url: str, count: int) -> pd.DataFrame:
    """
    Time `count` calls of each kind on a queue of its own, which is erased afterwards.

    Returns:
        A row a call: `call` (connect, enqueue, dequeue, ack) and `seconds`. To connect is to open a queue and to have
        its first answer; it is done 20 times.
    """
    rows: list[tuple[str, float]] = []

    def timed(call: str, act: Callable[[], T]) -> T:
        began = time.perf_counter()
        result = act()
        rows.append((call, time.perf_counter() - began))
        return result

    name = scratch_name("calls")

    def connect() -> Queue:
        opened = open_queue(url, name=name)
        # A connection may be made as late as with the first question.
        opened.counts()
        return opened

    opened = [timed("connect", connect) for _ in range(CONNECTIONS)]
    for each in opened:
        each.close()
    erase(opened[0])
    with scratch_queue(url, "calls") as queue:
        for number in range(count):
            timed("enqueue", partial(queue.enqueue, Job(type="bench", payload={"number": number})))
        for _ in range(count):
            lease = timed("dequeue", partial(queue.dequeue, timeout=1.0))
            assert lease is not None
            timed("ack", partial(queue.ack, lease))
    return pd.DataFrame(rows, columns=["call", "seconds"])
