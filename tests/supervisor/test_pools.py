"""Worker threads, without a queue."""

import time

import pytest

from allocator import Lease
from allocator.supervisor.buffer import Buffer
from allocator.supervisor.ending import Ending
from allocator.supervisor.events import Listeners
from allocator.supervisor.held import Held
from allocator.supervisor.pools import ThreadWorker
from tests.contract.builders import BOUND_S, a_job


@pytest.mark.parametrize(("age_s", "ran"), [(5.0, True), (15.0, False)])
def test_a_job_whose_lease_ran_out_in_the_buffer_is_not_run(age_s: float, ran: bool) -> None:
    """As when the whole process was stopped meanwhile, and nobody could say so."""
    runs: list[str] = []
    endings: list[Ending] = []
    buffer = Buffer()
    leased_at = 1_000_000.0
    lease = Lease(a_job(), 1, "token", expires_at=leased_at + 15.0, due_at=leased_at, leased_at=leased_at)
    worker = ThreadWorker(
        "worker-1",
        buffer.take,
        {"json": lambda context: runs.append(context.token)},
        endings.append,
        lambda held, done, total, message: None,
        Listeners([]),
        lambda worker: None,
    )
    buffer.put([Held(lease, 60.0, fetched=time.monotonic() - age_s)])

    worker.start()
    while not endings and worker.is_alive():
        worker.join(0.01)
    buffer.close()
    worker.join(BOUND_S)

    assert runs == (["token"] if ran else [])
    assert [ending.verb for ending in endings] == ["done" if ran else "released"]
