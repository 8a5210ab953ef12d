"""`python -m allocator.lab.worker ORDERS`: one worker of the lab, in a process that may be stopped and killed."""

import logging
import random
import sys
import time

from allocator.bench import body
from allocator.bench.live import WaitCounter
from allocator.bench.recorder import number_of
from allocator.domain.lease import Lease
from allocator.lab import tallies
from allocator.lab.orders import INTENDED, SOJOURNS, TYPES, WAITS, Orders, read_orders
from allocator.lab.outliving import die_with
from allocator.queue.opening import open_queue
from allocator.supervisor import Context, Events, Supervisor

LEASE_S = 5.0
"""Short, so that one can watch a lease expire."""


class Counting(Events):
    """Counts what a worker does, for who looks on."""

    def __init__(self, orders: Orders) -> None:
        self._tally = tallies.new_tally(orders.path)
        self._waits = WaitCounter(orders.path, WAITS)
        self._sojourns = WaitCounter(orders.path, SOJOURNS)

    def on_started(self, lease: Lease) -> None:
        self._tally[tallies.STARTED_NS] = time.monotonic_ns()
        self._tally[tallies.JOB] = number_of(lease.job.id) + 1

    def on_attempt(self, lease: Lease, wait_s: float, service_s: float) -> None:
        # The next may have begun while the queue was told of this one.
        if self._tally[tallies.JOB] == number_of(lease.job.id) + 1:
            self._tally[tallies.JOB] = 0

    def on_done(self, lease: Lease, wait_s: float, service_s: float) -> None:
        self._tally[tallies.DONE] += 1
        self._waits.add(max(0.0, wait_s))
        self._sojourns.add((time.monotonic_ns() - int(lease.job.meta[INTENDED])) / 1e9)

    def on_retry(self, lease: Lease, error: str, delay_s: float) -> None:
        self._tally[tallies.RETRIED] += 1


class Body:
    """The job body of the bench, whose attempts fail as the lab says at the time."""

    def __init__(self, orders: Orders) -> None:
        self._failing = tallies.open_share(orders.path)

    def __call__(self, context: Context) -> None:
        """One attempt."""
        body.run(context)
        if random.random() < self._failing[0]:
            raise body.PlannedFailure("this attempt fails on purpose")


def main(text: str) -> int:
    """Work until SIGTERM; gives the exit status."""
    orders = read_orders(text)
    die_with(orders.parent)
    logging.basicConfig(level=logging.WARNING)
    with open_queue(orders.url, name=orders.name, lease_s=LEASE_S) as queue:
        working = Supervisor(
            queue,
            dict.fromkeys(TYPES, Body(orders)),
            workers=1,
            retention=None,
            events=[Counting(orders)],
            handle_signals=True,
        ).start()
        working.stopping.wait()
        working.stop()
    return int(working.failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
