"""`allocator jobs`: jobs, as the store has them."""

import json
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from allocator.cli.failing import fail
from allocator.cli.opening import open_record
from allocator.cli.options import AsJson, StoreUrl, seconds, settings, utc
from allocator.cli.showing import shown

jobs = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Jobs, as the store has them.")


@jobs.command("show")
def show_job(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="Of the job.")],
    store: StoreUrl = settings.store_url,
    as_json: AsJson = False,
) -> None:
    """Show a job with its attempts, progress and result. Exit status 1 when the store does not know it."""
    with open_record(store) as opened:
        job = opened.job(job_id)
    if job is None:
        fail(f"the store knows no job {job_id}", status=1)
    if as_json:
        raw = msgspec.to_builtins(job, builtin_types=(bytes,))
        raw.pop("record"), raw.pop("result_json")
        print(msgspec.json.encode({**raw, "payload": job.payload, "result": job.result}).decode())
        return
    console = Console()
    console.print(shown(f"job {job.id}, type {job.type}: {job.state}", style="bold"))
    console.print(shown(f"queue {job.queue}, submitted {utc(job.submitted_at)} UTC"))
    if job.progress_done is not None:
        total = "" if job.progress_total is None else f" of {job.progress_total:g}"
        console.print(shown(f"progress {job.progress_done:g}{total} {job.progress_message or ''}"))
    if job.result is not None:
        console.print(shown(f"result {msgspec.json.encode(job.result).decode()[:2000]}"))
    table = Table("attempt", "outcome", "worker", "leased at (UTC)", "error")
    for attempt in job.attempts:
        table.add_row(
            str(attempt.number),
            attempt.outcome,
            shown(attempt.worker),
            utc(attempt.leased_at),
            shown(attempt.error or ""),
        )
    console.print(table)


@jobs.command("prune")
def prune_jobs(
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Those that ended longer ago: 90s, 15m, 12h, 30d, 4w.")
    ] = None,
    keep: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Of each of done, dead and cancelled, all but the last N.")
    ] = None,
    store: StoreUrl = settings.store_url,
    as_json: AsJson = False,
) -> None:
    """
    Delete the records of jobs that have ended, of every queue in the store. Nothing to delete is no failure.

    Of both options together each deletes for itself. Dead letters stay in their queue: see `allocator dlq purge`.

    Examples: `allocator jobs prune --older-than 30d`, `allocator jobs prune --older-than 12h --keep 100000 --json`
    """
    if older_than is None and keep is None:
        fail("say what may go: --older-than AGE, --keep N, or both")
    age_s = None if older_than is None else seconds("--older-than", older_than)
    with open_record(store) as opened:
        count = opened.retain(age_s, keep)
    print(json.dumps({"count": count}) if as_json else f"{count} deleted")
