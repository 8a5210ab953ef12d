"""Workloads for the tests: what a case does not name is small and does nothing special."""

from typing import Any

from allocator.bench.workload import Workload


def a_workload(**fields: Any) -> Workload:
    """Ten jobs a second for a minute, ten milliseconds each, unless something else is said."""
    document: dict[str, Any] = {
        "name": "test",
        "arrival": {"model": "poisson", "rate_per_s": 10},
        "duration_s": 60,
        "service": {"model": "constant", "seconds": 0.01},
    }
    return Workload.model_validate(document | fields)
