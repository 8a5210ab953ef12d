"""
`python -m allocator.bench.runs.worker ORDERS`: a supervisor of a run, in a program of its own, until SIGTERM.

Its records, and those of its worker processes, go to the folder of the run.
"""

import os
import sys
from pathlib import Path

import msgspec

from allocator.bench.body import PROCESSOR
from allocator.bench.control import Ended
from allocator.bench.observer import Observer
from allocator.bench.recorder import FOLDER, Recorder
from allocator.queue.base import Queue
from allocator.queue.opening import open_queue
from allocator.supervisor import Supervisor


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a supervisor is to do.

    Args:
        url, name: Of the queue.
        folder: Of the run.
        types: Of the jobs, which all have the same body.
        ready: A file that is made once it takes jobs.
    """

    url: str
    name: str
    folder: str
    types: list[str]
    workers: int
    processes: int
    lease_s: float
    ready: str


def supervisor(queue: Queue, orders: Orders, recorder: Recorder, *, handle_signals: bool) -> Supervisor:
    """The supervisor of these orders, not yet started."""
    return Supervisor(
        queue,
        dict.fromkeys(orders.types, PROCESSOR),
        workers=orders.workers,
        processes=orders.processes,
        events=[Observer(recorder, Ended(Path(orders.folder) / "ended"))],
        handle_signals=handle_signals,
    )


def main(path: str) -> int:
    """Carry out the orders in a file; gives the exit status."""
    orders = msgspec.json.decode(Path(path).read_bytes(), type=Orders)
    os.environ[FOLDER] = orders.folder
    recorder = Recorder(Path(orders.folder))
    with open_queue(orders.url, name=orders.name, lease_s=orders.lease_s) as queue:
        working = supervisor(queue, orders, recorder, handle_signals=True).start()
        Path(orders.ready).touch()
        while not working.stopping.wait(1.0):
            pass
        working.stop()
    recorder.close()
    return int(working.failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
