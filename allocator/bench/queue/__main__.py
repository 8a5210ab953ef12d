"""`python -m allocator.bench.queue`: measure, print a table, write rows and a page."""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from allocator.bench.fingerprint import fingerprint, load_average
from allocator.bench.queue.backlog import measure_backlog
from allocator.bench.queue.measures import Measure, in_process_measures, postgres_measures, redis_measures
from allocator.bench.queue.pickup import measure_pickup
from allocator.bench.queue.result import Result
from allocator.bench.result import Row
from allocator.bench.running import open_servers, print_table, progress_line, write_result

EXAMPLES = """examples:
  python -m allocator.bench.queue                    everything, about four minutes
  python -m allocator.bench.queue --quick            a look, under one minute
  python -m allocator.bench.queue --only redis       one backend
  REDIS_URL=redis://… python -m allocator.bench.queue    your server; only keys of its own are touched
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 all targets reached or reported, 1 a target was missed, 2 nothing could be measured."""
    parser = argparse.ArgumentParser(
        prog="allocator bench queue",
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
        urls = open_servers(stack, wanted, result, console)
        _measure(urls, options.rounds, 0.1 if options.quick else 1.0, result, console)
    result.fingerprint["load after"] = load_average()

    _print_table(result, console)
    folder = options.out or Path("reports") / f"queue-{started:%Y%m%d-%H%M%S}"

    def page() -> str:
        from allocator.bench.queue.page import render

        return render(result)

    write_result(folder, result.to_json(), page, console)
    if not result.measures:
        return 2
    return int(options.strict and any(row.reached is False for row in result.rows()))


def _measure(urls: dict[str, str], rounds: int, scale: float, result: Result, console: Console) -> None:
    makers = {
        "in process": lambda url: in_process_measures(scale),
        "Redis": lambda url: redis_measures(url, scale),
        "PostgreSQL": lambda url: postgres_measures(url, scale),
    }
    pickups, backlog = int(1000 * scale), int(1_000_000 * scale)
    with ExitStack() as stack, progress_line(console) as progress:
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


def _print_table(result: Result, console: Console) -> None:
    columns: list[tuple[str, Callable[[Row], str]]] = [
        ("backend", lambda row: row.backend),
        ("operation", lambda row: row.operation),
        ("measured", lambda row: row.value),
        ("beside it", lambda row: row.beside),
        ("ratio", lambda row: row.ratio),
        ("target", lambda row: row.target),
    ]
    print_table("queue benchmark", columns, result.rows(), ("reached", "missed"), result, console)


if __name__ == "__main__":
    sys.exit(main())
