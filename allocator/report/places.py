"""Where notebooks and reports are, for whoever neither runs nor makes one."""

import os
from importlib.resources import files
from pathlib import Path


def notebooks_folder() -> Path:
    """
    Where the notebooks are: in the installed package, else in the checkout.

    Raises:
        FileNotFoundError: In neither.
    """
    packed = Path(str(files("allocator") / "notebooks"))
    checkout = Path(__file__).parents[2] / "notebooks"
    for folder in (packed, checkout):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"the notebooks are neither in {packed} nor in {checkout}; install allocator again")


def reports_folder() -> Path:
    """Where reports are: `ALLOCATOR_REPORTS`, else `reports/` of the checkout, else of the current folder."""
    if given := os.environ.get("ALLOCATOR_REPORTS"):
        return Path(given)
    checkout = Path(__file__).resolve().parents[2]
    return (checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()) / "reports"
