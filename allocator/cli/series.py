"""`allocator bench compare|capacity|curve|scaling`: what takes several runs."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from allocator.cli.benching import (
    RUNS,
    BackendName,
    Duration,
    RunFolders,
    Seed,
    WorkloadName,
    bar,
    find_workload,
    guarded,
    needs_bench,
)
from allocator.cli.failing import fail
from allocator.cli.options import AsJson

if TYPE_CHECKING:
    import pandas as pd

    from allocator.bench.runs import Run

N = TypeVar("N", int, float)

series = typer.Typer()

CURVE_COLUMNS = {
    "rate_per_s": "jobs/s", "utilisation": "utilised", "throughput_per_s": "done/s", "p50_s": "p50, s",
    "p99_s": "p99, s", "max_s": "max, s", "saturated": "saturated",
}  # fmt: skip
SCALING_COLUMNS = {
    "workers": "workers", "runs": "runs", "throughput_per_s": "done/s", "low_per_s": "low", "high_per_s": "high",
    "speedup": "speed-up", "efficiency": "of linear",
}  # fmt: skip


@series.command("compare")
def compare_backends(
    workload: WorkloadName,
    baseline: Annotated[str, typer.Option("--baseline", help="A backend, as in `allocator bench run`.")],
    candidate: Annotated[str, typer.Option("--candidate", help="Another, or the same.")],
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each arm; a verdict takes 5.")] = 5,
    seed: Seed = None,
    duration: Duration = None,
    runs: RunFolders = RUNS,
    as_json: AsJson = False,
) -> None:
    """
    Compare two backends on one workload: interleaved runs, ratios with intervals, and the baseline against itself.

    Exit status 1 when a run broke a promise. A difference alone fails nothing.

    Examples: `allocator bench compare steady --baseline redis --candidate postgres --rounds 5`
    """
    needs_bench()
    from allocator.bench.runs.comparing import compare_arms, measure_arms

    chosen = find_workload(workload, seed, duration)
    with bar(chosen.name) as say:
        made = guarded(
            lambda: measure_arms(chosen, baseline, candidate, rounds, runs, lambda arm, progress: say(progress, arm))
        )
    found = compare_arms(made)
    ids = {arm: [each.about.id for each in arms] for arm, arms in made.items()}
    if as_json:
        print(msgspec.json.encode({"runs": ids, "comparisons": found}).decode())
    else:
        for comparison in found:
            Console().print(Text(comparison.sentence))
        if not found:
            print("no figure that every run has: they were too short for a p99")
    raise typer.Exit(int(not all(each.holds for arms in made.values() for each in arms)))


@series.command("capacity")
def find_capacity(
    workload: WorkloadName,
    low: Annotated[float, typer.Option("--from", metavar="RATE", help="Jobs a second that surely pass.")],
    high: Annotated[float, typer.Option("--to", metavar="RATE", help="Jobs a second that surely fail.")],
    backend: BackendName = "memory",
    probe: Annotated[float, typer.Option(metavar="S", help="Seconds of a probe.")] = 20.0,
    confirm: Annotated[float, typer.Option(metavar="S", help="Seconds of each of the two runs at the end.")] = 60.0,
    seed: Seed = None,
    runs: RunFolders = RUNS,
    as_json: AsJson = False,
) -> None:
    """
    Find the rate that a backend holds: p99 of the wait within the workload's objective, and no growing backlog.

    Exit status 1 when a run broke a promise, 3 when longer runs did not confirm the answer.

    Examples: `allocator bench capacity steady --from 100 --to 1000 -b redis`
    """
    needs_bench()
    from allocator.bench.runs import series as measuring

    chosen = find_workload(workload, seed, None)
    with bar(chosen.name) as say:
        found = guarded(
            lambda: measuring.find_capacity(
                chosen, backend, low, high, probe_s=probe, confirm_s=confirm, folder=runs,
                say=lambda which, progress: say(progress, which),
            )
        )  # fmt: skip
    if as_json:
        ids = {f"{rate:g}": _ids(made) for rate, made in found.runs.items()}
        print(msgspec.json.encode({"runs": ids, "capacity": found.capacity}).decode())
    else:
        table = Table("jobs/s", "passed", "p99 of the wait, ms", "why not")
        for each in (*found.capacity.probes, *found.capacity.confirmations):
            wait = "–" if each.wait_p99_s is None else f"{1000 * each.wait_p99_s:,.2f}"
            table.add_row(f"{each.rate_per_s:,.0f}", "yes" if each.passed else "no", wait, Text(each.reason))
        Console().print(table)
        Console().print(Text(found.capacity.sentence))
    raise typer.Exit(1 if not found.holds else 3 if found.capacity.confirmed is False else 0)


@series.command("curve")
def measure_curve(
    workload: WorkloadName,
    rates: Annotated[str, typer.Option(metavar="RATE,RATE,…", help="Jobs a second, one near 20 % load for the knee.")],
    backend: BackendName = "memory",
    seed: Seed = None,
    duration: Duration = None,
    runs: RunFolders = RUNS,
    as_json: AsJson = False,
) -> None:
    """
    Measure latency at several rates, and tell between which of them it leaves the ground.

    Exit status 1 when a run broke a promise.

    Examples: `allocator bench curve steady --rates 80,160,240,320,380 -b redis`
    """
    needs_bench()
    from allocator.bench.runs import series as measuring

    chosen = find_workload(workload, seed, None)
    wanted = _numbers("--rates", rates, float)
    with bar(chosen.name) as say:
        curve = guarded(
            lambda: measuring.measure_curve(
                chosen, backend, wanted, duration_s=duration, folder=runs,
                say=lambda which, progress: say(progress, which),
            )
        )  # fmt: skip
    if as_json:
        ids = {f"{rate:g}": made.about.id for rate, made in curve.runs.items()}
        print(msgspec.json.encode({"runs": ids, "knee": curve.knee, "points": _plain(curve.points)}).decode())
    else:
        _print_frame(curve.points, CURVE_COLUMNS)
        Console().print(Text(curve.knee.sentence))
    raise typer.Exit(int(not all(made.holds for made in curve.runs.values())))


@series.command("scaling")
def measure_scaling(
    workload: WorkloadName,
    workers: Annotated[str, typer.Option(metavar="N,N,…", help="Of each supervisor.")] = "1,2,4,8",
    backend: BackendName = "memory",
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each; an interval takes 5.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="For each worker.")] = 500,
    seed: Seed = None,
    runs: RunFolders = RUNS,
    as_json: AsJson = False,
) -> None:
    """
    Measure the drain rate of a closed loop for several numbers of workers.

    Exit status 1 when a run broke a promise.

    Examples: `allocator bench scaling steady --workers 1,2,4,8 -b redis --rounds 5`
    """
    needs_bench()
    from allocator.bench.runs import series as measuring

    chosen = find_workload(workload, seed, None)
    wanted = _numbers("--workers", workers, int)
    with bar(chosen.name) as say:
        found = guarded(
            lambda: measuring.measure_scaling(
                chosen, backend, wanted, rounds=rounds, jobs=jobs, folder=runs,
                say=lambda which, progress: say(progress, which),
            )
        )  # fmt: skip
    if as_json:
        ids = {str(count): _ids(made) for count, made in found.runs.items()}
        print(msgspec.json.encode({"runs": ids, "points": _plain(found.points)}).decode())
    else:
        _print_frame(found.points, SCALING_COLUMNS)
    raise typer.Exit(int(not all(made.holds for each in found.runs.values() for made in each)))


def _ids(runs: Sequence["Run"]) -> list[str]:
    return [made.about.id for made in runs]


def _numbers(option: str, text: str, kind: Callable[[str], N]) -> list[N]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        fail(f"{option}: {text!r} are no numbers with commas between them")


def _plain(frame: "pd.DataFrame") -> list[dict[Any, Any]]:
    """A mapping a row: what is missing is None."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def _print_frame(frame: "pd.DataFrame", columns: dict[str, str]) -> None:
    table = Table(*columns.values())
    for row in _plain(frame[list(columns)]):
        table.add_row(*("–" if value is None else f"{value:,.4g}" if isinstance(value, float) else str(value)
                        for value in row.values()))  # fmt: skip
    Console().print(table)
