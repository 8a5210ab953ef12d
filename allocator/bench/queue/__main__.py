"""`python -m allocator.bench.queue`: measure, print a table, write rows and a page."""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from allocator.bench.queue.backlog import measure_backlog
from allocator.bench.queue.fingerprint import fingerprint, load_average
from allocator.bench.queue.measures import Measure, in_process_measures, postgres_measures, redis_measures
from allocator.bench.queue.pickup import measure_pickup
from allocator.bench.queue.result import Result
from allocator.services import Server, ServiceUnavailable, open_postgres, open_redis

EXAMPLES = """examples:
  python -m allocator.bench.queue                    everything, about four minutes
  python -m allocator.bench.queue --quick            a look, under one minute
  python -m allocator.bench.queue --only redis       one backend
  REDIS_URL=redis://… python -m allocator.bench.queue    your server; only keys of its own are touched
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 all targets reached or reported, 1 a target was missed, 2 nothing could be measured."""
    parser = argparse.ArgumentParser(
        prog="allocator bench",
        description="Measure the queue beside the bare limit of each backend, in one run, interleaved.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="small counts: for a look, not for a claim")
    parser.add_argument("--only", action="append", choices=("memory", "redis", "postgres"), help="may be repeated")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each measure (5)")
    parser.add_argument("--out", type=Path, help="folder for the page and the rows (reports/queue-TIME)")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a target was missed")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")

    console = Console()
    started = datetime.now(UTC)
    given = list(sys.argv[1:] if arguments is None else arguments)
    result = Result(
        started.strftime("%Y-%m-%d %H:%M UTC"),
        shlex.join(["python", "-m", "allocator.bench.queue", *given]),
        options.rounds,
        options.quick,
        fingerprint(),
    )
    result.fingerprint["load before"] = load_average()
    wanted = options.only or ["memory", "redis", "postgres"]
    with ExitStack() as stack:
        urls = _servers(stack, wanted, result, console)
        _measure(urls, options.rounds, 0.1 if options.quick else 1.0, result, console)
    result.fingerprint["load after"] = load_average()

    _print_table(result, console)
    folder = options.out or Path("reports") / f"queue-{started:%Y%m%d-%H%M%S}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_bytes(result.to_json())
    try:
        from allocator.bench.queue.page import render

        (folder / "report.html").write_text(render(result), "utf-8")
        console.print(f"page: {folder / 'report.html'}")
    except ModuleNotFoundError as error:
        console.print(f"no page: {error.name} is missing; pip install 'allocator[notebooks]'")
    console.print(f"rows: {folder / 'results.json'}")
    if not result.measures:
        return 2
    return int(options.strict and any(row.reached is False for row in result.rows()))


def _servers(stack: ExitStack, wanted: list[str], result: Result, console: Console) -> dict[str, str]:
    urls: dict[str, str] = {}
    if "memory" in wanted:
        urls["in process"] = "memory://"
    openers: dict[str, tuple[str, Callable[[], Server]]] = {
        "redis": ("Redis", open_redis),
        "postgres": ("PostgreSQL", open_postgres),
    }
    for key, (backend, open_server) in openers.items():
        if key not in wanted:
            continue
        try:
            server: Server = stack.enter_context(open_server())
        except ServiceUnavailable as error:
            result.not_measured.append(f"{backend}: {error}")
            console.print(f"[yellow]{backend} is not measured:[/] {error}")
            continue
        console.print(server.describe(), highlight=False, soft_wrap=True)
        result.fingerprint[backend] = server.describe()
        urls[backend] = server.url
    return urls


def _measure(urls: dict[str, str], rounds: int, scale: float, result: Result, console: Console) -> None:
    makers = {
        "in process": lambda url: in_process_measures(scale),
        "Redis": lambda url: redis_measures(url, scale),
        "PostgreSQL": lambda url: postgres_measures(url, scale),
    }
    pickups, backlog = int(1000 * scale), int(1_000_000 * scale)
    with ExitStack() as stack, _progress(console) as progress:
        measures: list[Measure] = []
        for backend, url in urls.items():
            context: AbstractContextManager[list[Measure]] = makers[backend](url)
            measures += stack.enter_context(context)
        task = progress.add_task("throughput", total=rounds * len(measures))
        for round_number in range(rounds):
            for measure in measures:
                progress.update(task, description=f"{measure.backend}: {measure.operation}")
                measure.run(round_number)
                progress.advance(task)
        progress.update(task, description="throughput")
        result.measures = measures
        task = progress.add_task("idle pickup", total=len(urls))
        for backend, url in urls.items():
            progress.update(task, description=f"idle pickup: {backend}")
            result.pickups.append(measure_pickup(backend, url, pickups))
            progress.advance(task)
        progress.update(task, description="idle pickup")
        task = progress.add_task("backlog", total=len(urls) * backlog)
        for backend, url in urls.items():
            progress.update(task, description=f"backlog: {backend}")
            result.backlogs.append(measure_backlog(backend, url, backlog, lambda count: progress.advance(task, count)))
        progress.update(task, description="backlog")


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def _print_table(result: Result, console: Console) -> None:
    table = Table(title="queue benchmark" + (" (quick)" if result.quick else ""))
    for heading in ("backend", "operation", "measured", "beside it", "ratio", "target", ""):
        table.add_column(heading, justify="right" if heading in ("measured", "ratio") else "left")
    marks = {True: "[green]reached[/]", False: "[red]missed[/]", None: ""}
    for row in result.rows():
        table.add_row(row.backend, row.operation, row.value, row.beside, row.ratio, row.target, marks[row.reached])
    (console if console.is_terminal else Console(width=max(160, console.width))).print(table)
    for text in result.not_measured:
        console.print(f"not measured: {text}")


if __name__ == "__main__":
    sys.exit(main())
