"""The notebooks as they are committed: without outputs, and with parameters that explain themselves."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import papermill
import pytest

from allocator.report.notebook import profile
from tests.notebooks.executing import FOLDER

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
REPORT = FOLDER / "90-report.ipynb"
"""Reads what the others left, and runs whatever that is."""

STRIPPED = "metadata.papermill metadata.widgets cell.metadata.papermill cell.metadata.execution"

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str = "code") -> list[dict[str, Any]]:
    """Its cells of a kind."""
    return [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == kind]


def source(cell: dict[str, Any]) -> str:
    """What stands in a cell."""
    return "".join(cell["source"])


def test_no_notebook_holds_outputs() -> None:
    """Figures belong to a run, never to the repository."""
    command = [sys.executable, "-m", "nbstripout", "--verify", "--dry-run", "--keep-id", "--extra-keys", STRIPPED]

    verified = subprocess.run([*command, *map(str, NOTEBOOKS)], capture_output=True, text=True, check=False)

    assert (verified.returncode, verified.stdout) == (0, "")


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path != REPORT], ids=lambda path: path.stem)
def test_a_notebook_opens_with_its_question_and_checks_its_parameters_first(path: Path) -> None:
    """So that nothing runs with a parameter that is wrong, in JupyterLab as under papermill."""
    first, *_ = cells(path, "markdown")
    parameters, *others = cells(path)

    assert "**Question:**" in source(first)
    assert parameters["metadata"] == {"tags": ["parameters"]}
    assert "check_parameters(globals())" in next(source(cell) for cell in others if "import" in source(cell))
    assert json.loads(path.read_text("utf-8"))["metadata"]["kernelspec"]["name"] == "python3"


@each_notebook
def test_every_parameter_has_a_type_and_a_line_that_explains_it(path: Path) -> None:
    """What `papermill --help-notebook` shows is all that a reader needs."""
    (parameters,) = (cell for cell in cells(path) if "parameters" in cell["metadata"].get("tags", []))

    unexplained = [
        line
        for line in source(parameters).splitlines()
        if not re.fullmatch(r"[a-z_0-9]+: (str|int|float|bool|list\[\w+\]) = .+  # .+", line)
    ]

    assert unexplained == []


@each_notebook
def test_cells_have_names_of_their_own(path: Path) -> None:
    """A cell that is named keeps its name through edits, so that changes are small to read."""
    ids = [cell["id"] for cell in cells(path) + cells(path, "markdown")]

    assert len(ids) == len(set(ids))
    assert [id for id in ids if not re.fullmatch(r"[a-z0-9-]{1,64}", id)] == []


@pytest.mark.parametrize("name", ["smoke", "ci", "full"])
def test_profiles_name_parameters_that_exist(name: str) -> None:
    """A size that no notebook has would silently change nothing."""
    for notebook, parameters in profile(name).items():
        known = papermill.inspect_notebook(FOLDER / f"{notebook}.ipynb")

        assert parameters.keys() <= known.keys(), notebook


def test_an_unknown_profile_is_refused() -> None:
    """With those there are."""
    with pytest.raises(ValueError, match="no 'huge'; there are smoke, ci, full"):
        profile("huge")
