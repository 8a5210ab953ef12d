"""A running server, as commands ask it."""

import logging
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
import typer

from allocator.cli.failing import fail

INGEST = "/api/v1/ingest"
OBJECTS = "/api/v1/objects"

DEFAULT_SERVER = "http://127.0.0.1:8000"

ServerUrl = Annotated[
    str, typer.Option("--server", envvar="ALLOCATOR_SERVER", metavar="URL", help="Where `allocator serve` answers.")
]
ApiKey = Annotated[
    str | None, typer.Option("--key", envvar="ALLOCATOR_API_KEY", metavar="KEY", help="Where the server asks for one.")
]


def http_options(server: str, key: str | None) -> dict[str, Any]:
    """For a client of httpx. Fails where the URL is none, or the key is nothing that a header may hold."""
    try:
        url = urlsplit(server)
        if url.scheme not in ("http", "https") or not url.hostname or (url.port or 1) > 65535:
            raise ValueError("write http://HOST:PORT or https://HOST")
    except ValueError as error:
        fail(f"--server {server!r} is no address of a server: {error}")
    # A line for each request is for nobody who reads a summary.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        fail("--key: has a character that no key has")
    return {
        "base_url": server,
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        # The last bytes of a large file reach the disk before the answer comes.
        "timeout": httpx.Timeout(30.0, read=300.0),
        # No proxy leads to this machine.
        "trust_env": url.hostname not in ("localhost", "127.0.0.1", "::1"),
    }


def connect(server: str, key: str | None) -> httpx.Client:
    """A client, for commands that ask a few questions."""
    return httpx.Client(**http_options(server, key))


def ask(client: httpx.Client, path: str, params: dict[str, Any] | None = None) -> Any:
    """What the server answers, as JSON. Ends the command with 1 where there is no such thing, with 2 otherwise."""
    try:
        response = client.get(path, params=params)
    except httpx.TransportError as error:
        fail(unreachable(str(client.base_url), error))
    if not response.is_success:
        fail(told(response), status=1 if response.status_code in (404, 410) else 2)
    try:
        return response.json()
    except ValueError:
        fail(told(response))


def unreachable(server: str, error: Exception) -> str:
    """What to say where no server answers."""
    return (
        f"no server answers at {server.rstrip('/')} ({str(error) or type(error).__name__}): start one with "
        "`allocator serve`, or name it with --server"
    )


def told(response: httpx.Response) -> str:
    """What went wrong, as the server says it."""
    try:
        said = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        said = f"{response.url} answered {response.status_code}, and not as allocator does; see --server"
    remedy = "; give a key with --key or ALLOCATOR_API_KEY" if response.status_code == 401 else ""
    return f"{said}{remedy}"
