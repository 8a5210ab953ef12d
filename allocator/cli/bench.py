"""`allocator bench`: runs of workloads, and the benchmarks that compare the parts with their limits."""

import json
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from allocator.cli.opening import open_record
from allocator.cli.options import AsJson, StoreUrl, settings, utc
from allocator.cli.series import series
from allocator.cli.showing import shown

if TYPE_CHECKING:
    # Imported where it is used: pandas and scipy take a second, and may not be installed.
    from allocator.bench.runs import Run

bench = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Measure: runs of workloads, benchmarks.")
bench.add_typer(series)

RunId = Annotated[str, typer.Argument(metavar="RUN", help="Its id, the beginning of it, or its folder.")]
JobStore = Annotated[
    str, typer.Option("--job-store", help="Where jobs are kept beside the queue: none; sqlite, postgres (made for it).")
]


@bench.command("workloads")
def list_workloads(as_json: AsJson = False) -> None:
    """List the workloads that come along, with the question that each answers."""
    needs_bench()
    from allocator.bench.workloads import named, names

    found = {name: named(name).description for name in names()}
    if as_json:
        print(json.dumps(found))
        return
    table = Table("workload", "what it answers")
    for name, description in found.items():
        table.add_row(name, Text(description))
    Console().print(table)


@bench.command("run")
def run_workload(
    workload: WorkloadName,
    backend: BackendName = "memory",
    job_store: JobStore = "none",
    seed: Seed = None,
    duration: Duration = None,
    runs: RunFolders = RUNS,
    store: StoreUrl = settings.store_url,
    as_json: AsJson = False,
) -> None:
    """
    Make a run of a workload, and judge it. Ctrl-C ends it in order and keeps what was measured.

    With `--store` the run is written down there too. Exit status 1 when a promise was broken, 3 when a gate failed and
    the figures decide nothing, 130 after Ctrl-C.

    Examples: `allocator bench run steady`, `allocator bench run burst -b redis --seed 7`,
    `allocator bench run mine.yaml -b postgresql://me@db/jobs --json`
    """
    needs_bench()
    from allocator.bench.runs import run

    chosen = find_workload(workload, seed, duration)
    # How the tables of a store of its own are made is for nobody who reads a summary.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with bar(chosen.name) as say:
        made = guarded(lambda: run(chosen, backend, store=job_store, folder=runs, say=say))  # type: ignore[arg-type]
    if store is not None:
        _write_down(made, store)
    _show(made, as_json)
    if made.about.interrupted:
        raise typer.Exit(130)
    raise typer.Exit({"broken": 1, "inconclusive": 3}.get(made.verdict, 0))


@bench.command("list")
def list_runs(runs: RunFolders = RUNS, as_json: AsJson = False) -> None:
    """List the runs that are kept, newest first."""
    needs_bench()
    from allocator.bench.runs.run import NoRun, Run

    listed: list[dict[str, Any]] = []
    for folder in sorted(runs.iterdir() if runs.is_dir() else (), reverse=True):
        try:
            about = Run(folder).about
            figures = json.loads((folder / "figures.json").read_text("utf-8"))
            listed.append({
                "id": about.id, "workload": about.name, "backend": about.backend, "started_at": about.started_at,
                "jobs": figures["figures"]["jobs"], "verdict": figures["verdict"],
            })  # fmt: skip
        except (NoRun, OSError, ValueError, LookupError, TypeError) as error:
            listed.append({"id": folder.name, "verdict": "damaged", "problem": str(error)})
    if as_json:
        print(json.dumps(listed))
        return
    table = Table("run", "workload", "backend", "started (UTC)", "jobs", "verdict", title=shown(f"runs in {runs}"))
    for each in listed:
        started = utc(each["started_at"]) if "started_at" in each else ""
        jobs = f"{each['jobs']:,}" if "jobs" in each else ""
        cells = (each["id"], each.get("workload", ""), each.get("backend", ""), started, jobs, each["verdict"])
        table.add_row(*map(shown, cells))
    Console().print(table if listed else shown(f"no runs in {runs}"))


@bench.command("show")
def show_run(run: RunId, runs: RunFolders = RUNS, as_json: AsJson = False) -> None:
    """Show a run: its figures, whether they may be used, and what the checker says."""
    _show(_find(run, runs), as_json)


@bench.command("verify")
def verify_run(run: RunId, runs: RunFolders = RUNS, as_json: AsJson = False) -> None:
    """Compute every figure of a run again from its raw rows. Exit status 1 when anything differs."""
    made = _find(run, runs)
    problems = guarded(made.verify)
    if as_json:
        print(json.dumps({"id": made.about.id, "problems": problems}))
    else:
        for problem in problems:
            Console(stderr=True).print(Text(problem, style="bold red"))
        if not problems:
            print(f"{made.about.id}: rows are as they were written, and every figure follows from them")
    raise typer.Exit(1 if problems else 0)


