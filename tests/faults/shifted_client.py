"""
A client whose clocks are wrong, driven by lines of JSON: [verb, argument, ...] in, the reply out.

    python -m tests.faults.shifted_client URL SHIFT_S
"""

import datetime
import json
import sys
import time
from typing import Any

SHIFT_S = float(sys.argv[2])
_time, _time_ns = time.time, time.time_ns


class ShiftedDatetime(datetime.datetime):
    """Asks the shifted clock."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> "ShiftedDatetime":
        return cls.fromtimestamp(time.time(), tz)


# Before anything of the package is imported, so that it cannot have kept the true ones.
time.time = lambda: _time() + SHIFT_S
time.time_ns = lambda: _time_ns() + int(SHIFT_S * 1e9)
datetime.datetime = ShiftedDatetime  # type: ignore[misc]

from allocator import AllocatorError, Job, Queue, open_queue  # noqa: E402
from allocator.domain.lease import Lease  # noqa: E402


def _fields(lease: Lease) -> dict[str, Any]:
    return {
        "id": lease.job.id,
        "attempt": lease.attempt,
        "due_at": lease.due_at,
        "leased_at": lease.leased_at,
        "expires_at": lease.expires_at,
    }


def main() -> None:
    """Serve until the input ends."""
    queue: Queue | None = None
    held: list[Lease] = []

    def open_named(name: str, lease_s: float) -> None:
        nonlocal queue
        if queue is not None:
            queue.close()
        queue = open_queue(sys.argv[1], name=name, lease_s=lease_s)

    def answer(verb: str, *arguments: Any) -> Any:
        if verb == "open":
            return open_named(*arguments)
        assert queue is not None
        match verb:
            case "clocks":
                return [time.time(), time.time_ns() / 1e9, datetime.datetime.now().timestamp()]
            case "enqueue":
                return {
                    "enqueued_at": queue.enqueue(Job(type="faults", id=arguments[0], delay=arguments[1])).enqueued_at
                }
            case "dequeue":
                lease = queue.dequeue(arguments[0])
                if lease is None:
                    return None
                held.append(lease)
                return _fields(lease)
            case "extend":
                return _fields(queue.extend(held[-1], arguments[0]))
            case "ack":
                return queue.ack(held[-1])
            case "counts":
                return queue.counts()
            case "find":
                return queue.find(arguments[0])
            case "reap":
                return queue.reap()
        raise ValueError(verb)

    for line in sys.stdin:
        try:
            reply = answer(*json.loads(line))
        except AllocatorError as error:
            reply = {"error": type(error).__name__}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
