"""`python -m allocator.bench.supervisor`: measure, print a table, write rows and a page."""

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from allocator.bench.fingerprint import fingerprint, load_average
from allocator.bench.result import Row
from allocator.bench.running import BACKENDS, open_servers, print_table, progress_line, write_result
from allocator.bench.supervisor.plan import FULL, PARTS, QUICK, Profile, groups_for
from allocator.bench.supervisor.programs import BrokenProgram
from allocator.bench.supervisor.result import Result

EXAMPLES = """examples:
  python -m allocator.bench.supervisor                     everything, about thirteen minutes
  python -m allocator.bench.supervisor --quick             a look, about two minutes
  python -m allocator.bench.supervisor --only redis,postgres
  python -m allocator.bench.supervisor --part drain,pickup
  REDIS_URL=redis://… DATABASE_URL=postgresql://… python -m allocator.bench.supervisor
                                                           your servers; only queues and schemas of its own are touched
"""


def main(arguments: Sequence[str] | None = None, profile: Profile | None = None) -> int:
    """
    Exit status: 0 measured, 1 with --strict a target falls short, 2 the harness broke or nothing could be measured.

    Args:
        profile: In place of the full or the quick one.
    """
    parser = argparse.ArgumentParser(
        prog="allocator bench supervisor",
        description="Measure the supervisor beside the limit of each figure, in one run, interleaved.\n\n"
        + "\n".join(f"  {part:10} {words}" for part, words in PARTS.items()),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="small counts: for a look, not for a claim")
    parser.add_argument("--only", type=_words(BACKENDS), action="extend", help=f"of {','.join(BACKENDS)}", metavar="…")
    parser.add_argument("--part", type=_words(PARTS), action="extend", help=f"of {','.join(PARTS)}", metavar="…")
    parser.add_argument("--rounds", type=int, help="rounds of each measure (5, of latencies 3; quick: 2 and 1)")
    parser.add_argument("--out", type=Path, help="folder for the page and the rows (reports/supervisor-TIME)")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a target falls short")
    options = parser.parse_args(arguments)
    profile = profile or (QUICK if options.quick else FULL)
    if options.rounds is not None:
        if options.rounds < 1:
            parser.error("--rounds must be at least 1")
        profile = dataclasses.replace(
            profile, rounds=options.rounds, latency_rounds=min(options.rounds, profile.latency_rounds)
        )

    console = Console()
    started = datetime.now(UTC)
    given = list(sys.argv[1:] if arguments is None else arguments)
    result = Result(
        started.strftime("%Y-%m-%d %H:%M UTC"),
        shlex.join(["python", "-m", "allocator.bench.supervisor", *given]),
        profile.rounds,
        options.quick,
        fingerprint(),
    )
    result.fingerprint["load before"] = load_average()
    with ExitStack() as stack:
        urls = open_servers(stack, options.only or list(BACKENDS), result, console)
        result.groups = groups_for(urls, options.part or list(PARTS), profile, result.not_measured)
        _measure(result, console)
    result.fingerprint["load after"] = load_average()

    _print_table(result, console)
    folder = options.out or Path("reports") / f"supervisor-{started:%Y%m%d-%H%M%S}"

    def page() -> str:
        from allocator.bench.supervisor.page import render

        return render(result)

    write_result(folder, result.to_json(), page, console)
    rows = result.rows()
    if result.broken or not rows:
        return 2
    return int(options.strict and any(row.reached is False for row in rows))


def _words(known: dict[str, str]) -> Callable[[str], list[str]]:
    def split(text: str) -> list[str]:
        words = text.split(",")
        if unknown := [word for word in words if word not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join(known)}")
        return words

    return split


def _measure(result: Result, console: Console) -> None:
    with progress_line(console) as progress:
        task = progress.add_task("", total=sum(len(group.arms) * group.rounds for group in result.groups))
        # Part by part, and within one round after round, so that the backends of a part see the same machine.
        for part in PARTS:
            groups = [group for group in result.groups if group.part == part]
            for round_number in range(max((group.rounds for group in groups), default=0)):
                for group in list(groups):
                    try:
                        for arm in group.run(round_number):
                            progress.update(task, description=f"{part}: {group.backend}, {arm}")
                            progress.advance(task)
                    except BrokenProgram as error:
                        result.broken = True
                        result.not_measured.append(f"{part}, {group.backend}: {error}")
                        groups.remove(group)
                        group.figures.clear()
        progress.update(task, description="measured")


def _print_table(result: Result, console: Console) -> None:
    columns: list[tuple[str, Callable[[Row], str]]] = [
        ("backend", lambda row: row.backend),
        ("what", lambda row: row.operation),
        ("measured", lambda row: row.value),
        ("limit beside it", lambda row: row.beside),
        ("ratio", lambda row: row.ratio),
        ("target", lambda row: row.target),
        ("rounds", lambda row: str(row.rounds)),
        ("load before", lambda row: row.load),
    ]
    print_table("supervisor benchmark", columns, result.rows(), ("holds", "falls short"), result, console)


if __name__ == "__main__":
    sys.exit(main())
