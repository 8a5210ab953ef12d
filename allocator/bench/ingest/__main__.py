"""`python -m allocator.bench.ingest`: measure, print a table, write rows and a page."""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from http.client import HTTPException
from pathlib import Path

from rich.console import Console

from allocator.bench.fingerprint import fingerprint, load_average
from allocator.bench.ingest.measures import (
    FULL,
    PARTS,
    QUICK,
    Figures,
    Profile,
    Told,
    measure_accept,
    measure_files,
    measure_large,
    measure_reading,
)
from allocator.bench.ingest.result import Result
from allocator.bench.ingest.server import BrokenServer
from allocator.bench.result import Row
from allocator.bench.running import print_table, write_result
from allocator.domain.errors import AllocatorError

EXAMPLES = """examples:
  python -m allocator.bench.ingest                    everything, about ten minutes and 5 GB of the temporary folder
  python -m allocator.bench.ingest --quick            a look, about one minute
  python -m allocator.bench.ingest --part files,accept
  TMPDIR=/mnt/disk python -m allocator.bench.ingest   on that disk
"""


def main(arguments: Sequence[str] | None = None, profile: Profile | None = None) -> int:
    """
    Exit status: 0 measured, 1 with --strict a target was missed, 2 the harness broke or nothing could be measured.

    Args:
        profile: In place of the full or the quick one.
    """
    parser = argparse.ArgumentParser(
        prog="allocator.bench.ingest",
        description="Measure the ingest API beside the bare work on the same disk, in one run, interleaved.\n\n"
        + "\n".join(f"  {part:10} {words}" for part, words in PARTS.items()),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="small counts: for a look, not for a claim")
    parser.add_argument("--part", type=_parts, action="extend", help=f"of {','.join(PARTS)}", metavar="…")
    parser.add_argument("--out", type=Path, help="folder for the page and the rows (reports/ingest-TIME)")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a target was missed")
    options = parser.parse_args(arguments)
    profile = profile or (QUICK if options.quick else FULL)

    console = Console()
    started = datetime.now(UTC)
    given = list(sys.argv[1:] if arguments is None else arguments)
    result = Result(
        started.strftime("%Y-%m-%d %H:%M UTC"),
        shlex.join(["python", "-m", "allocator.bench.ingest", *given]),
        profile.rounds,
        options.quick,
        fingerprint(),
        assets=profile.assets,
    )
    result.fingerprint["load before"] = load_average()
    _measure(result, profile, options.part or list(PARTS), console)
    result.fingerprint["load after"] = load_average()

    _print_table(result, console)
    folder = options.out or Path("reports") / f"ingest-{started:%Y%m%d-%H%M%S}"

    def page() -> str:
        from allocator.bench.ingest.page import render

        return render(result)

    write_result(folder, result.to_json(), page, console)
    rows = result.rows()
    if result.broken or not rows:
        return 2
    return int(options.strict and any(row.reached is False for row in rows))


def _parts(text: str) -> list[str]:
    words = text.split(",")
    if unknown := [word for word in words if word not in PARTS]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join(PARTS)}")
    return words


def _measure(result: Result, profile: Profile, parts: list[str], console: Console) -> None:
    reading: list[str] = [part for part in ("status", "pages") if part in parts]
    alone: dict[str, Callable[[Profile, Told], Figures]] = {
        "files": measure_files,
        "large": measure_large,
        "accept": measure_accept,
    }
    result.not_measured += [f"{words}: left out, see --part" for part, words in PARTS.items() if part not in parts]
    result.not_measured.append("the same with records on PostgreSQL and a queue on a server: there is no part for it")
    with console.status("") as line:
        for part, measure in alone.items():
            if part in parts:
                _try(result, part, partial(_alone, part, measure, profile, line.update))
        if reading:
            _try(result, " and ".join(reading), lambda: measure_reading(profile, line.update, reading))


def _alone(part: str, measure: Callable[[Profile, Told], Figures], profile: Profile, told: Told) -> dict[str, Figures]:
    return {part: measure(profile, told)}


def _try(result: Result, what: str, measure: Callable[[], dict[str, Figures]]) -> None:
    try:
        result.parts |= measure()
    except (BrokenServer, HTTPException, OSError, AllocatorError) as error:
        result.broken = True
        result.not_measured.append(f"{what}: {error}")


def _print_table(result: Result, console: Console) -> None:
    columns: list[tuple[str, Callable[[Row], str]]] = [
        ("what", lambda row: row.operation),
        ("measured", lambda row: row.value),
        ("beside it", lambda row: row.beside),
        ("ratio", lambda row: row.ratio),
        ("target", lambda row: row.target),
        ("rounds", lambda row: str(row.rounds)),
    ]
    print_table("ingest benchmark", columns, result.rows(), ("reached", "missed"), result, console)


if __name__ == "__main__":
    sys.exit(main())
