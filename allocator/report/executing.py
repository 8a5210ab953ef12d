"""Notebooks, executed by papermill within a time limit; how each went is told, never raised."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from allocator.report.made import FAILED, PASSED, TIMED_OUT, Step

LEAST_CELL_S = 1
SAID = 400


def execute(notebook: Path, output: Path, parameters: Mapping[str, Any], limit_s: float, command: str) -> Step:
    """
    Run a notebook in a kernel of its own.

    What was executed is written to `output`, also when a cell failed; the kernel is gone when this returns.

    Args:
        parameters: Only those that the notebook has are passed; see `parameters_of`.
        limit_s: For all of it; a cell that outlasts it is interrupted.
        command: That does the same by hand.
    """
    # Imported here, since it brings clients for every cloud and takes seconds.
    import papermill  # type: ignore[import-untyped]
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from traitlets.config import Config

    logging.getLogger("papermill").setLevel(logging.ERROR)
    began = time.monotonic()

    def left_s(cell: object) -> int:
        return max(LEAST_CELL_S, int(limit_s - (time.monotonic() - began)))

    status, error = PASSED, ""
    try:
        known = parameters_of(notebook)
        papermill.execute_notebook(
            str(notebook),
            str(output),
            parameters={name: value for name, value in parameters.items() if name in known},
            kernel_name="python3",
            progress_bar=False,
            cwd=str(output.parent),
            timeout_func=left_s,
            # Sockets in files: no port is taken, and no other user of the machine can listen.
            config=Config({"KernelManager": {"transport": "ipc"}}),
        )
    except CellTimeoutError:
        status, error = TIMED_OUT, f"it was not over after {limit_s:.0f} s, and was stopped"
    except DeadKernelError:
        status, error = FAILED, "its kernel died"
    except Exception as problem:
        # A failing cell, a notebook that is none, a folder that cannot be written: the report goes on without it.
        status, error = FAILED, _said(problem)
    return Step(name=notebook.stem, status=status, took_s=time.monotonic() - began, error=error, command=command)


def parameters_of(notebook: Path) -> set[str]:
    """The names in its parameters cell."""
    import papermill

    return set(papermill.inspect_notebook(str(notebook)))


def _said(problem: Exception) -> str:
    name, value = getattr(problem, "ename", type(problem).__name__), getattr(problem, "evalue", str(problem))
    text = " ".join(f"{name}: {value}".split())
    return text if len(text) <= SAID else f"{text[:SAID]}…"
