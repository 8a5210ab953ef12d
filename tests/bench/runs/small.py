"""Small workloads that are run for real: what a case does not name takes two seconds and does nothing special."""

from typing import Any

from allocator.bench.workload import Workload


def small(**fields: Any) -> Workload:
    """A hundred jobs a second, five milliseconds each, for four threads."""
    document: dict[str, Any] = {
        "name": "small",
        "arrival": {"model": "constant", "rate_per_s": 100},
        "duration_s": 1.5,
        "service": {"model": "constant", "seconds": 0.005},
        "retry": {"max_retries": 2, "base_s": 0.1},
    }
    return Workload.model_validate(document | fields)
