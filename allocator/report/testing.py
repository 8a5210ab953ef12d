"""The tests that are evidence, run by pytest in a process of its own."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from allocator.report.claims import Claim
from allocator.report.made import FAILED, NOT_RUN, PASSED, TIMED_OUT, Step

STOP_S = 20.0
LAST_LINES = 12


def named_tests(claims: Iterable[Claim]) -> list[str]:
    """What the claims name, as pytest takes it, without what another of them holds already."""
    named = sorted({test for claim in claims for test in claim.tests})
    return [test for test in named if not any(test.startswith((f"{other}::", f"{other}/")) for other in named)]


def checkout() -> Path | None:
    """The folder that has tests, beside the package; None where it was installed from a wheel."""
    folder = Path(__file__).resolve().parents[2]
    return folder if (folder / "tests").is_dir() and (folder / "pyproject.toml").is_file() else None


def run_tests(tests: list[str], junit: Path, limit_s: float) -> Step:
    """
    Run these tests, two at a time; their results stand in `junit`, where each names its file.

    A test that fails is a result, not an error. At the limit pytest is interrupted; what it had done by then counts.
    """
    command = "scripts/test, with the tests that each claim names"
    root = checkout()
    if root is None:
        return Step(
            name="tests", status=NOT_RUN, error="the tests come with a checkout, not with the package", command=command
        )
    if importlib.util.find_spec("pytest") is None:
        return Step(name="tests", status=NOT_RUN, error="pytest is not installed: pip install pytest", command=command)
    shared = ["-n", str((os.cpu_count() or 1) + 1), "--dist", "worksteal"] if importlib.util.find_spec("xdist") else []
    arguments = [*shared, "-q", "-p", "no:cacheprovider", "-o", "junit_family=xunit1", f"--junitxml={junit.resolve()}"]
    existing = [test for test in tests if (root / test.partition("::")[0]).exists()]
    began = time.monotonic()
    log = junit.with_suffix(".log")
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *arguments, *existing],
            cwd=root,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C is for the report, which then ends the tests in order.
            start_new_session=True,
        )
        try:
            status = _wait(process, limit_s)
        except BaseException:
            _stop(process)
            raise
    took_s = time.monotonic() - began
    if status is None:
        return Step(
            name="tests", status=TIMED_OUT, took_s=took_s, error=f"not over after {limit_s:.0f} s", command=command
        )
    if status > 1:
        last = " ".join(log.read_text("utf-8", "replace").split("\n")[-LAST_LINES:]).strip()
        return Step(
            name="tests", status=FAILED, took_s=took_s, error=f"pytest ended with {status}: {last}", command=command
        )
    return Step(name="tests", status=PASSED, took_s=took_s, command=command)


def _wait(process: "subprocess.Popen[bytes]", limit_s: float) -> int | None:
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        _stop(process)
        return None


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """As Ctrl-C does, upon which pytest writes what it has; then for good, with all that it started."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
