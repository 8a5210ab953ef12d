"""The `allocator` command."""

import json
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn

import msgspec
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

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


@app.command()
def worker(
    processor: Annotated[
        list[str],
        typer.Option("--processor", "-p", metavar="TYPE=MODULE:FUNCTION", help="Who does jobs of a type. Repeat it."),
    ],
    queue: QueueUrl = settings.queue_url,
    name: QueueName = settings.queue_name,
    store: Annotated[
        str | None,
        typer.Option("--store", "-s", metavar="URL", help="sqlite:///PATH or postgresql://…"),
    ] = settings.store_url,
    workers: Annotated[int | None, typer.Option(help="Threads (4, or 0 with --processes).")] = None,
    processes: Annotated[int, typer.Option(help="Processes, for work that computes, crashes or hangs.")] = 0,
    limit: Annotated[
        list[str] | None, typer.Option(metavar="TYPE=N", help="At most N of a type at a time. Repeat it.")
    ] = None,
    timeout: Annotated[float, typer.Option(metavar="S", help="For one attempt, where the job names none.")] = 3600.0,
    lease: Annotated[float, typer.Option(metavar="S", help="Until a silent worker's job goes to another.")] = 15.0,
    grace: Annotated[float, typer.Option(metavar="S", help="For what runs when a stop is asked for.")] = 30.0,
) -> None:
    """
    Do the jobs of a queue until SIGTERM or Ctrl-C; a second one ends at once.

    Exit status 1 when so many threads hang in jobs over their timeout that no more are taken.

    Examples: `allocator worker -p json=myapp.jobs:read`,
    `allocator worker -q postgresql://me@db/jobs -p media=myapp.media:thumbnail --processes 2 --limit media=1`
    """
    from allocator.persistence import open_store
    from allocator.supervisor import Supervisor

    # As with `python -m`: the processors are mostly beside the one who types this.
    sys.path.insert(0, "")
    processors: dict[str, Any] = dict(_pair("--processor", text, "TYPE=MODULE:FUNCTION") for text in processor)
    limits = {
        type: _count("--limit", count) for type, count in (_pair("--limit", text, "TYPE=N") for text in limit or ())
    }
    with ExitStack() as stack:
        opened = stack.enter_context(_open(queue, name, lease_s=lease))
        try:
            record = None if store is None else stack.enter_context(open_store(store))
            supervisor = Supervisor(
                opened,
                processors,
                workers=workers,
                processes=processes,
                timeout_s=timeout,
                limits=limits,
                store=record,
                handle_signals=True,
            )
            status = supervisor.run(grace)
        except ValueError as error:
            _fail(str(error))
    raise typer.Exit(status)


