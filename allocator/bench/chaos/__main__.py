"""`python -m allocator.bench.chaos`: jobs, workers and servers, and kills among them; then the verdicts."""

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from allocator.bench.chaos.running import Chaos, Outcome, run
from allocator.bench.chaos.sabotage import BUGS
from allocator.services import ServiceUnavailable

EXAMPLES = """examples:
  python -m allocator.bench.chaos --backend redis --jobs 20000 --kills 100
  python -m allocator.bench.chaos --backend memory --jobs 2000 --kills 10 --seed 7
  python -m allocator.bench.chaos --backend redis --jobs 500 --kills 5 --sabotage no-token    must be caught
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 every promise held (or the bug was caught), 1 one did not, 2 it could not be run."""
    parser = argparse.ArgumentParser(
        prog="python -m allocator.bench.chaos",
        description="Kill -9 and stop workers, kill and wipe the server, on servers started for it; then compare what "
        "was accepted, what ran and what the database says.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--backend", choices=("memory", "redis", "postgres"), default="redis")
    parser.add_argument("--jobs", type=int, default=20_000, help="how many are submitted (20000)")
    parser.add_argument("--kills", type=int, default=100, help="kill -9 of workers; other faults in proportion (100)")
    parser.add_argument("--seed", type=int, default=1, help="draws the same jobs and faults again (1)")
    parser.add_argument("--lease", type=float, default=3.0, metavar="S", help="lease of a worker (3)")
    parser.add_argument(
        "--drain", type=float, default=30.0, metavar="S", help="after the faults, a job ends this often (30)"
    )
    parser.add_argument(
        "--long-every", type=int, metavar="N", help="one job in N outlasts a lease (250; with --sabotage 3)"
    )
    parser.add_argument(
        "--await-work", type=float, default=5.0, metavar="S", help="before a fault, wait so long for a running job (5)"
    )
    parser.add_argument("--sabotage", choices=sorted(BUGS), help="build a bug in: the run must fail by its name")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep traces, logs and database there")
    parser.add_argument("--json", action="store_true", help="for scripts: JSON on standard output")
    options = parser.parse_args(arguments)
    # What a bug breaks has to happen: of few faults none may otherwise hit a job that outlasts its lease.
    provoked = options.sabotage is not None
    if options.long_every is None:
        options.long_every = 3 if provoked else 250
    for name in ("jobs", "kills", "long_every"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    for name in ("lease", "drain"):
        if not 0 < getattr(options, name) < math.inf:
            parser.error(f"--{name} must be a number of seconds above 0")
    if options.keep is not None and (options.keep / "trace").exists():
        parser.error(f"--keep {options.keep}: there is a run in it already")

    chaos = Chaos(
        options.backend,
        options.jobs,
        options.kills,
        options.seed,
        options.lease,
        options.sabotage,
        options.keep,
        options.drain,
        options.long_every,
        options.await_work,
    )
    console = Console(stderr=options.json)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
            task = progress.add_task("faults", total=None)
            outcome = run(
                chaos, lambda what, done, total: progress.update(task, description=what, completed=done, total=total)
            )
    except (ServiceUnavailable, TimeoutError) as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(as_dict(chaos, outcome)))
    else:
        show(chaos, outcome, console)
    if options.sabotage is None:
        return int(not outcome.holds)
    caught = BUGS[options.sabotage].control.caught_by.intersection(outcome.judgement.broken())
    console.print(f"{options.sabotage} was caught by: {', '.join(sorted(caught))}" if caught else "[red]NOT CAUGHT")
    return int(not caught)


def as_dict(chaos: Chaos, outcome: Outcome) -> dict[str, object]:
    """Everything that is printed, with names."""
    judgement = outcome.judgement
    return {
        "backend": chaos.backend,
        "server": outcome.server,
        "seed": chaos.seed,
        "took_s": round(outcome.took_s, 1),
        "jobs": judgement.jobs,
        "runs": judgement.runs,
        "done": judgement.done,
        "dead": judgement.dead,
        "planned_failures": judgement.planned_failures,
        "faults": dict(Counter(fault.kind for fault in outcome.faults)),
        "stops": len(outcome.stops),
        "repeats": dict(judgement.repeats),
        "kills_that_hit": judgement.kills_that_hit,
        "most_repeats_of_a_kill": judgement.most_repeats,
        "crashed": outcome.crashed,
        "holds": outcome.holds,
        "verdicts": [
            {
                "name": verdict.name,
                "status": verdict.status,
                "checked": verdict.checked,
                "count": verdict.count,
                "witness": verdict.witness or verdict.reason,
            }
            for verdict in judgement.verdicts.values()
        ],
    }


def show(chaos: Chaos, outcome: Outcome, console: Console) -> None:
    """Print the verdicts, then what happened."""
    judgement = outcome.judgement
    table = Table(title=f"chaos on {outcome.server}", title_justify="left")
    for heading in ("promise", "held", "looked at", "against it", "the first case"):
        table.add_column(heading)
    held = {"holds": "[green]yes[/]", "broken": "[red]NO[/]", "not judged": "[yellow]not judged[/]"}
    for verdict in judgement.verdicts.values():
        witness = verdict.witness or verdict.reason
        table.add_row(verdict.name, held[verdict.status], f"{verdict.checked:,}", str(verdict.count), witness)
    if outcome.crashed:
        table.add_row(
            "no worker ends by itself", held["broken"], "", str(outcome.crashed), "see the logs; keep them: --keep"
        )
    console.print(table)
    made = Counter(fault.kind for fault in outcome.faults)
    lines = [
        f"{judgement.jobs:,} jobs, {judgement.runs:,} runs: {judgement.done:,} done, {judgement.dead:,} dead as "
        f"planned, {judgement.planned_failures:,} failures as planned; {outcome.took_s:.0f} s, seed {chaos.seed}",
        "faults: "
        + ", ".join(f"{count} {kind}" for kind, count in made.most_common())
        + f"; {len(outcome.stops)} stops",
        "runs that did not count: "
        + (", ".join(f"{count} by {kind}" for kind, count in judgement.repeats.most_common()) or "none")
        + f"; {judgement.kills_that_hit} of {made['kill']} kills repeated some, one of them {judgement.most_repeats}",
    ]
    if outcome.holds:
        count = len(outcome.faults)
        # The rule of three: none in n bounds the rate at 3/n.
        lines.append(
            f"none of {count} faults lost a job: at 95 % confidence fewer than {3 / count:.2%} of such faults do"
        )
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
