"""The `allocator` command."""

import json
import sys
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

import allocator
from allocator.domain.errors import AllocatorError
from allocator.logs import configure_logs
from allocator.queue.base import Queue
from allocator.queue.opening import open_queue
from allocator.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    help="A job queue whose word can be checked: in process, on Redis and on PostgreSQL.",
)


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        for problem in error.errors():
            name = "ALLOCATOR_" + "_".join(str(part) for part in problem["loc"]).upper()
            print(f"allocator: {name}={problem['input']!r}: {problem['msg']}", file=sys.stderr)
        sys.exit(2)


settings = _settings()

QueueUrl = Annotated[
    str, typer.Option("--queue", "-q", metavar="URL", help="redis://HOST:PORT/DB or postgresql://USER@HOST:PORT/DB")
]
QueueName = Annotated[str, typer.Option("--name", "-n", help="Which queue there.")]
AsJson = Annotated[bool, typer.Option("--json", help="For scripts: JSON on standard output.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"allocator {allocator.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    configure_logs(settings.log_level, settings.log_format)


@app.command()
def status(
    queue: QueueUrl = settings.queue_url,
    name: QueueName = settings.queue_name,
    as_json: AsJson = False,
) -> None:
    """
    How many jobs are in which state.

    Examples: `allocator status`, `allocator status -q postgresql://me@db/jobs -n media --json`
    """
    with _open(queue, name) as opened:
        counts = opened.counts()
    if as_json:
        print(json.dumps({"queue": name, **counts}))
        return
    table = Table(title=f"queue {name}")
    table.add_column("state")
    table.add_column("jobs", justify="right")
    for state in ("ready", "scheduled", "leased", "dead"):
        table.add_row(state, f"{counts[state]:,}")
    table.add_section()
    for state in ("done", "cancelled", "purged"):
        table.add_row(f"{state} since it began", f"{counts[state]:,}")
    Console().print(table)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def services(context: typer.Context) -> None:
    """
    Start a real Redis and a real PostgreSQL on loopback; Ctrl-C stops them.

    Examples: `allocator services`, `allocator services --redis-port 6379`, `allocator services --help`
    """
    from allocator.services.__main__ import main as run_services

    raise typer.Exit(run_services(context.args))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def bench(context: typer.Context) -> None:
    """
    Measure the queue beside bare limits, and write a page.

    Examples: `allocator bench`, `allocator bench --quick --only redis`, `allocator bench --help`
    """
    from allocator.bench.queue.__main__ import main as run_bench

    raise typer.Exit(run_bench(context.args))


def _open(url: str, name: str) -> Queue:
    if url.startswith("memory:"):
        _fail("a memory:// queue lives inside one process; there is nothing to look at from here")
    try:
        return open_queue(url, name=name)
    except (AllocatorError, ValueError) as error:
        _fail(str(error))
    raise AssertionError


def _fail(text: str) -> None:
    Console(stderr=True).print(f"[bold red]allocator:[/] {text}", highlight=False, soft_wrap=True)
    raise typer.Exit(2)


def main() -> None:
    """Run the command; errors of this package are told in a sentence, without a traceback."""
    try:
        app()
    except AllocatorError as error:
        Console(stderr=True).print(f"[bold red]allocator:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
