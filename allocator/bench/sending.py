"""The jobs of a run, made from its plan in each producer: a factory for the load generator."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from allocator.bench.body import payload
from allocator.domain.backoff import Backoff
from allocator.domain.job import Job

if TYPE_CHECKING:
    # A producer starts far sooner without.
    from allocator.bench.workload import Workload

FACTORY = "allocator.bench.sending:from_plan"


def options(workload: "Workload", plan: Path) -> dict[str, Any]:
    """What the factory must be told, as JSON has it: where the plan is, and what holds for all jobs."""
    from allocator.bench.failures import FATES

    retry = workload.retry
    return {
        "plan": str(plan),
        "work": workload.work,
        "fates": FATES,
        "max_retries": retry.max_retries,
        "backoff": msgspec.to_builtins(retry.backoff(workload.seed)),
        "timeout_s": workload.timeout_s,
    }


def from_plan(options: dict[str, Any]) -> Callable[[int], Job]:
    """
    The function from a number to its job.

    Args:
        options: What `options` gave.
    """
    import pyarrow.parquet as parquet  # type: ignore[import-untyped]

    table = parquet.read_table(options["plan"]).combine_chunks()
    types, fates = (table[name].combine_chunks() for name in ("type", "fates"))
    types, fates = (column if hasattr(column, "indices") else column.dictionary_encode() for column in (types, fates))
    names, codes = types.dictionary.to_pylist(), types.indices.to_numpy()
    ends = [[options["fates"][letter] for letter in letters] for letters in fates.dictionary.to_pylist()]
    ends_of = fates.indices.to_numpy()
    priorities, delays, sizes, services = (
        table[name].to_numpy() for name in ("priority", "delay_s", "payload_bytes", "service_s")
    )
    backoff = msgspec.convert(options["backoff"], Backoff)

    def make(number: int) -> Job:
        return Job(
            type=names[codes[number]],
            payload=payload(
                float(services[number]), options["work"], ends[ends_of[number]], filler="x" * int(sizes[number])
            ),
            priority=int(priorities[number]),
            max_retries=options["max_retries"],
            delay=float(delays[number]),
            timeout=options["timeout_s"],
            backoff=backoff,
        )

    return make