dlq = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Dead letters: look, put back, purge.")
app.add_typer(dlq, name="dlq")

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
    limit: Annotated[int, typer.Option(help="At most so many, oldest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """
    List dead letters, oldest first.

    Examples: `allocator dlq list`, `allocator dlq list -t media -e timeout --json`
    """
    with _open(queue, name) as opened:
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
            Text(letter.job.id),
            Text(letter.job.type),
            str(letter.attempt_count),
            _utc(letter.dead_at),
            Text(error_line[:200]),
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
    with _open(queue, name) as opened:
        letter = opened.dead_letter(job_id)
    if letter is None:
        _fail(f"job {job_id} is not a dead letter of queue {name}", status=1)
    if as_json:
        print(msgspec.json.encode(letter).decode())
        return
    console = Console()
    console.print(Text(f"job {letter.job.id}, type {letter.job.type}, died {_utc(letter.dead_at)} UTC"))
    console.print(Text(f"payload: {msgspec.json.encode(letter.job.payload).decode()[:2000]}"))
    for attempt in letter.attempts:
        console.print(
            f"[bold]attempt {attempt.number}[/] by {attempt.worker}, {_utc(attempt.failed_at)} UTC", highlight=False
        )
        console.print(Text(attempt.traceback or attempt.error))
    console.print(Text(f"put it back: allocator dlq requeue {letter.job.id} -n {name}", style="dim"))


@dlq.command("requeue")
def requeue_dead(
    job_id: JobIdOrNone = None,
    queue: QueueUrl = settings.queue_url,
    name: QueueName = settings.queue_name,
    all: Everything = False,
    type: OfType = None,
    error: WithError = None,
    as_json: AsJson = False,
) -> None:
    """
    Put dead letters back, with a fresh retry budget. Exit status 1 when there were none.

    Examples: `allocator dlq requeue 0190…`, `allocator dlq requeue --all -e "connection refused"`
    """
    _move_dead(queue, name, "put back", "requeue_dead", job_id, all, type, error, as_json)


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
    if all and not yes and not typer.confirm(f"Delete dead letters of queue {name} for good?"):
        raise typer.Exit(1)
    _move_dead(queue, name, "purged", "purge_dead", job_id, all, type, error, as_json)


def _move_dead(
    url: str,
    name: str,
    done: str,
    method: str,
    job_id: str | None,
    all: bool,
    type: str | None,
    error: str | None,
    as_json: bool,
) -> None:
    with _open(url, name) as opened:
        try:
            count: int = getattr(opened, method)(job_id, all=all, type=type, error=error)
        except ValueError as problem:
            _fail(str(problem))
    print(json.dumps({"count": count}) if as_json else f"{count} {done}")
    raise typer.Exit(0 if count else 1)


jobs = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Jobs, as the store has them.")
app.add_typer(jobs, name="jobs")


@jobs.command("show")
def show_job(
    job_id: Annotated[str, typer.Argument(metavar="ID")],
    store: Annotated[str | None, typer.Option("--store", "-s", metavar="URL")] = settings.store_url,
    as_json: AsJson = False,
) -> None:
    """Show a job with its attempts, progress and result. Exit status 1 when the store does not know it."""
    from allocator.persistence import open_store

    with open_store(store) as opened:
        job = opened.job(job_id)
    if job is None:
        _fail(f"the store knows no job {job_id}", status=1)
    if as_json:
        raw = msgspec.to_builtins(job, builtin_types=(bytes,))
        raw.pop("record"), raw.pop("result_json")
        print(msgspec.json.encode({**raw, "payload": job.payload, "result": job.result}).decode())
        return
    console = Console()
    console.print(Text(f"job {job.id}, type {job.type}: {job.state}", style="bold"))
    console.print(Text(f"queue {job.queue}, submitted {_utc(job.submitted_at)} UTC"))
    if job.progress_done is not None:
        total = "" if job.progress_total is None else f" of {job.progress_total:g}"
        console.print(Text(f"progress {job.progress_done:g}{total} {job.progress_message or ''}"))
    if job.result is not None:
        console.print(Text(f"result {msgspec.json.encode(job.result).decode()[:2000]}"))
    table = Table("attempt", "outcome", "worker", "leased at (UTC)", "error")
    for attempt in job.attempts:
        table.add_row(
            str(attempt.number), attempt.outcome, attempt.worker, _utc(attempt.leased_at), Text(attempt.error or "")
        )
    console.print(table)


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


def _pair(option: str, text: str, form: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not key or not separator or not value:
        _fail(f"{option} {text!r} is not {form}")
    return key, value


def _count(option: str, text: str) -> int:
    if not text.isdigit():
        _fail(f"{option}: {text!r} is not a number")
    return int(text)


def _utc(instant: float) -> str:
    return f"{datetime.fromtimestamp(instant, UTC):%Y-%m-%d %H:%M:%S}"


def _open(url: str, name: str, **options: Any) -> Queue:
    if url.startswith("memory:"):
        _fail("a memory:// queue lives inside one process; there is nothing to look at from here")
    try:
        return open_queue(url, name=name, **options)
    except (AllocatorError, ValueError) as error:
        _fail(str(error))


def _fail(text: str, status: int = 2) -> NoReturn:
    console = Console(stderr=True)
    console.print("[bold red]allocator:[/]", end=" ")
    console.print(Text(text), highlight=False, soft_wrap=True)
    raise typer.Exit(status)


def main() -> None:
    """Run the command; errors of this package are told in a sentence, without a traceback."""
    try:
        app()
    except AllocatorError as error:
        print(f"allocator: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
