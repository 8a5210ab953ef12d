"""`allocator report`: measure, judge every claim, and write the page; verify one report, compare two."""

import json
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from allocator.cli.failing import fail
from allocator.cli.options import AsJson

PROFILES = ("smoke", "ci", "full")
KINDS = ("memory", "redis", "postgres")

report = typer.Typer(
    rich_markup_mode="markdown",
    invoke_without_command=True,
    help="Measure everything, judge every claim, and write the page.",
)

Reports = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="DIR", help="Where reports are; reports/ if it is not given.")
]
ReportId = Annotated[str, typer.Argument(metavar="ID", help="The id of a report, the beginning of it, or its folder.")]


@report.callback()
def make_report(
    context: typer.Context,
    profile: Annotated[
        str, typer.Option("--profile", "-p", help="smoke (three minutes), ci (fifteen) or full.")
    ] = "smoke",
    backends: Annotated[
        str, typer.Option("--backends", "-b", help="Some of memory, redis, postgres, with commas.")
    ] = ",".join(KINDS),
    baseline: Annotated[
        str | None, typer.Option("--baseline", metavar="REF", help="A commit to measure beside this tree, as in main.")
    ] = None,
    claims: Annotated[
        Path | None, typer.Option("--claims", metavar="FILE", help="Claims of your own, as TOML, beside the product's.")
    ] = None,
    out: Reports = None,
) -> None:
    """
    Start the servers that can be had, run the tests that are evidence and the notebooks that measure, and write a page.

    Exit status 1 when a claim that gates fails, 2 when the set-up or a notebook broke, else 0. What could not be
    measured stands in the report, with the command that would measure it.

    With a baseline that commit is installed apart, and runs of both alternate: a claim that this tree is not slower
    fails where it is, beyond what the machine does by itself, twice.

    Examples: `allocator report`, `allocator report --profile ci --backends redis --claims levels.toml`,
    `allocator report --profile ci --baseline main`
    """
    if context.invoked_subcommand is not None:
        return
    if profile not in PROFILES:
        fail(f"--profile {profile!r}: must be one of {', '.join(PROFILES)}")
    chosen = list(dict.fromkeys(filter(None, backends.split(","))))
    if not chosen or not set(chosen) <= set(KINDS):
        fail(f"--backends {backends!r}: must be some of {', '.join(KINDS)}, with commas between them")
    _needs_notebooks()
    from allocator.domain.errors import AllocatorError
    from allocator.report.build import Order, build
    from allocator.report.index import PAGE
    from allocator.report.results import read_results

    command = shlex.join(["allocator", *sys.argv[1:]])
    began = time.monotonic()
    try:
        with _bar() as say:
            folder = build(Order(profile, chosen, claims, baseline, out, command), say)
        found = read_results(folder)
    except (AllocatorError, ValueError, OSError) as error:
        fail(str(error))
    console = Console()
    for problem in found.problems:
        console.print(Text(problem, style="yellow"))
    for claim in found.claims:
        if claim.status == "FAIL":
            console.print(Text(f"FAIL {claim.id}: {claim.text} {claim.reason}", style="bold red"))
    console.print(Text(found.verdict, style="bold"))
    console.print(f"{folder / PAGE} ({time.monotonic() - began:.0f} s)", soft_wrap=True, highlight=False)
    raise typer.Exit(found.exit_status)


@report.command("verify")
def verify_report(report_id: ReportId, out: Reports = None, as_json: AsJson = False) -> None:
    """Compute every figure again from the raw rows, and every status anew; exit status 1 if any differs."""
    _needs_notebooks()
    from allocator.bench.fingerprint import fingerprint
    from allocator.domain.errors import AllocatorError
    from allocator.report.made import Made
    from allocator.report.verifying import verify

    folder = _find(report_id, out)
    try:
        problems = list(verify(folder))
    except AllocatorError as error:
        fail(str(error))
    if as_json:
        print(json.dumps({"id": folder.name, "problems": problems}))
    else:
        for problem in problems:
            Console(stderr=True).print(Text(problem, style="bold red"))
        if problems and (made := Made.read(folder).fingerprint.get("commit")) != (now := fingerprint()["commit"]):
            print(f"It was made by {made}, and this is {now}: what differs may be the way of computing it.")
        if not problems:
            print(f"{folder.name}: rows are as they were written, and every figure and status follows from them")
    raise typer.Exit(1 if problems else 0)


@report.command("diff")
def diff_reports(before: ReportId, after: ReportId, out: Reports = None, as_json: AsJson = False) -> None:
    """
    Say what changed from one report to another: claims of another status, and figures side by side.

    Two single reports tell what happened, not which change did it; a baseline measured beside the candidate does.
    """
    _needs_notebooks()
    from allocator.domain.errors import AllocatorError
    from allocator.report.history import changes, figures_that_differ
    from allocator.report.results import is_comparable, read_results

    try:
        one, other = (read_results(_find(each, out)) for each in (before, after))
    except AllocatorError as error:
        fail(str(error))
    changed, figures, same = changes(one, other), figures_that_differ(one, other), is_comparable(one, other)
    if as_json:
        print(json.dumps({"comparable": same, "changes": changed, "figures": figures}))
        return
    console = Console()
    if not same:
        console.print(Text("Machine or versions differ: their figures say little about each other.", style="yellow"))
    for sentence in changed or ["No claim changed its status."]:
        console.print(Text(sentence))
    table = Table("figure", one.id, other.id, "ratio")
    for row in figures:
        table.add_row(*row)
    if figures:
        console.print(table)


def _find(given: str, out: Path | None) -> Path:
    from allocator.report.places import reports_folder

    path, reports = Path(given), out or reports_folder()
    if path.is_dir():
        return path
    found = [each for each in sorted(reports.glob("*")) if each.name.startswith(given) and each.is_dir()]
    if not found:
        fail(f"there is no report {given} in {reports}")
    if len(found) > 1:
        fail(f"{given} may be {', '.join(each.name for each in found)}; say more of it")
    return found[0]


def _needs_notebooks() -> None:
    try:
        import matplotlib  # noqa: F401
        import nbconvert  # noqa: F401
        import papermill  # type: ignore[import-untyped]  # noqa: F401
        import scipy  # noqa: F401
        import yaml  # noqa: F401
    except ImportError as error:
        fail(f"{error.name} is not installed; a report needs it: pip install 'allocator[bench,notebooks]'")


@contextmanager
def _bar() -> Iterator[Callable[[str, float, float], None]]:
    """One display over tests and notebooks, with the time that is left; a line a step where there is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda doing, over_s, of_s: console.print(Text(f"{doing}: about {max(0.0, of_s - over_s):.0f} s left"))
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"), TimeElapsedColumn())
    ended = threading.Event()
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task("report", total=None, left="")
        at = [0.0, 0.0, 0.0]

        def say(doing: str, over_s: float, of_s: float) -> None:
            at[:] = [over_s, of_s, time.monotonic()]
            shown.update(task, description=doing, completed=over_s, total=of_s)

        def tick() -> None:
            while not ended.wait(0.5):
                over_s, of_s, since = at
                passed_s = min(of_s, over_s + time.monotonic() - since)
                left = f"about {max(1.0, of_s - passed_s):.0f} s left" if of_s else ""
                shown.update(task, completed=passed_s, left=left)

        ticking = threading.Thread(target=tick, daemon=True)
        ticking.start()
        try:
            yield say
        finally:
            ended.set()
            ticking.join()
