"""
A client whose calls a signal handler breaks off again and again, as Ctrl-C does.

    python -m tests.faults.interrupted_client URL NAME INTERRUPTS

It counts and finds in turn, prints how often it was interrupted and how many calls gave their answer, and fails at an
answer that belongs to another call.
"""

import random
import signal
import sys
from typing import Any

from allocator import open_queue

BETWEEN_S = (0.0005, 0.01)
"""From about a call to about a connect and some calls, so that an interrupt comes at every place sooner or later."""

AGAIN_S = 5.0
"""The interpreter swallows an interrupt that comes in a destructor, and then there must be another one."""

JOB = "the-only-one"


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def main(url: str, name: str, interrupts: int) -> None:
    """Until so many interrupts have come."""
    interrupted = answered = 0
    draw = random.Random(0)
    signal.signal(signal.SIGALRM, _interrupt)
    with open_queue(url, name=name) as queue:
        while interrupted < interrupts:
            try:
                signal.setitimer(signal.ITIMER_REAL, draw.uniform(*BETWEEN_S), AGAIN_S)
                while True:
                    ready, found = queue.counts()["ready"], queue.find([JOB])
                    assert (ready, list(found)) == (1, [JOB]), f"answers of other calls: {ready}, {found}"
                    answered += 1
            except KeyboardInterrupt:
                interrupted += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
    print(interrupted, answered)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
