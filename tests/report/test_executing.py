"""Notebooks that fail, and tests that are run as evidence: whatever happens is told, and the report goes on."""

import sys
from pathlib import Path

import nbformat
import pytest

from allocator.report.evidence import read_tests
from allocator.report.executing import execute, parameters_of
from allocator.report.made import FAILED, PASSED, TIMED_OUT
from allocator.report.testing import run_tests


def a_notebook(folder: Path, *cells: str) -> Path:
    """The first of its cells holds its parameters."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.cells[0].metadata["tags"] = ["parameters"]
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "n.ipynb")
    return folder / "n.ipynb"


def test_a_failing_cell_is_told_and_what_ran_is_kept(tmp_path: Path) -> None:
    """With its error; parameters that the notebook does not have are left out."""
    notebook = a_notebook(tmp_path, "count: int = 1", "print('count is', count)", "1 / 0")

    step = execute(notebook, tmp_path / "out.ipynb", {"count": 7, "backends": ["redis"]}, 60.0, "papermill …")

    assert (step.status, step.error) == (FAILED, "ZeroDivisionError: division by zero")
    assert "count is 7" in (tmp_path / "out.ipynb").read_text("utf-8")
    assert parameters_of(notebook) == {"count"}


def test_a_notebook_that_hangs_is_stopped_at_its_limit(tmp_path: Path) -> None:
    """Its kernel does not outlive it."""
    notebook = a_notebook(tmp_path, "count: int = 1", "import time\nwhile True:\n    time.sleep(0.05)")

    step = execute(notebook, tmp_path / "out.ipynb", {}, 1.0, "papermill …")

    assert (step.status, "stopped" in step.error) == (TIMED_OUT, True)


@pytest.mark.full
def test_a_kernel_that_dies_is_told(tmp_path: Path) -> None:
    """papermill itself would call the cell completed."""
    notebook = a_notebook(tmp_path, "count: int = 1", "import os\nos._exit(3)")

    step = execute(notebook, tmp_path / "out.ipynb", {}, 60.0, "papermill …")

    assert (step.status, step.error) == (FAILED, "its kernel died")


def test_tests_that_break_are_told_whatever_they_have_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of theirs may write any bytes, or be killed in the middle of a character."""
    broken = tmp_path / "python"
    broken.write_bytes(b"#!/bin/sh\nprintf 'no more \\377'\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))

    step = run_tests([], tmp_path / "tests.xml", 60.0)

    assert (step.status, step.error) == (FAILED, "pytest ended with 3: no more \ufffd")


@pytest.mark.full
def test_tests_are_run_and_their_results_read(tmp_path: Path) -> None:
    """By their files and names, as claims name them."""
    test = "tests/unit/test_queue_inproc.py::test_acknowledgement"

    step = run_tests([test], tmp_path / "tests.xml", 120.0)

    assert step.status == PASSED
    assert [(each.id, each.outcome) for each in read_tests(tmp_path / "tests.xml")] == [(test, "passed")]
