"""What the benchmarks' commands share: servers, the progress line, and the folder of the result."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from allocator.bench.result import Row, Run
from allocator.services import Server, ServiceUnavailable, open_postgres, open_redis

BACKENDS = {"memory": "in process", "redis": "Redis", "postgres": "PostgreSQL"}
"""The word on the command line -> the word in the table."""


def open_servers(stack: ExitStack, wanted: Sequence[str], run: Run, console: Console) -> dict[str, str]:
    """Backend -> URL of its server, which lives as long as `stack`; what cannot be had is noted in `run`."""
    urls: dict[str, str] = {}
    if "memory" in wanted:
        urls[BACKENDS["memory"]] = "memory://"
    openers: dict[str, Callable[[], Server]] = {"redis": open_redis, "postgres": open_postgres}
    for key, open_server in openers.items():
        if key not in wanted:
            continue
        backend = BACKENDS[key]
        try:
            server: Server = stack.enter_context(open_server())
        except ServiceUnavailable as error:
            run.not_measured.append(f"{backend}: {error}")
            console.print(f"[yellow]{backend} is not measured:[/] {error}")
            continue
        console.print(server.describe(), highlight=False, soft_wrap=True)
        run.fingerprint[backend] = server.describe()
        urls[backend] = server.url
    return urls


def progress_line(console: Console) -> Progress:
    """What is being measured, how far it is and how long it will take."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def print_table(
    title: str,
    columns: Sequence[tuple[str, Callable[[Row], str]]],
    rows: Sequence[Row],
    words: tuple[str, str],
    run: Run,
    console: Console,
) -> None:
    """The rows with a verdict each, in `words` for reached and missed; then what was not measured."""
    table = Table(title=title + (" (quick)" if run.quick else ""))
    for heading, _ in columns:
        table.add_column(heading, justify="right" if heading in ("measured", "ratio") else "left")
    table.add_column("")
    marks = {True: f"[green]{words[0]}[/]", False: f"[red]{words[1]}[/]", None: ""}
    for row in rows:
        undecided = "[yellow]undecided[/]" if row.target and row.reached is None else ""
        table.add_row(*(get(row) for _, get in columns), marks[row.reached] or undecided)
    (console if console.is_terminal else Console(width=max(200, console.width))).print(table)
    for text in run.not_measured:
        console.print(f"not measured: {text}")


def write_result(folder: Path, rows_json: bytes, render: Callable[[], str], console: Console) -> None:
    """`results.json`, and `report.html` where what draws it is installed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_bytes(rows_json)
    try:
        (folder / "report.html").write_text(render(), "utf-8")
        console.print(f"page: {folder / 'report.html'}")
    except ModuleNotFoundError as error:
        console.print(f"no page: {error.name} is missing; pip install 'allocator[notebooks]'")
    console.print(f"rows: {folder / 'results.json'}")
