"""How a command ends that cannot do what it was asked for."""

from typing import NoReturn

import typer
from rich.console import Console

from allocator.cli.showing import shown


def fail(text: str, status: int = 2) -> NoReturn:
    console = Console(stderr=True)
    console.print("[bold red]allocator:[/]", end=" ")
    console.print(shown(text), highlight=False, soft_wrap=True)
    raise typer.Exit(status)
