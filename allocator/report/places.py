"""Where the notebooks are, for whoever does not run one."""

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
