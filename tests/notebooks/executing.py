"""Notebooks, executed as papermill does it, and what they left."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import papermill

from allocator.report.artefacts import Measure, read_measures

FOLDER = Path(__file__).parents[2] / "notebooks"
TIME_LIMIT_S = 120
"""Of a cell."""


class Executed:
    """
    A notebook that was executed in an empty folder, each cell within a time.

    Attributes:
        measures: What it measured, by name; none where it leaves nothing.
    """

    def __init__(
        self, name: str, folder: Path, parameters: Mapping[str, Any], time_limit_s: int = TIME_LIMIT_S
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.out = folder / "report"
        self._path = folder / f"{name}.ipynb"
        papermill.execute_notebook(
            FOLDER / f"{name}.ipynb",
            self._path,
            dict(parameters),
            cwd=folder,
            progress_bar=False,
            execution_timeout=time_limit_s,
        )
        self._cells = {cell.id: cell for cell in nbformat.read(self._path, as_version=4).cells}

    @property
    def measures(self) -> dict[str, Measure]:
        return read_measures(self.out)

    def shown(self, cell: str) -> str:
        """What a cell gave, as text, figures apart."""
        return "\n".join(
            output["data"]["text/plain"] if "data" in output else output.get("text", "")
            for output in self._cells[cell].outputs
        )

    def figures(self) -> int:
        """How many were drawn."""
        return sum(
            "image/png" in output.get("data", {}) for cell in self._cells.values() for output in cell.get("outputs", [])
        )
