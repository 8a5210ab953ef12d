"""`allocator ingest`."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import anyio
import httpx
import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from allocator.cli.failing import fail
from allocator.cli.options import AsJson
from allocator.cli.remote import DEFAULT_SERVER, ApiKey, ServerUrl, http_options
from allocator.cli.sending import Outcome, Sender, ServerGone
from allocator.cli.showing import printable, shown
from allocator.cli.tree import Survey, survey

MAX_COMMENTS_CHARS = 4000
"""As many as a server can be asked for."""

TOLD = 20
"""Lines of what went wrong that are shown; --json has them all."""


def _named(text: str) -> Path:
    # To `Path` it is the present folder, and to a script a variable that was not set.
    if not text:
        raise typer.BadParameter("is empty; write . for the present folder")
    return Path(text)


def ingest(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH…", help="Files, and folders with all that is in them.", parser=_named),
    ],
    server: ServerUrl = DEFAULT_SERVER,
    key: ApiKey = None,
    owner: Annotated[str, typer.Option("--owner", "-o", metavar="NAME", help="Whose they are.")] = "anonymous",
    comments: Annotated[
        str | None, typer.Option("--comments", "-c", metavar="TEXT", help="Kept with each of them; can be searched.")
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", "-x", metavar="PATTERN", help="Leave out what fits; as in .gitignore."),
    ] = None,
    gitignore: Annotated[
        bool, typer.Option("--gitignore/--no-gitignore", help="Follow the .gitignore files found.")
    ] = True,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=32, help="Requests at a time.")] = 4,
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Until all are processed; then tell what they are.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent; ask no server.")] = False,
    as_json: AsJson = False,
) -> None:
    """
    Send files to a server, folders recursively, none of them twice: run it again to go on, or to send what has changed.

    The server is asked for each file whether it has it, by its bytes and its name; small ones go together. No symbolic
    link is followed; links, special files and what cannot be read are told. Exit status 1 where a file was not sent, or
    with --wait not placed.

    Examples: `allocator ingest photos/ -o ada --wait`, `allocator ingest . -x '*.tmp' --dry-run`
    """
    try:
        found = survey(paths, exclude or [], gitignore)
    except FileNotFoundError as error:
        fail(f"there is nothing at {error.filename}")
    except ValueError as error:
        fail(f"--exclude: {error}")
    except OSError as error:
        fail(f"{error.filename} cannot be read: {error.strerror}")
    if not 0 < len(owner) <= 200 or not owner.isprintable():
        fail(f"--owner: must have 1 to 200 printable characters, not {owner!r}")
    if comments is not None and (not comments or printable(comments) != comments):
        fail(f"--comments: must be text, not {comments!r}")
    if comments is not None and len(comments) > MAX_COMMENTS_CHARS:
        fail(f"--comments: has {len(comments):,} characters, and may have {MAX_COMMENTS_CHARS:,}")
    run = _Run(found)
    if not dry_run:
        _send(run, http_options(server, key), owner, comments, jobs, wait)
    if as_json:
        print(json.dumps(run.as_dict(dry_run)))
    else:
        _tell(run, dry_run, wait)
    raise typer.Exit(run.status)


@dataclass
class _Run:
    """What was found, and what became of it; `broken` says why the run ended early."""

    found: Survey
    broken: str | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    sent_bytes: int = 0
    interrupted: bool = False

    def of(self, state: str) -> list[Outcome]:
        return [one for one in self.outcomes if one.state == state]

    @property
    def problems(self) -> list[tuple[str, str]]:
        """Path and reason, of all that should have been sent and placed, and was not."""
        lost = [(one.path, one.reason) for one in self.found.skipped if one.is_lost]
        return lost + [(one.found.path, one.error) for one in self.outcomes if one.error is not None]

    @property
    def status(self) -> int:
        if self.broken is not None:
            return 2
        return int(self.interrupted or bool(self.problems))

    def as_dict(self, dry_run: bool) -> dict[str, Any]:
        files = [{**one.found._asdict(), **_details(one)} for one in self.outcomes]
        if dry_run:
            files = [{**one._asdict(), "state": "would be sent"} for one in self.found.files]
        return {
            "sent": len(self.of("sent")),
            "already_there": len(self.of("already there")),
            "failed": len(self.problems),
            "skipped": sum(not one.is_lost for one in self.found.skipped),
            "ignored": self.found.ignored_count,
            "sent_bytes": self.sent_bytes,
            "files": files,
            "not_sent": [one._asdict() for one in self.found.skipped],
            "interrupted": self.interrupted,
            "problem": self.broken,
        }


def _details(one: Outcome) -> dict[str, Any]:
    return {
        name: getattr(one, name) for name in ("state", "sha256", "job_id", "object_id", "error", "kind", "processed")
    }


def _send(run: _Run, options: dict[str, Any], owner: str, comments: str | None, jobs: int, wait: bool) -> None:
    async def work(sender_made: list[Sender]) -> None:
        limits = httpx.Limits(max_connections=jobs, max_keepalive_connections=jobs)
        async with httpx.AsyncClient(**options, limits=limits) as client:
            sender = Sender(client, owner, comments, jobs, outcomes=run.outcomes)
            sender_made.append(sender)
            with _sending(sender, run.found.size_bytes):
                await sender.send(run.found.files)
            if wait:
                with _followed(sender) as on_ended:
                    await sender.follow(on_ended)

    made: list[Sender] = []
    try:
        anyio.run(work, made)
    except ServerGone as gone:
        run.broken = str(gone)
    except KeyboardInterrupt:
        run.interrupted = True
    run.sent_bytes = sum(sender.sent_bytes for sender in made)


@contextmanager
def _sending(sender: Sender, total_bytes: int) -> Iterator[None]:
    """A line on the terminal: how much was sent, at which rate, and how long the rest will take."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("sending", total=total_bytes)

        def told(outcome: Outcome) -> None:
            if outcome.state != "sent":
                # What is not sent must not look like speed.
                total = progress.tasks[0].total or 0
                progress.update(task, total=max(0, total - outcome.found.size_bytes))
            progress.update(task, description=f"{len(sender.outcomes):,} files")

        sender.on_bytes = lambda count: progress.advance(task, count)
        sender.on_outcome = told
        yield


