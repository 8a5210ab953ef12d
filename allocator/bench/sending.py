"""The jobs of a run, made from its plan in each producer: a factory for the load generator."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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
    # Not `read_table`, nor `to_numpy` below: they import pandas.
    from pyarrow.parquet import ParquetFile  # type: ignore[import-untyped]

    return from_table(ParquetFile(options["plan"]).read(), options)


def from_table(table: Any, options: dict[str, Any]) -> Callable[[int], Job]:
    """The same of a plan that is no file: an Arrow table with the columns of `draw_jobs`."""
    names, types = _texts(table["type"])
    words, fates = _texts(table["fates"])
    ends = [[options["fates"][letter] for letter in word] for word in words]
    priorities, sizes = (_numbers(table[name].combine_chunks(), "q") for name in ("priority", "payload_bytes"))
    delays, services = (_numbers(table[name].combine_chunks(), "d") for name in ("delay_s", "service_s"))
    backoff = msgspec.convert(options["backoff"], Backoff)

    def make(number: int) -> Job:
        return Job(
            type=names[types[number]],
            payload=payload(services[number], options["work"], ends[fates[number]], filler="x" * sizes[number]),
            priority=priorities[number],
            max_retries=options["max_retries"],
            delay=delays[number],
            timeout=options["timeout_s"],
            backoff=backoff,
        )

    return make


def _texts(column: Any) -> tuple[list[str], Sequence[int]]:
    """The distinct texts of a column, and for each row the place of its own."""
    from pyarrow import int64  # type: ignore[import-untyped]

    whole = column.combine_chunks()
    encoded = whole if hasattr(whole, "indices") else whole.dictionary_encode()
    return encoded.dictionary.to_pylist(), _numbers(encoded.indices.cast(int64()), "q")


def _numbers(array: Any, form: Literal["q", "d"]) -> Any:
    """The numbers where they lie."""
    return memoryview(array.buffers()[1]).cast("B").cast(form)[array.offset : array.offset + len(array)]
