"""
`python -m allocator.lab.load ORDERS`: sends jobs as its settings say, which come in lines of JSON and count at once.

An open loop, as in a run: it never slows down for the system, and what is late is sent at once. It draws what it sends
as a run does, a few seconds at a time; but it keeps no record: what is to be believed is recorded as a run.
"""

import os
import secrets
import signal
import sys
import threading
import time
from pathlib import Path

import msgspec
import pyarrow as pa  # type: ignore[import-untyped]

from allocator.bench.draws import draw_jobs
from allocator.bench.sending import from_table, options
from allocator.bench.waiting import be_punctual, wait_until
from allocator.domain.errors import AllocatorError
from allocator.lab import tallies
from allocator.lab.orders import INTENDED, Orders, read_orders
from allocator.lab.outliving import die_with
from allocator.lab.settings import Settings
from allocator.queue.opening import open_queue


class Load:
    """Sends until the process ends; `change` is for another thread."""

    def __init__(self, orders: Orders) -> None:
        self._queue = open_queue(orders.url, name=orders.name)
        self._tally = tallies.new_tally(orders.path)
        self._prefix = f"lab{secrets.token_hex(3)}-"
        self._number = 0
        self._seed = secrets.randbits(32)
        self._wanted: Settings | None = None
        self._changed = threading.Event()

    def change(self, settings: Settings) -> None:
        """Send like this from now on."""
        self._wanted = settings
        self._changed.set()

    def run(self) -> None:
        """Send."""
        be_punctual()
        while True:
            self._changed.wait()
            self._changed.clear()
            settings = self._wanted
            assert settings is not None
            origin_ns = time.monotonic_ns()
            while settings.rate_per_s and (ended_ns := self._send_piece(settings, origin_ns)):
                origin_ns = ended_ns

    def _send_piece(self, settings: Settings, origin_ns: int) -> int:
        """Send a few seconds of load; the instant at which the next begins, or 0 once the settings have changed."""
        self._seed += 1
        workload = settings.piece(self._seed)
        jobs = draw_jobs(workload)
        # The plan is at hand, and in no file.
        make = from_table(pa.Table.from_pandas(jobs), options(workload, Path()))
        for place, due_ns in enumerate((origin_ns + jobs["intended_at"].to_numpy() * 1e9).astype("int64").tolist()):
            job = make(place)
            self._number += 1
            job.id, job.meta = f"{self._prefix}{self._number}", {INTENDED: str(due_ns)}
            if not wait_until(due_ns, self._changed.is_set):
                return 0
            try:
                self._queue.enqueue(job)
                self._tally[tallies.SENT] += 1
            except AllocatorError:
                # Whether the queue has it or not: a server that is away is what one wants to see.
                self._tally[tallies.REFUSED] += 1
        assert workload.duration_s is not None
        return origin_ns + int(workload.duration_s * 1e9)


def main(text: str) -> None:
    """Send, as the lines say; ends when they end."""
    orders = read_orders(text)
    die_with(orders.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    load = Load(orders)
    decode = msgspec.json.Decoder(Settings).decode

    def listen() -> None:
        for line in sys.stdin.buffer:
            load.change(decode(line))
        os._exit(0)

    threading.Thread(target=listen, name="lab-settings", daemon=True).start()
    load.run()


if __name__ == "__main__":
    main(sys.argv[1])