@contextmanager
def _followed(sender: Sender) -> Iterator[Callable[[Outcome], None]]:
    """The same for what is processed on the server."""
    console = Console(stderr=True)
    columns = (TextColumn("placing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("placing", total=sum(one.object_id is not None for one in sender.outcomes))
        yield lambda outcome: progress.advance(task)


def _tell(run: _Run, dry_run: bool, wait: bool) -> None:
    errors = Console(stderr=True)
    skipped = [(one.path, one.reason) for one in run.found.skipped if not one.is_lost]
    for heading, lines in (("skipped", skipped), ("failed", run.problems)):
        for path, reason in lines[:TOLD]:
            errors.print(shown(f"{heading}: {path}: {reason}"), soft_wrap=True, highlight=False)
        if len(lines) > TOLD:
            errors.print(f"… and {len(lines) - TOLD:,} more {heading}; --json names them all", highlight=False)
    table = Table("", "files", "bytes")
    for column in table.columns[1:]:
        column.justify = "right"
    if dry_run:
        table.add_row("would be sent", f"{len(run.found.files):,}", decimal(run.found.size_bytes))
    else:
        table.add_row("sent", f"{len(run.of('sent')):,}", decimal(run.sent_bytes))
        table.add_row("already there", f"{len(run.of('already there')):,}", "")
    table.add_row("skipped", f"{len(skipped):,}", "")
    table.add_row("ignored by patterns", f"{run.found.ignored_count:,}", "")
    table.add_row("failed", f"{len(run.problems):,}", "")
    if wait:
        table.add_section()
        kinds = Counter((one.kind or "unknown", one.processed) for one in run.outcomes if one.processed is not None)
        for (kind, processed), count in sorted(kinds.items()):
            table.add_row(f"{kind}: {processed}", f"{count:,}", "")
    Console().print(table)
    left = len(run.found.files) - len(run.outcomes)
    if run.interrupted:
        errors.print(
            f"Stopped with {left:,} files to go. The same command again goes on from here: what is there is not sent "
            "a second time.",
            highlight=False,
        )
    if run.broken is not None:
        fail(f"{run.broken}. {left:,} files were not sent; the same command again goes on from here")
