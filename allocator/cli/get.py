"""`allocator get`."""

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from allocator.cli.failing import fail
from allocator.cli.remote import DEFAULT_SERVER, OBJECTS, ApiKey, ServerUrl, ask, connect, told, unreachable


def get(
    object_id: Annotated[str, typer.Argument(metavar="ID", help="Of the object, as `allocator find` tells it.")],
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="Where to; - for standard output.")],
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace a file that is there.")] = False,
    server: ServerUrl = DEFAULT_SERVER,
    key: ApiKey = None,
) -> None:
    """
    Get an object back. FILE appears when all of it is there and has the SHA-256 it was sent with, and not before.

    Exit status 1 when there is none of this id, or its bytes are not what they were.

    Examples: `allocator get 019ad3c5-… -o holiday.jpg`, `allocator get 019ad3c5-… -o - | less`
    """
    target = None if output == "-" else Path(output)
    if target is not None and target.is_dir():
        fail(f"-o {output}: is a folder; name a file")
    if target is not None and not force and os.path.lexists(target):
        fail(f"{output} is there already; replace it with --force, or name another file")
    with connect(server, key) as client:
        found = ask(client, f"{OBJECTS}/{quote(object_id, safe='')}")
        content = _content(client, found["id"], found["sha256"], found["size_bytes"])
        try:
            if target is None:
                for chunk in content:
                    sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
            else:
                _write(target, content, force)
        except BrokenPipeError:
            # Whoever reads has seen enough; nothing is left to be flushed.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except OSError as error:
            fail(f"{output} cannot be written: {error.strerror or error}")


def _content(client: httpx.Client, object_id: str, sha256: str, size: int) -> Iterator[bytes]:
    """The bytes, piece by piece; ends the command where they do not come whole, or are others than were sent."""
    hashed = hashlib.sha256()
    try:
        with client.stream("GET", f"{OBJECTS}/{object_id}/content") as response, _progress() as progress:
            if not response.is_success:
                response.read()
                fail(told(response), status=1)
            task = progress.add_task("getting", total=size)
            # Raw: the bytes as they are stored.
            for chunk in response.iter_raw():
                hashed.update(chunk)
                yield chunk
                progress.advance(task, len(chunk))
    except httpx.TransportError as error:
        fail(unreachable(str(client.base_url), error))
    if hashed.hexdigest() != sha256:
        fail(
            f"object {object_id} is damaged: its bytes hash to {hashed.hexdigest()}, not to {sha256}. See "
            "`allocator objects verify` on the server",
            status=1,
        )


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = (
        TextColumn("getting"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _write(target: Path, content: Iterator[bytes], force: bool) -> None:
    """Into a file beside it, which then takes its name."""
    descriptor, path = tempfile.mkstemp(prefix=f".{target.name[:50]}.", dir=target.parent)
    try:
        with open(descriptor, "wb") as file:
            for chunk in content:
                file.write(chunk)
            file.flush()
            os.fsync(descriptor)
            # Made for nobody else to read; now it is a file as any other.
            mask = os.umask(0)
            os.umask(mask)
            os.fchmod(descriptor, 0o666 & ~mask)
        if not force:
            # Taking the name fails where something has it by now, which a rename would replace.
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        os.replace(path, target)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)
