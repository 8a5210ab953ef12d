"""
`python -m allocator.bench.chaos.inprocess NAME STORE LEASE_S`: queue, store and supervisor in one program.

On standard input a line for each batch: a JSON array of jobs, answered with `accepted`; or `drain SECONDS`, answered
with the number of jobs that are left. Ends with standard input.
"""

import sys
from collections.abc import Sequence

import msgspec

from allocator.bench.chaos.body import PROCESSOR, TYPE
from allocator.domain.job import Job
from allocator.persistence import open_store
from allocator.queue.opening import open_queue
from allocator.supervisor import Supervisor


def main(arguments: Sequence[str]) -> None:
    """Serve until standard input ends."""
    name, store_url, lease_s = arguments
    decode = msgspec.json.Decoder(list[Job]).decode
    with (
        open_queue("memory://", name=name, lease_s=float(lease_s)) as queue,
        open_store(store_url) as store,
        Supervisor(queue, {TYPE: PROCESSOR}, workers=2, processes=2, store=store, reconcile_s=1.0) as supervisor,
    ):
        for line in sys.stdin:
            if line.startswith("drain"):
                supervisor.drain(float(line.split()[1]))
                counts = queue.counts()
                print(counts["ready"] + counts["scheduled"] + counts["leased"], flush=True)
            else:
                store.submit_many(queue, decode(line))
                print("accepted", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
