"""Programs of their own, for what only another process can show."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def start(program: str, place: dict[str, Any]) -> subprocess.Popen[str]:
    """Run `program`, which finds the arguments of `open_store` as `place`."""
    return subprocess.Popen(
        [sys.executable, "-c", f"place = {place!r}\n{program}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def line_of(program: subprocess.Popen[str]) -> str:
    """The next line that a program says; what it complained of if it says nothing."""
    assert program.stdout is not None
    line = program.stdout.readline().strip()
    if not line:
        program.kill()
        raise AssertionError(f"the program ended: {program.communicate()[1]}")
    return line
