"""What the commands share: options, and how their values are read."""

import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from allocator.cli.failing import fail
from allocator.settings import Settings


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        for problem in error.errors():
            name = "ALLOCATOR_" + "_".join(str(part) for part in problem["loc"]).upper()
            print(f"allocator: {name}={problem['input']!r}: {problem['msg']}", file=sys.stderr)
        sys.exit(2)


settings = _settings()

# Their defaults come from variables, which help names instead of what is in them: there may be a password.
QueueUrl = Annotated[
    str,
    typer.Option(
        "--queue",
        "-q",
        metavar="URL",
        help="redis://HOST:PORT/DB or postgresql://USER@HOST:PORT/DB",
        show_default=f"ALLOCATOR_QUEUE_URL, or {Settings.model_fields['queue_url'].default}",
    ),
]
QueueName = Annotated[str, typer.Option("--name", "-n", help="Which queue there.")]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store",
        "-s",
        metavar="URL",
        help="sqlite:///PATH or postgresql://USER@HOST:PORT/DB",
        show_default="ALLOCATOR_STORE_URL",
    ),
]
DataFolder = Annotated[
    Path | None,
    typer.Option(
        "--data", envvar="ALLOCATOR_DATA", metavar="DIR", help="Where files are kept, with library and rules.toml."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="For scripts: JSON on standard output.")]


def pair(option: str, text: str, form: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not key or not separator or not value:
        fail(f"{option} {text!r} is not {form}")
    return key, value


def number(option: str, text: str) -> int:
    if not text.isdigit():
        fail(f"{option}: {text!r} is not a number")
    return int(text)


def seconds(option: str, text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if found is None:
        fail(f"{option}: {text!r} is no age; write 90s, 15m, 12h, 30d or 4w")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}[found[2]]


def host_and_port(option: str, text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        fail(f"{option}: {text!r} is not [HOST:]PORT")
    return host.strip("[]") or "127.0.0.1", int(port)


def utc(instant: float) -> str:
    return f"{datetime.fromtimestamp(instant, UTC):%Y-%m-%d %H:%M:%S}"
