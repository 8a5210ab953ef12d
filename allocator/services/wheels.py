"""Packages that carry server binaries."""

import importlib.util
from pathlib import Path


def package_dir(name: str) -> Path | None:
    """Where a top-level package lies; it is not imported, because only its files are wanted."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])
