"""The script that goes through the whole system."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.service
def test_every_step_holds() -> None:
    """On each backend found; the in-process one is always there."""
    done = subprocess.run(
        [sys.executable, "scripts/test_e2e.py"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=180
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("in process\n  ok   203 jobs submitted")
    assert done.stdout.endswith("all steps hold\n")
