"""
A pytest plugin for `scripts/checks.py`: writes what became of the tests, and why some did not run, as JSON.

pytest's own closing line gives the counts only, and its JUnit file does not know what was left out.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

# Where the counts go; without it the plugin only counts.
TALLY_FILE = "ALLOCATOR_TALLY_FILE"

# What a process of pytest-xdist hands to the one that counts.
LEFT_OUT = "allocator_left_out"

outcomes: Counter[str] = Counter()
reasons: Counter[str] = Counter()
left_out: Counter[str] = Counter()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """One phase of one test: set-up, call or tear-down. A test that passes does so in its call."""
    if report.skipped:
        expected = hasattr(report, "wasxfail")
        outcomes["expected failures" if expected else "skipped"] += 1
        if not expected:
            reasons[reason_of(report.longrepr)] += 1
    elif report.failed:
        outcomes["failed" if report.when == "call" else "errors"] += 1
    elif report.when == "call":
        outcomes["passed"] += 1


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A module that could not be imported, or that skipped itself as a whole."""
    if report.failed:
        outcomes["errors"] += 1
    elif report.skipped:
        outcomes["skipped"] += 1
        reasons[reason_of(report.longrepr)] += 1


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Tests that -m or -k left out."""
    for item in items:
        full = item.get_closest_marker("full") is not None
        left_out["slow proof, run by: scripts/test -m full" if full else "left out by -m or -k"] += 1


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """One of several processes that share the tests has ended: each of them left out the same."""
    left_out.update(Counter(getattr(node, "workeroutput", {}).get(LEFT_OUT, {})) - left_out)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Writes the counts; a run that crashes before this leaves no file, and so is seen."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[LEFT_OUT] = dict(left_out)
        return
    if left_out:
        outcomes["left out"] = left_out.total()
    path = os.environ.get(TALLY_FILE)
    if path:
        counted = {"outcomes": outcomes, "reasons": reasons + left_out}
        Path(path).write_text(json.dumps(counted), encoding="utf-8")


def reason_of(longrepr: object) -> str:
    """The reason alone, out of pytest's (file, line, "Skipped: reason")."""
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return str(text).removeprefix("Skipped: ")
