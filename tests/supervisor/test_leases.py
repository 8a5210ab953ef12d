"""The lease keeper, by itself."""

import time

from allocator.queue.inprocess import InProcessQueue
from allocator.supervisor.held import Held
from allocator.supervisor.leases import LeaseKeeper
from tests.contract.builders import a_job, take
from tests.faults.running import until


def test_trouble_with_one_job_keeps_no_other_from_its_lease() -> None:
    """Whatever happens over a job that runs too long, what else is held is extended."""
    with InProcessQueue(lease_s=0.5) as queue:
        queue.enqueue_many([a_job(), a_job()])
        late, other = (Held(take(queue), 60.0, time.monotonic()) for _ in range(2))
        late.started, late.timeout_s = time.monotonic(), 0.0
        before = other.lease.expires_at
        told: list[Held] = []

        def overdue(held: Held) -> None:
            told.append(held)
            raise RuntimeError("can't start new thread")

        keeper = LeaseKeeper(queue, lambda: [late, other], overdue)
        keeper.start()
        until(lambda: other.lease.expires_at > before, "the other lease was not extended")
        keeper.stop(5.0)

    assert told == [late]
