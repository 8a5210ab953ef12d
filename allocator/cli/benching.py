"""What the commands of `allocator bench` share."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from allocator.cli.failing import fail

if TYPE_CHECKING:
    # Imported where it is used: pandas and scipy take a second, and may not be installed.
    from allocator.bench.runs import Progress as Step
    from allocator.bench.workload import Workload

T = TypeVar("T")

RUNS = Path("reports") / "runs"

RunFolders = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Where runs are kept.")]
WorkloadName = Annotated[
    str, typer.Argument(metavar="WORKLOAD", help="The name of one that comes along, or a YAML file.")
]
BackendName = Annotated[
    str, typer.Option("--backend", "-b", help="memory; redis, postgres (started for it); or a server's URL.")
]
Seed = Annotated[int | None, typer.Option(min=0, help="In the place of the workload's.")]
Duration = Annotated[float | None, typer.Option("--duration", metavar="S", help="In the place of the workload's.")]


def needs_bench() -> None:
    try:
        import numpy  # noqa: F401
        import pandas  # noqa: F401
        import pyarrow  # type: ignore[import-untyped]  # noqa: F401
        import scipy  # noqa: F401
        import yaml  # noqa: F401
    except ImportError as error:
        fail(f"{error.name} is not installed; the bench needs it: pip install 'allocator[bench]'")


def find_workload(name: str, seed: int | None, duration: float | None) -> "Workload":
    from allocator.bench.workload import Workload
    from allocator.bench.workloads import named

    path = Path(name)
    from_file = path.suffix in (".yaml", ".yml") or path.exists()
    changes = {"seed": seed, "duration_s": duration}

    def chosen() -> "Workload":
        workload = Workload.from_yaml(path) if from_file else named(name)
        return workload.changed(**{field: value for field, value in changes.items() if value is not None})

    return guarded(chosen)


def guarded(call: Callable[[], T]) -> T:
    from allocator.domain.errors import AllocatorError
    from allocator.services import ServiceUnavailable

    try:
        return call()
    except (AllocatorError, ServiceUnavailable, ValueError, OSError) as error:
        fail(str(error))


@contextmanager
def bar(title: str) -> Iterator[Callable[..., None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[told]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(title, total=None, told="")
        before: list[tuple[float, int]] = []

        def say(step: "Step", arm: str = "") -> None:
            now = time.monotonic()
            before[:] = [point for point in before if now - point[0] < 2.0 and point[1] <= step.done]
            before.append((now, step.done))
            span_s = now - before[0][0]
            rate = (step.done - before[0][1]) / span_s if span_s > 0 else 0.0
            told = f"{step.done:,} of {step.total:,} done, {rate:,.0f}/s"
            if step.backlog is not None:
                told += f", {step.backlog:,} wait"
            if step.wait_p99_s is not None:
                told += f", p99 {1000 * step.wait_p99_s:,.3g} ms"
            description = f"{arm or title}: {step.phase}"
            shown.update(
                task, description=description, completed=step.sent + step.done, total=2 * step.total or None, told=told
            )

        yield say
