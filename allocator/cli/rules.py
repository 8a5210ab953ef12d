"""`allocator rules`: the rules by which files are placed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from allocator.cli.failing import fail
from allocator.cli.opening import data_folder
from allocator.cli.options import AsJson, DataFolder, utc
from allocator.cli.showing import shown

if TYPE_CHECKING:
    from allocator.ingest.rules import Check
    from allocator.ingest.trying import Trial

rules = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="The rules by which files are placed.")


@rules.callback()
def _rules() -> None:
    """The rules by which files are placed."""


@rules.command("test")
def try_files(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Any files; they are only read.")],
    rules_file: Annotated[
        Path | None, typer.Option("--rules", "-r", metavar="TOML", help="By default those of the data folder.")
    ] = None,
    data: DataFolder = None,
    owner: Annotated[str, typer.Option("--owner", "-o", metavar="NAME", help="As if they were theirs.")] = "anonymous",
    as_json: AsJson = False,
) -> None:
    """
    Say what files are, where the rules would place them, and why. No server is asked, and nothing is changed.

    Exit status 1 where a file would not be placed, 2 where the rules are wrong.

    Examples: `allocator rules test photo.jpg -r rules.toml`, `allocator rules test *.csv --json`
    """
    from allocator.ingest.errors import WrongRules
    from allocator.ingest.rules import load_rules
    from allocator.ingest.trying import try_rules

    own = data_folder(data) / "rules.toml"
    try:
        loaded = load_rules(rules_file or (own if own.exists() else None))
    except (WrongRules, OSError) as error:
        fail(str(error))
    errors = Console(stderr=True)
    trials: list[Trial] = []
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("reading", total=len(files))
        for trial in try_rules(files, loaded, owner):
            trials.append(trial)
            progress.advance(task)
    if as_json:
        print(msgspec.json.encode({"rules": loaded.source, "files": trials}).decode())
    else:
        _tell(trials, loaded.source)
    raise typer.Exit(int(any(trial.problem is not None for trial in trials)))


def _tell(trials: "list[Trial]", source: str) -> None:
    table = Table(title=f"by {source}")
    for heading in ("file", "type", "rule", "path", "why"):
        table.add_column(heading, overflow="fold")
    for trial in trials:
        if trial.problem is None:
            why = " and ".join(map(_said, trial.held)) or ("no rule matches" if trial.rule == "(none)" else "takes all")
        else:
            why = f"not placed: {trial.problem}"
        table.add_row(*(shown(cell or "") for cell in (trial.file, trial.type, trial.rule, trial.path, why)))
    console = Console()
    if not console.is_terminal:
        console.width = max(160, console.width)
    console.print(table)
    for trial in trials if len(trials) == 1 else ():
        for passed in trial.passed:
            console.print(shown(f"passed over {passed.rule!r}: not {_said(passed.missed)}", style="dim"))


def _said(check: "Check") -> str:
    value = f"{utc(check.value)} UTC" if check.field in ("after", "before") else check.value
    return f"{check.field} = {value}"
