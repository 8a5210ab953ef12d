"""The `allocator` command."""

import sys
from typing import Annotated

import typer

import allocator
from allocator.cli.bench import bench
from allocator.cli.dlq import dlq
from allocator.cli.find import find
from allocator.cli.get import get
from allocator.cli.ingest import ingest
from allocator.cli.jobs import jobs
from allocator.cli.keys import keys
from allocator.cli.lab import lab
from allocator.cli.library import library
from allocator.cli.objects import objects
from allocator.cli.options import settings
from allocator.cli.report import report
from allocator.cli.rules import rules
from allocator.cli.serve import serve
from allocator.cli.services import services
from allocator.cli.showing import printable
from allocator.cli.status import StatusCommand, status
from allocator.cli.worker import worker
from allocator.domain.errors import AllocatorError
from allocator.logs import configure_logs

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    help="A job queue whose word can be checked: in process, on Redis and on PostgreSQL.",
)
app.command()(serve)
app.command()(ingest)
app.command()(find)
app.command()(get)
app.command()(worker)
app.command(cls=StatusCommand)(status)
app.add_typer(dlq, name="dlq")
app.add_typer(jobs, name="jobs")
app.add_typer(keys, name="keys")
app.add_typer(rules, name="rules")
app.add_typer(objects, name="objects")
app.add_typer(library, name="library")

app.add_typer(bench, name="bench")
app.add_typer(report, name="report")
app.command()(lab)
# What has a command line of its own gets the arguments as they are.
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)(
    services
)


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


def main() -> None:
    """Run the command; errors of this package are told in a sentence, without a traceback."""
    try:
        app()
    except AllocatorError as error:
        print(printable(f"allocator: {error}"), file=sys.stderr)
        sys.exit(2)
