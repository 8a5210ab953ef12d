"""
Runs every check and every test of this checkout and says at the end, in one line each, how they went.

`scripts/test` runs this in the environment; arguments go to pytest. All of them run, also after a failure.
The output of a check is shown if it fails; pytest's always. Exit status 1 if anything failed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

CHECKS = {
    "ruff check": [str(BIN / "ruff"), "check", "--quiet", "--output-format", "concise"],
    "ruff format": [str(BIN / "ruff"), "format", "--check", "--quiet", "--output-format", "concise"],
    "mypy": [str(BIN / "mypy")],
    "import rules": [str(BIN / "lint-imports"), "--no-logo", "--cache-dir", ".import_linter_cache"],
}

# Tests mostly wait, for servers and processes: several at a time, and who is through takes over from who is not.
# `-n 0` does without.
SHARED = ["-n", str((os.cpu_count() or 1) + 1), "--dist", "worksteal"]


@dataclass
class Outcome:
    """How one check went."""

    name: str
    ok: bool
    seconds: float
    detail: str = ""
    left_out: dict[str, int] = field(default_factory=dict)


def main(arguments: list[str]) -> int:
    """All checks, then pytest with these arguments, then the summary. Returns the exit status."""
    outcomes = [check(name, command) for name, command in CHECKS.items()]
    outcomes.append(tests(arguments))
    print()
    for outcome in outcomes:
        verdict = "ok" if outcome.ok else "FAILED"
        print(f"{outcome.name:<13} {verdict:<7} {outcome.seconds:7.1f} s   {outcome.detail}".rstrip())
    for outcome in outcomes:
        if outcome.left_out:
            print("skipped or left out:")
        for reason, count in sorted(outcome.left_out.items(), key=lambda pair: (-pair[1], pair[0])):
            print(f"{count:>6}  {reason}")
    return 0 if all(outcome.ok for outcome in outcomes) else 1


def check(name: str, command: list[str]) -> Outcome:
    """Runs one check; its output is shown only if it fails."""
    began = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        shown = " ".join([Path(command[0]).name, *command[1:]])
        print(f"--- {name}: {shown}\n{done.stdout.rstrip()}\n", flush=True)
    return Outcome(name, done.returncode == 0, seconds)


def tests(arguments: list[str]) -> Outcome:
    """Runs pytest, its output shown as it comes; the counts come from the plugin beside this file."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        tally = Path(folder) / "tally.json"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "scripts.tally", *SHARED, *arguments],
            cwd=ROOT,
            env=os.environ | {"ALLOCATOR_TALLY_FILE": str(tally)},
            check=False,
        )
        seconds = time.perf_counter() - began
        ok = done.returncode == 0
        if not tally.exists():
            return Outcome("pytest", ok, seconds, f"ended early, with exit status {done.returncode}")
        counted = json.loads(tally.read_text(encoding="utf-8"))
    counts: dict[str, int] = {"passed": 0, "failed": 0, "skipped": 0} | counted["outcomes"]
    return Outcome(
        "pytest",
        ok,
        seconds,
        ", ".join(f"{count} {word}" for word, count in counts.items()),
        counted["reasons"],
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
