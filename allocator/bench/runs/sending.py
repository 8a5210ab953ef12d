"""The jobs of a run, made from its plan in each producer: a factory for the load generator."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from allocator.bench.body import payload
from allocator.bench.failures import FATES
from allocator.bench.workload import Workload
from allocator.domain.job import Job

FACTORY = "allocator.bench.runs.sending:from_plan"


def from_plan(options: dict[str, Any]) -> Callable[[int], Job]:
    """
    The function from a number to its job.

    Args:
        options: `plan`, the Parquet file of the plan; `workload`, its YAML file.
    """
    workload = Workload.from_yaml(Path(options["workload"]))
    jobs = pd.read_parquet(options["plan"])
    types = jobs["type"].astype("category")
    names, codes = list(types.cat.categories), types.cat.codes.to_numpy()
    priorities, delays = jobs["priority"].to_numpy(), jobs["delay_s"].to_numpy()
    sizes, services = jobs["payload_bytes"].to_numpy(), jobs["service_s"].to_numpy()
    fates = jobs["fates"].to_numpy()
    retry, backoff = workload.retry, workload.retry.backoff(workload.seed)

    def make(number: int) -> Job:
        letters = fates[number]
        return Job(
            type=names[codes[number]],
            payload=payload(
                float(services[number]),
                workload.work,
                [FATES[letter] for letter in letters],  # type: ignore[misc]
                filler="x" * int(sizes[number]),
            ),
            priority=int(priorities[number]),
            max_retries=retry.max_retries,
            delay=float(delays[number]),
            timeout=workload.timeout_s,
            backoff=backoff,
        )

    return make
