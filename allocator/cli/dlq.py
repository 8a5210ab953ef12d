"""`allocator dlq`: dead letters."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from allocator.cli.failing import fail
from allocator.cli.opening import open_named, open_record
from allocator.cli.options import AsJson, QueueName, QueueUrl, StoreUrl, settings, utc
from allocator.cli.showing import shown

dlq = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Dead letters: look, put back, purge.")

OfType = Annotated[str | None, typer.Option("--type", "-t", help="Only jobs of this type.")]
WithError = Annotated[str | None, typer.Option("--error", "-e", metavar="TEXT", help="Only errors that contain it.")]
Everything = Annotated[bool, typer.Option("--all", help="All of them, narrowed by --type and --error.")]
JobIdOrNone = Annotated[str | None, typer.Argument(metavar="[ID]", help="Of the job.")]


@dlq.command("list")
def list_dead(
    queue: QueueUrl = settings.queue_url,
    name: QueueName = settings.queue_name,
    type: OfType = None,
    error: WithError = None,
    limit: Annotated[int, typer.Option("--limit", "-l", min=1, help="At most so many, oldest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """
    List dead letters, oldest first.

    Examples: `allocator dlq list`, `allocator dlq list -t media -e timeout --json`
    """
    with open_named(queue, name) as opened:
        letters = opened.dead_letters(limit=limit, type=type, error=error)
    if as_json:
        print(msgspec.json.encode(letters).decode())
        return
    table = Table(title=f"dead letters of queue {name}")
    for heading in ("job", "type", "attempts", "died at (UTC)", "error"):
        table.add_column(heading, overflow="fold")
    for letter in letters:
        error_line = (letter.error.splitlines() or [""])[0]
        table.add_row(
            shown(letter.job.id),
            shown(letter.job.type),
            str(letter.attempt_count),
            utc(letter.dead_at),
            shown(error_line[:200]),
        )
    Console().print(table if letters else "no dead letters")


@dlq.command("show")
def show_dead(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="Of the job.")],
    queue: QueueUrl = settings.queue_url,
    name: QueueName = settings.queue_name,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter with its attempts. Exit status 1 when there is none of this id."""
    with open_named(queue, name) as opened:
        letter = opened.dead_letter(job_id)
    if letter is None:
        fail(f"job {job_id} is not a dead letter of queue {name}", status=1)
    if as_json:
        print(msgspec.json.encode(letter).decode())
        return
    console = Console()
    console.print(shown(f"job {letter.job.id}, type {letter.job.type}, died {utc(letter.dead_at)} UTC"))
    console.print(shown(f"payload: {msgspec.json.encode(letter.job.payload).decode()[:2000]}"))
    for attempt in letter.attempts:
        console.print(f"[bold]attempt {attempt.number}[/] by", shown(f"{attempt.worker}, {utc(attempt.failed_at)} UTC"))
        console.print(shown(attempt.traceback or attempt.error))
    console.print(shown(f"put it back: allocator dlq requeue {letter.job.id} -n {name}", style="dim"))


@dlq.command("requeue")
def requeue_dead(
    job_id: JobIdOrNone = None,
    queue: QueueUrl = settings.queue_url,
    name: QueueName = settings.queue_name,
    store: StoreUrl = settings.store_url,
    all: Everything = False,
    type: OfType = None,
    error: WithError = None,
    as_json: AsJson = False,
) -> None:
    """
    Put dead letters back, with a fresh retry budget. Exit status 1 when there were none.

    A store that is named says at once that they wait; one that is not learns of it when their next attempts begin.

    Examples: `allocator dlq requeue 0190…`, `allocator dlq requeue --all -e "connection refused"`
    """
    _check_choice(job_id, all, type, error)
    with ExitStack() as stack:
        opened = stack.enter_context(open_named(queue, name))
        put_back = opened.requeue_dead
        if store is not None:
            from allocator.supervisor.requeueing import requeue_dead as put_back_in_both

            put_back = partial(put_back_in_both, opened, stack.enter_context(open_record(store)))
        _tell_moved(lambda: put_back(job_id, all=all, type=type, error=error), "put back", as_json)


@dlq.command("purge")
def purge_dead(
    job_id: JobIdOrNone = None,
    queue: QueueUrl = settings.queue_url,
    name: QueueName = settings.queue_name,
    all: Everything = False,
    type: OfType = None,
    error: WithError = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """
    Delete dead letters for good. Exit status 1 when there were none.

    Examples: `allocator dlq purge 0190…`, `allocator dlq purge --all -t media --yes`
    """
    _check_choice(job_id, all, type, error)
    if all and not yes and not typer.confirm(f"Delete dead letters of queue {name} for good?"):
        raise typer.Exit(1)
    with open_named(queue, name) as opened:
        _tell_moved(lambda: opened.purge_dead(job_id, all=all, type=type, error=error), "purged", as_json)


def _check_choice(job_id: str | None, all: bool, type: str | None, error: str | None) -> None:
    if (job_id is None) == (not all):
        fail("name one dead letter by the ID of its job, or say --all, narrowed by --type and --error")
    if job_id is not None and (type is not None or error is not None):
        fail("--type and --error go with --all, and not with an ID")


def _tell_moved(move: Callable[[], int], done: str, as_json: bool) -> NoReturn:
    """Move dead letters, and tell how many."""
    count = move()
    print(json.dumps({"count": count}) if as_json else f"{count} {done}")
    raise typer.Exit(0 if count else 1)
