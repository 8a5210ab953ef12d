"""
`python -m allocator.bench.producer ORDERS`: a producer of the load generator, in a process of its own.

In an open loop it follows a stored schedule, never slowing down for the system: what is late is sent at once, and how
late is recorded. In a closed loop each of its clients sends a job, waits until the job has ended, and sends the next.
"""

import ctypes
import gc
import importlib
import math
import mmap
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from allocator.bench import control as counters
from allocator.bench.control import Control, Ended
from allocator.bench.recorder import Event, Outcome, Recorder
from allocator.bench.storing import StorePlace, opened_store
from allocator.bench.waiting import be_punctual, wait_until
from allocator.domain.errors import AllocatorError, InvalidJob, NewerVersion, QueueClosed, QueueFull
from allocator.domain.job import Job
from allocator.domain.states import State
from allocator.queue.base import Queue
from allocator.queue.opening import open_queue

Factory = Callable[[dict[str, Any]], Callable[[int], Job]]
"""Given the options of the run, gives the function that makes the job of a number; its id is set by the producer."""

_REFUSALS = (InvalidJob, NewerVersion, QueueClosed, QueueFull)
"""Errors after which the queue does not have the job; after any other it may."""

_LOOK_S = 0.0002
"""How often a closed loop looks whether a job has ended."""

_ASK_S = 0.5
"""How often it asks the queue itself: who ended a job may have been killed before it could say so."""