@bench.command("export")
def export_run(
    run: RunId,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="A folder, which is made.")],
    runs: RunFolders = RUNS,
) -> None:
    """
    Write a run's rows as CSV, and all that was computed of them as JSON.

    Examples: `allocator bench export 20260131 -o exported`
    """
    made = _find(run, runs)
    guarded(lambda: _export(made, out))
    print(out)


def _export(made: "Run", out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name in ("jobs", "attempts", "backlog"):
        getattr(made, name).to_csv(out / f"{name}.csv", index=False)
    shutil.copyfile(made.folder / "workload.yaml", out / "workload.yaml")
    about = json.loads((made.folder / "run.json").read_text("utf-8"))
    (out / "run.json").write_text(json.dumps({"about": about, **made.computed()}, indent=1) + "\n", "utf-8")


def _passed_on(name: str, help: str) -> Callable[[Callable[[typer.Context], None]], Callable[[typer.Context], None]]:
    context = {"allow_extra_args": True, "ignore_unknown_options": True}
    return bench.command(name, context_settings=context, add_help_option=False, help=help)


@_passed_on("queue", "Measure the queue beside bare limits, and write a page: `allocator bench queue --quick`.")
def bench_queue(context: typer.Context) -> None:
    from allocator.bench.queue.__main__ import main

    raise typer.Exit(main(context.args))


@_passed_on("supervisor", "Measure the supervisor beside its limits, and write a page.")
def bench_supervisor(context: typer.Context) -> None:
    from allocator.bench.supervisor.__main__ import main

    raise typer.Exit(main(context.args))


def _find(run: str, runs: Path) -> "Run":
    needs_bench()
    from allocator.bench.runs.run import Run

    given = Path(run)
    found = [given] if given.is_dir() else [each for each in sorted(runs.glob(f"{run}*")) if each.is_dir()]
    if not found:
        fail(f"there is no run {run} in {runs}; `allocator bench list` shows those that are kept")
    if len(found) > 1:
        fail(f"{run} may be {', '.join(each.name for each in found)}; say more of it")
    return guarded(lambda: Run(found[0]))


def _write_down(made: "Run", url: str) -> None:
    from allocator.persistence.runs import RunRecord, Runs

    about = made.about
    with open_record(url) as store:
        Runs(store).add(
            RunRecord(
                about.id,
                about.name,
                about.started_at,
                time.time(),
                made.verdict,
                str(made.folder.resolve()),
                msgspec.json.encode(made.workload.model_dump(mode="json")),
                msgspec.json.encode(about.fingerprint),
                (made.folder / "figures.json").read_bytes(),
            )
        )


def _show(made: "Run", as_json: bool) -> None:
    computed = made.computed()
    if as_json:
        about = msgspec.to_builtins(made.about)
        print(json.dumps({"folder": str(made.folder), "about": about, **computed}))
        return
    console = Console()
    about, figures = made.about, made.summary
    console.print(Text(f"run {about.id}: {made.verdict}", style="bold"))
    console.print(Text(f"{figures.jobs:,} jobs on {about.backend} ({about.durability}), store: {about.store}"))
    if about.problem:
        console.print(Text(about.problem, style="bold red"))
    rates = Table("rate", "jobs/s")
    for label, rate in (
        ("offered", figures.offered_per_s),
        ("done while they arrived", figures.throughput_per_s),
        ("done until the last end", figures.drain_per_s),
    ):
        rates.add_row(label, "" if rate is None else f"{rate:,.1f}")
    console.print(rates)
    table = Table("ms", "jobs", "mean", *next(iter(figures.tables.values())).percentiles_s, "max")
    for name, latency in figures.tables.items():
        cells = [_ms(value) for value in latency.percentiles_s.values()]
        table.add_row(name, f"{latency.count:,}", _ms(latency.mean_s), *cells, _ms(latency.max_s))
    console.print(table)
    console.print(Text("–: too few jobs for it, ten times 1 / (1 - p)", style="dim"))
    for gate in made.gates:
        if gate.status == "failed":
            console.print(Text(f"gate failed: {gate.name}. {gate.sentence}", style="yellow"))
    for verdict in made.judgement.verdicts.values():
        if verdict.count:
            console.print(Text(f"broken: {verdict.name}, {verdict.count} times: {verdict.witness}", style="bold red"))
    held = sum(verdict.status == "holds" for verdict in made.judgement.verdicts.values())
    console.print(Text(f"{held} of {len(made.judgement.verdicts)} promises hold by what this run shows"))
    console.print(Text(f"rows: {made.folder}", style="dim"))


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1000 * seconds:,.2f}"
