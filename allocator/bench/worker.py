"""
`python -m allocator.bench.worker ORDERS`: a supervisor of a run, in a program of its own, until SIGTERM.

Its records, and those of its worker processes, go to the folder of the run.
"""

import os
import sys
from contextlib import ExitStack
from pathlib import Path

import msgspec

from allocator.bench.body import PROCESSOR
from allocator.bench.control import Ended
from allocator.bench.live import WaitCounter
from allocator.bench.observer import Observer
from allocator.bench.recorder import FOLDER, Recorder
from allocator.bench.storing import StorePlace, opened_store
from allocator.domain.errors import QueueUnavailable
from allocator.queue.base import Queue
from allocator.queue.opening import open_queue
from allocator.supervisor import Supervisor

AWAY = 75
"""Exit status of a program that could not begin because the server was away (EX_TEMPFAIL of sysexits.h)."""

RECONCILE_S = 1.0


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a supervisor is to do.

    Args:
        url, name: Of the queue.
        folder: Of the records.
        types: Of the jobs, which all have the same body.
        store: Where every step is recorded; None: nowhere.
        ready: A file that is made once it takes jobs.
        parent: The process of the run; without it there is nothing to do.
    """

    url: str
    name: str
    folder: str
    types: list[str]
    workers: int
    processes: int
    lease_s: float
    store: StorePlace | None = None
    ready: str = ""
    parent: int = 0


def supervisor(
    queue: Queue, orders: Orders, recorder: Recorder, stack: ExitStack, *, handle_signals: bool
) -> Supervisor:
    """The supervisor of these orders, not yet started; its store is closed with the stack."""
    folder = Path(orders.folder)
    return Supervisor(
        queue,
        dict.fromkeys(orders.types, PROCESSOR),
        workers=orders.workers,
        processes=orders.processes,
        store=opened_store(orders.store, stack),
        reconcile_s=RECONCILE_S,
        retention=None,
        events=[Observer(recorder, Ended(folder / "ended"), WaitCounter(folder))],
        handle_signals=handle_signals,
    )


def main(path: str) -> int:
    """Carry out the orders in a file; gives the exit status."""
    orders = msgspec.json.decode(Path(path).read_bytes(), type=Orders)
    os.environ[FOLDER] = orders.folder
    recorder = Recorder(Path(orders.folder))
    with ExitStack() as stack:
        try:
            queue = stack.enter_context(open_queue(orders.url, name=orders.name, lease_s=orders.lease_s))
            working = supervisor(queue, orders, recorder, stack, handle_signals=True)
        except QueueUnavailable as error:
            print(error, file=sys.stderr)
            return AWAY
        working.start()
        Path(orders.ready).touch()
        while not working.stopping.wait(1.0):
            if os.getppid() != orders.parent:
                # The run was killed, its server with it, and nobody is left to judge what would be done from now on.
                os._exit(1)
        working.stop()
    recorder.close()
    return int(working.failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
