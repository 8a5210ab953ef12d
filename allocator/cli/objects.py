"""`allocator objects`: the files on the disk, beside what the database says of them."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from allocator.cli.failing import fail
from allocator.cli.opening import open_archive
from allocator.cli.options import AsJson, DataFolder, StoreUrl, seconds, settings
from allocator.cli.showing import shown

objects = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="The files on the disk, beside what the database says of them. For the machine of the server.",
)

Force = Annotated[bool, typer.Option("--force", help="Also where the database may be another archive's.")]


@objects.command("verify")
def verify(data: DataFolder = None, store: StoreUrl = settings.store_url, as_json: AsJson = False) -> None:
    """
    Hash every file again, and compare store, library and database. Changes nothing; a server may be running.

    Exit status 1 when something is wrong; each thing is told.

    Examples: `allocator objects verify`, `allocator objects verify --data ./files -s sqlite:///store.db --json`
    """
    from allocator.ingest.upkeep import check

    errors = Console(stderr=True)
    found = []
    with open_archive(data, store) as archive:
        total = archive.objects.total_bytes()
        with _progress(errors, total) as advance:
            for damage in check(archive, advance):
                found.append(damage)
                if not as_json:
                    errors.print(shown(f"{damage.path}: {damage.problem}: {damage.detail}"), soft_wrap=True)
    if as_json:
        print(json.dumps({"bytes": total, "damages": [asdict(damage) for damage in found]}))
    else:
        print(f"{decimal(total)} read; " + (f"{len(found):,} things are wrong" if found else "all is as it was sent"))
    raise typer.Exit(int(bool(found)))


@objects.command("gc")
def gc(
    older_than: Annotated[
        str, typer.Option(metavar="AGE", help="Spare what is younger: no upload takes as long until it is recorded.")
    ] = "1h",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; say what would go.")] = False,
    force: Force = False,
    data: DataFolder = None,
    store: StoreUrl = settings.store_url,
    as_json: AsJson = False,
) -> None:
    """
    Remove files that nothing refers to, uploads that were cut off, and links without a record.

    Refused where the database seems to be another archive's: by its word, all would go.

    Examples: `allocator objects gc --dry-run`, `allocator objects gc --older-than 1d`
    """
    from allocator.ingest.upkeep import collect, doubts

    age_s = seconds("--older-than", older_than)
    with open_archive(data, store) as archive:
        doubt = None if force else doubts(archive)
        if doubt is not None:
            fail(
                f"is {archive.store.where} the database of {archive.objects.root}? {doubt[0].upper()}{doubt[1:]}. Name "
                "the right one with --store; if it is, look with `allocator objects verify`, and say --force"
            )
        done = collect(archive, age_s, dry_run=dry_run)
    told = {
        "objects": done.swept.objects,
        "bytes": done.swept.bytes,
        "incoming": done.swept.incoming,
        "links": done.links,
        "dry_run": dry_run,
    }
    if as_json:
        print(json.dumps(told))
    else:
        print(
            f"{'would remove' if dry_run else 'removed'} {done.swept.objects:,} objects ({decimal(done.swept.bytes)}), "
            f"{done.swept.incoming:,} unfinished uploads, {done.links:,} links"
        )


@contextmanager
def _progress(console: Console, total: int) -> Iterator[Callable[[int], None]]:
    columns = (
        TextColumn("hashing"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("hashing", total=total)
        yield lambda size: progress.advance(task, size)