_PR_SET_PDEATHSIG = 1


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a producer is to do.

    Args:
        url, name: Of the queue.
        folder: Of the run: `schedule`, `control`, `ended`; the records go there too.
        factory, options: See `Factory`; named `module:function`.
        prefix: Of the job ids; ends in a dash.
        producer, producers: It sends every so many-th job, from this one on.
        together: Most jobs sent in one call, of those that are due at that moment.
        clients: Of a closed loop; 0 is an open one.
        store: That jobs are submitted through; None: they are enqueued.
    """

    url: str
    name: str
    folder: str
    factory: str
    options: dict[str, Any]
    prefix: str
    producer: int
    producers: int
    together: int = 1
    clients: int = 0
    store: StorePlace | None = None


def find_factory(name: str) -> Factory:
    """
    The function that `module:function` names.

    Raises:
        ValueError: There is none.
    """
    module, _, function = name.partition(":")
    try:
        factory: Factory = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"factory: {name!r} is not module:function: {error}") from error
    return factory


def read_schedule(path: Path) -> memoryview:
    """The schedule as nanoseconds from the start, one signed 64-bit number a job."""
    if not path.stat().st_size:
        return memoryview(b"").cast("q")
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)).cast("q")


class Producer:
    """
    Sends its share of a run's jobs.

    Raises:
        ValueError: There is no such factory.
        QueueUnavailable: The queue cannot be opened.
        StoreUnavailable: The store cannot be opened.
    """

    def __init__(self, orders: Orders) -> None:
        folder = Path(orders.folder)
        self._orders = orders
        self._control = Control(folder / "control")
        self._row = self._control.row(orders.producer)
        self._recorder = Recorder(folder)
        self._make = find_factory(orders.factory)(orders.options)
        # Numbers are read where they lie; numpy would cost every producer its start.
        self._due_ns = read_schedule(folder / "schedule")[orders.producer :: orders.producers]
        self._queue: Queue = open_queue(orders.url, name=orders.name)
        # So that the first job does not wait for a connection.
        self._queue.size()
        self._stack = ExitStack()
        self._store = opened_store(orders.store, self._stack)

    def run(self) -> None:
        """Say that all is ready, wait for the start, send everything unless it is stopped."""
        be_punctual()
        row, control = self._row, self._control
        row[counters.READY] = 1
        while not control.start_ns and not control.is_stopped():
            time.sleep(0.001)
        cpu_ns = time.thread_time_ns()
        try:
            if self._orders.clients:
                self._serve_clients()
            else:
                self._follow_schedule(control.start_ns)
        finally:
            row[counters.CPU_NS] = time.thread_time_ns() - cpu_ns
            self._recorder.close()
            self._queue.close()
            self._stack.close()
        row[counters.ENDED] = 1

    def _follow_schedule(self, start_ns: int) -> None:
        first, step, together = self._orders.producer, self._orders.producers, self._orders.together
        due_ns, stopped = self._due_ns, self._control.is_stopped
        place = 0
        while place < len(due_ns):
            # One job ahead, made while there is time: a million are never in memory at once.
            group = [self._job(first + place * step)]
            due = [start_ns + due_ns[place]]
            if not wait_until(due[0], stopped):
                return
            place += 1
            while len(group) < together and place < len(due_ns) and start_ns + due_ns[place] <= time.monotonic_ns():
                group.append(self._job(first + place * step))
                due.append(start_ns + due_ns[place])
                place += 1
            self._send(group, due)

    def _serve_clients(self) -> None:
        orders = self._orders
        ended = Ended(Path(orders.folder) / "ended")
        numbers = (orders.producer + place * orders.producers for place in range(len(self._due_ns)))
        waiting: set[int] = set()
        idle = orders.clients
        ask_at = time.monotonic() + _ASK_S
        while not self._control.is_stopped():
            over = {number for number in waiting if ended.has(number)}
            waiting -= over
            idle += len(over)
            while idle and not self._control.is_stopped() and (number := next(numbers, None)) is not None:
                if self._send([self._job(number)]) is not Outcome.REFUSED:
                    waiting.add(number)
                    idle -= 1
            if not waiting:
                return
            if time.monotonic() >= ask_at:
                self._ask(waiting, ended)
                ask_at = time.monotonic() + _ASK_S
            time.sleep(_LOOK_S)

    def _ask(self, waiting: set[int], ended: Ended) -> None:
        ids = {f"{self._orders.prefix}{number}": number for number in waiting}
        try:
            states = self._queue.find(ids)
        except AllocatorError:
            return
        for job_id, number in ids.items():
            # The queue forgets what is done.
            if states.get(job_id) in (None, State.DEAD, State.CANCELLED):
                ended.mark(number)

    def _job(self, number: int) -> Job:
        job = self._make(number)
        job.id = f"{self._orders.prefix}{number}"
        return job

    def _send(self, jobs: Sequence[Job], due_ns: Sequence[int] = ()) -> Outcome:
        """Send these in one call, and record what became of it; whatever that is, the producer goes on."""
        recorder, row = self._recorder, self._row
        prefix_chars = len(self._orders.prefix)
        numbers = [int(job.id[prefix_chars:]) for job in jobs]
        if due_ns:
            row[counters.LATEST_NS] = max(row[counters.LATEST_NS], time.monotonic_ns() - due_ns[0])
        for place, number in enumerate(numbers):
            recorder.record(Event.ENQUEUE_STARTED, number, due_at=due_ns[place] / 1e9 if due_ns else math.nan)
        row[counters.STARTED] += len(jobs)
        error = 0
        try:
            if self._store is not None:
                self._store.submit_many(self._queue, jobs)
            elif len(jobs) == 1:
                self._queue.enqueue(jobs[0])
            else:
                self._queue.enqueue_many(jobs)
            outcome, counter = Outcome.ACCEPTED, counters.ACCEPTED
        except Exception as problem:
            error = recorder.text(f"{type(problem).__name__}: {problem}")
            refused = isinstance(problem, _REFUSALS)
            outcome, counter = (Outcome.REFUSED, counters.REFUSED) if refused else (Outcome.UNKNOWN, counters.UNKNOWN)
        for number in numbers:
            recorder.record(Event.ENQUEUED, number, outcome=outcome, error=error)
        row[counter] += len(jobs)
        return outcome


def main(path: str) -> None:
    """Carry out the orders in a file."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Ctrl-C is for the run, which then stops its producers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    producer = Producer(msgspec.json.decode(Path(path).read_bytes(), type=Orders))
    # A collection would make jobs late, and nothing here needs one.
    gc.collect()
    gc.disable()
    producer.run()


if __name__ == "__main__":
    main(sys.argv[1])
