"""Job factories that producers find by name."""

from collections.abc import Callable
from typing import Any

from allocator import Job
from allocator.bench.body import payload


def short(options: dict[str, Any]) -> Callable[[int], Job]:
    """Jobs of no service time, or of so many seconds."""
    service_s = options.get("service_s", 0.0)
    return lambda number: Job(type="bench", payload=payload(service_s))


def refused(options: dict[str, Any]) -> Callable[[int], Job]:
    """One job in three that no queue accepts."""
    return lambda number: Job(type="bench", payload=float("nan") if number % 3 == 1 else None)


def broken(options: dict[str, Any]) -> Callable[[int], Job]:
    """A factory that cannot make its third job."""

    def make(number: int) -> Job:
        if number == 2:
            raise RuntimeError("no such job")
        return Job(type="bench")

    return make
