"""`allocator find`."""

import json
import os
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from allocator.cli.failing import fail
from allocator.cli.options import AsJson, seconds
from allocator.cli.remote import DEFAULT_SERVER, OBJECTS, ApiKey, ServerUrl, ask, connect
from allocator.cli.showing import shown

MAX_TEXT_CHARS = 1000
"""As many as a server looks for."""


def find(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT…]", help="In name or comments, as one text, in any case.")
    ] = None,
    server: ServerUrl = DEFAULT_SERVER,
    key: ApiKey = None,
    owner: Annotated[str | None, typer.Option("--owner", "-o", metavar="NAME", help="Only of this owner.")] = None,
    kind: Annotated[str | None, typer.Option("--kind", "-k", help="Only media, json or other.")] = None,
    type: Annotated[str | None, typer.Option("--type", "-t", help="Only of this media type: image/png.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Received since: 90s, 12h, 30d ago, or since 2026-01-31.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-l", min=1, max=1000, help="Most objects of a page.")] = 50,
    after: Annotated[str | None, typer.Option(metavar="NEXT", help="What the page before gave as next.")] = None,
    as_json: AsJson = False,
) -> None:
    """
    Find objects by what they are called and what was said of them, the last received first.

    Exit status 1 when there are none.

    Examples: `allocator find holiday -k media`, `allocator find -o ada --since 30d --json`
    """
    text = " ".join(words or ())
    if len(text) > MAX_TEXT_CHARS:
        fail(f"TEXT: has {len(text):,} characters, and may have {MAX_TEXT_CHARS:,}")
    given = {
        # What is no UTF-8 here was replaced when it was sent.
        "text": os.fsencode(text).decode("utf-8", "replace") or None,
        "owner": owner,
        "kind": kind,
        "type": type,
        "received_after": None if since is None else _instant(since),
        "limit": limit,
        "after": after,
    }
    with connect(server, key) as client:
        page = ask(client, OBJECTS, {name: value for name, value in given.items() if value is not None})
    if as_json:
        print(json.dumps(page))
    else:
        _tell(page)
    raise typer.Exit(0 if page["objects"] else 1)


def _instant(text: str) -> str:
    """An age, or a date; without a zone in UTC."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        age_s = seconds("--since", text)
        try:
            return datetime.fromtimestamp(time.time() - age_s, UTC).isoformat()
        except (ValueError, OverflowError, OSError):
            fail(f"--since: {text!r} is longer ago than there are dates")
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).isoformat()


def _tell(page: dict[str, Any]) -> None:
    table = Table()
    for heading in ("id", "name", "owner", "type", "bytes", "received"):
        # An id that is cut off is of no use.
        table.add_column(heading, overflow="fold", no_wrap=heading == "id")
    table.columns[4].justify = "right"
    for one in page["objects"]:
        table.add_row(
            one["id"],
            shown(one["name"]),
            shown(one["owner"]),
            shown(one["type"] or ""),
            decimal(one["size_bytes"]),
            one["received_at"][:10],
        )
    console = Console()
    if not console.is_terminal:
        console.width = max(160, console.width)
    console.print(table if page["objects"] else "nothing found")
    if page["next"] is not None:
        console.print(f"there is more: the same with --after {page['next']}", highlight=False, soft_wrap=True)
