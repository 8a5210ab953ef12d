"""The `allocator` command."""

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, NoReturn

import msgspec
import typer
from pydantic import ValidationError
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand

import allocator
from allocator.domain.errors import AllocatorError
from allocator.logs import configure_logs
from allocator.queue.base import Queue
from allocator.queue.opening import open_queue
from allocator.settings import Settings

if TYPE_CHECKING:
    # Imported where it is used: most commands do without SQLAlchemy.
    from allocator.persistence import Store
    from allocator.supervisor.metrics import Metrics

log = logging.getLogger(__name__)

RECONNECT_S = 1.0
"""For those who look again and again: they rather tell what is wrong than wait until it is over."""

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
StoreUrl = Annotated[
    str | None, typer.Option("--store", "-s", metavar="URL", help="sqlite:///PATH or postgresql://USER@HOST:PORT/DB")
]
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


class _StatusCommand(TyperCommand):
    """`--watch` may stand without its number, for which options have no form of their own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for place, word in enumerate(args):
            if word == "--watch" and (place + 1 == len(args) or args[place + 1].startswith("-")):
                args = [*args[: place + 1], "1", *args[place + 1 :]]
        return super().parse_args(ctx, args)


@app.command(cls=_StatusCommand)
def status(
    queue: QueueUrl = settings.queue_url,
    name: QueueName = settings.queue_name,
    store: StoreUrl = settings.store_url,
    watch: Annotated[
        float | None, typer.Option("--watch", metavar="[S]", min=0.1, help="Look again every S seconds (1).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """
    How many jobs are in which state; with `--store`, also by the store.

    `--watch` goes on until Ctrl-C, with rates since the last look, also while the server is gone; with `--json` each
    look is one line.

    Examples: `allocator status`, `allocator status --watch`,
    `allocator status -q postgresql://me@db/jobs -n media --json`
    """
    with ExitStack() as stack:
        bound = {} if watch is None else {"reconnect_s": RECONNECT_S}
        opened = stack.enter_context(_open(queue, name, **bound))
        record = None if store is None else stack.enter_context(_open_store(store))
        if watch is not None:
            _watch(opened, record, watch, as_json)
            return
        look = _look(opened, record)
    if as_json:
        print(json.dumps({"queue": name, **look.as_dict()}))
    else:
        Console().print(_status_table(name, look))


class _Look(NamedTuple):
    """What was seen; `at` on the monotonic clock, counts by state."""

    at: float
    counts: Mapping[str, int]
    stored: Mapping[str, int] | None

    def as_dict(self) -> dict[str, Any]:
        return dict(self.counts) if self.stored is None else {**self.counts, "store": dict(self.stored)}

    def rates_since(self, before: "_Look | None") -> dict[str, float | None]:
        """Per second; None without a look before, or where the queue was emptied in between."""
        if before is None:
            return {"done_per_s": None, "arrivals_per_s": None}
        seconds = self.at - before.at
        # Every job that was ever accepted is in exactly one of the counts.
        found = {
            "done_per_s": self.counts["done"] - before.counts["done"],
            "arrivals_per_s": sum(self.counts.values()) - sum(before.counts.values()),
        }
        return {name: count / seconds if count >= 0 else None for name, count in found.items()}


def _look(queue: Queue, store: "Store | None") -> _Look:
    counts = queue.counts()
    return _Look(time.monotonic(), counts, None if store is None else store.counts(queue.identity))


def _watch(queue: Queue, store: "Store | None", interval_s: float, as_json: bool) -> None:
    """Look and tell until Ctrl-C. What goes wrong in between is told as well, and then looked again."""
    console = Console()
    try:
        with ExitStack() as stack:
            show: Callable[[RenderableType], None] = console.print
            if console.is_terminal and not as_json:
                show = partial(stack.enter_context(Live(console=console, auto_refresh=False)).update, refresh=True)
            before: _Look | None = None
            table: RenderableType = ""
            while True:
                began = time.monotonic()
                try:
                    look = _look(queue, store)
                except AllocatorError as error:
                    told: dict[str, Any] = {"error": str(error)}
                    shown: RenderableType = Group(table, Text(f"{_utc(time.time())} UTC: {error}", style="bold red"))
                else:
                    rates = look.rates_since(before)
                    told = {**look.as_dict(), **rates}
                    shown = table = _status_table(queue.name, look, rates)
                    before = look
                if as_json:
                    print(json.dumps({"queue": queue.name, "at": time.time(), **told}), flush=True)
                else:
                    show(shown)
                time.sleep(max(0.0, interval_s - (time.monotonic() - began)))
    except KeyboardInterrupt:
        return


def _status_table(name: str, look: _Look, rates: Mapping[str, float | None] | None = None) -> Table:
    table = Table(title=f"queue {name}")
    table.add_column("state")
    table.add_column("jobs", justify="right")
    for state in ("ready", "scheduled", "leased", "dead"):
        table.add_row(state, f"{look.counts[state]:,}")
    table.add_section()
    for state in ("done", "cancelled", "purged"):
        table.add_row(f"{state} since it began", f"{look.counts[state]:,}")
    if rates is not None:
        table.add_section()
        for rate, label in (("arrivals_per_s", "arrivals per second"), ("done_per_s", "done per second")):
            value = rates[rate]
            table.add_row(label, "" if value is None else f"{value:,.1f}")
    if look.stored is not None:
        table.add_section()
        for state, count in look.stored.items():
            table.add_row(f"{state} in the store", f"{count:,}")
    return table


@app.command()
def worker(
    processor: Annotated[
        list[str],
        typer.Option("--processor", "-p", metavar="TYPE=MODULE:FUNCTION", help="Who does jobs of a type. Repeat it."),
    ],
    queue: QueueUrl = settings.queue_url,
    name: QueueName = settings.queue_name,
    store: StoreUrl = settings.store_url,
    workers: Annotated[int | None, typer.Option(help="Threads (4, or 0 with --processes).")] = None,
    processes: Annotated[int, typer.Option(help="Processes, for work that computes, crashes or hangs.")] = 0,
    limit: Annotated[
        list[str] | None, typer.Option(metavar="TYPE=N", help="At most N of a type at a time. Repeat it.")
    ] = None,
    timeout: Annotated[float, typer.Option(metavar="S", help="For one attempt, where the job names none.")] = 3600.0,
    lease: Annotated[float, typer.Option(metavar="S", help="Until a silent worker's job goes to another.")] = 15.0,
    grace: Annotated[float, typer.Option(metavar="S", help="For what runs when a stop is asked for.")] = 30.0,
    reconcile: Annotated[float, typer.Option(metavar="S", help="How often store and queue are compared.")] = 30.0,
    prune: Annotated[
        bool, typer.Option(help="Whether the store forgets jobs that ended 30 days or a million jobs ago.")
    ] = True,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="[HOST:]PORT", help="Serve figures to Prometheus; on loopback where no HOST is given."),
    ] = None,
) -> None:
    """
    Do the jobs of a queue until SIGTERM or Ctrl-C; a second one ends at once.

    Exit status 1 when so many threads hang in jobs over their timeout that no more are taken.

    Examples: `allocator worker -p json=myapp.jobs:read`,
    `allocator worker -q postgresql://me@db/jobs -p media=myapp.media:thumbnail --processes 2 --limit media=1`,
    `allocator worker -p json=myapp.jobs:read --metrics 9100`
    """
    from allocator.supervisor import Retention, Supervisor
    from allocator.supervisor.metrics import Metrics

    # As with `python -m`: the processors are mostly beside the one who types this.
    sys.path.insert(0, "")
    processors: dict[str, Any] = dict(_pair("--processor", text, "TYPE=MODULE:FUNCTION") for text in processor)
    limits = {
        type: _count("--limit", count) for type, count in (_pair("--limit", text, "TYPE=N") for text in limit or ())
    }
    address = None if metrics is None else _address("--metrics", metrics)
    with ExitStack() as stack:
        opened = stack.enter_context(_open(queue, name, lease_s=lease))
        record = None if store is None else stack.enter_context(_open_store(store))
        figures = None if address is None else Metrics(name, processors)
        try:
            supervisor = Supervisor(
                opened,
                processors,
                workers=workers,
                processes=processes,
                timeout_s=timeout,
                limits=limits,
                store=record,
                reconcile_s=reconcile,
                retention=Retention() if prune else None,
                events=[] if figures is None else [figures],
                handle_signals=True,
            )
            if figures is not None and address is not None:
                figures.watch(supervisor, stack.enter_context(_open(queue, name, reconnect_s=RECONNECT_S)))
                stack.callback(_serve(figures, *address))
            status = supervisor.run(grace)
        except ValueError as error:
            _fail(str(error))
    raise typer.Exit(status)


def _serve(figures: "Metrics", host: str, port: int) -> Callable[[], None]:
    """Answer Prometheus in a thread; gives what ends it."""
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, host, figures.registry)
    except OSError as error:
        _fail(f"--metrics: nothing can listen on {host} port {port}: {error}")
    shown = f"[{host}]" if ":" in host else host
    log.info("metrics at http://%s:%d/metrics", shown, server.server_port)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


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
    with _open(queue, name) as opened:
        _tell_moved(lambda: opened.requeue_dead(job_id, all=all, type=type, error=error), "put back", as_json)


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
    with _open(queue, name) as opened:
        _tell_moved(lambda: opened.purge_dead(job_id, all=all, type=type, error=error), "purged", as_json)


def _tell_moved(move: Callable[[], int], done: str, as_json: bool) -> NoReturn:
    """Move dead letters, and tell how many; what was asked for in a wrong way moves none."""
    try:
        count = move()
    except ValueError as problem:
        _fail(str(problem))
    print(json.dumps({"count": count}) if as_json else f"{count} {done}")
    raise typer.Exit(0 if count else 1)


jobs = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Jobs, as the store has them.")
app.add_typer(jobs, name="jobs")


@jobs.command("show")
def show_job(
    job_id: Annotated[str, typer.Argument(metavar="ID")],
    store: StoreUrl = settings.store_url,
    as_json: AsJson = False,
) -> None:
    """Show a job with its attempts, progress and result. Exit status 1 when the store does not know it."""
    with _open_store(store) as opened:
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


@jobs.command("prune")
def prune_jobs(
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Those that ended longer ago: 90s, 15m, 12h, 30d, 4w.")
    ] = None,
    keep: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Of each of done, dead and cancelled, all but the last N.")
    ] = None,
    store: StoreUrl = settings.store_url,
    as_json: AsJson = False,
) -> None:
    """
    Delete the records of jobs that have ended, of every queue in the store. Nothing to delete is no failure.

    Of both options together each deletes for itself. Dead letters stay in their queue: see `allocator dlq purge`.

    Examples: `allocator jobs prune --older-than 30d`, `allocator jobs prune --older-than 12h --keep 100000 --json`
    """
    if older_than is None and keep is None:
        _fail("say what may go: --older-than AGE, --keep N, or both")
    age_s = None if older_than is None else _seconds("--older-than", older_than)
    with _open_store(store) as opened:
        count = opened.retain(age_s, keep)
    print(json.dumps({"count": count}) if as_json else f"{count} deleted")


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on: loopback alone, as there are no keys yet.")] = "",
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where files are kept, with the library and rules.toml.")
    ] = None,
    queue: QueueUrl = settings.queue_url,
    name: QueueName = settings.queue_name,
    store: StoreUrl = settings.store_url,
    processes: Annotated[
        int | None, typer.Option(min=0, help="Worker processes (2); with 0 others work on the queue.")
    ] = None,
    grace: Annotated[float | None, typer.Option(metavar="S", min=0, help="For what runs at the end (30).")] = None,
) -> None:
    """
    Serve the ingest API, and do its jobs, until SIGTERM or Ctrl-C; a second one ends at once.

    Files sent to `POST /api/v1/ingest` are kept, identified and placed; `/openapi.json` tells the rest. What has no
    option is set by variables such as ALLOCATOR_MAX_FILE_BYTES.

    Examples: `allocator serve`, `allocator serve -q memory:// --data ./files --port 8080`
    """
    from allocator.api.serving import serve as run_server
    from allocator.api.settings import ApiSettings

    given: dict[str, Any] = {
        "host": host or None,
        "port": port,
        "data": data,
        "queue_url": queue,
        "queue_name": name,
        "store_url": store,
        "processes": processes,
        "grace_s": grace,
    }
    try:
        chosen = ApiSettings(**{field: value for field, value in given.items() if value is not None})
    except ValidationError as error:
        _fail("; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()))
    raise typer.Exit(run_server(chosen))


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


def _seconds(option: str, text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if found is None:
        _fail(f"{option}: {text!r} is no age; write 90s, 15m, 12h, 30d or 4w")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}[found[2]]


def _address(option: str, text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        _fail(f"{option}: {text!r} is not [HOST:]PORT")
    return host.strip("[]") or "127.0.0.1", int(port)


def _utc(instant: float) -> str:
    return f"{datetime.fromtimestamp(instant, UTC):%Y-%m-%d %H:%M:%S}"


def _open(url: str, name: str, **options: Any) -> Queue:
    if url.startswith("memory:"):
        _fail("a memory:// queue lives inside one process; there is nothing to look at from here")
    try:
        return open_queue(url, name=name, **options)
    except (AllocatorError, ValueError) as error:
        _fail(str(error))


def _open_store(url: str | None) -> "Store":
    from allocator.persistence import open_store

    try:
        return open_store(url)
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
