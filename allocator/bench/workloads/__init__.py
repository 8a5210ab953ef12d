"""Workloads that come with the package, a YAML file each, and each the answer to a question: `named("steady")`."""

from importlib.resources import files

from allocator.bench.errors import InvalidWorkload
from allocator.bench.workload import Workload

SUFFIX = ".yaml"


def names() -> list[str]:
    """What `named` knows, in alphabetical order."""
    found = (entry.name for entry in files(__name__).iterdir())
    return sorted(name.removesuffix(SUFFIX) for name in found if name.endswith(SUFFIX))


def named(name: str) -> Workload:
    """
    One of the workloads of this package.

    Raises:
        InvalidWorkload: There is none of this name; lists those there are.
    """
    known = names()
    if name not in known:
        raise InvalidWorkload("name", f"there is no workload {name!r}; there are {', '.join(known)}")
    return Workload.from_yaml(files(__name__).joinpath(name + SUFFIX).read_text("utf-8"))
