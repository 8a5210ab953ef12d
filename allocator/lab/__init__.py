"""The lab: operate the system live in JupyterLab, `Lab().show()`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from allocator.lab.demonstration import demonstrate
    from allocator.lab.lab import Lab

__all__ = ["Lab", "demonstrate"]


def __getattr__(name: str) -> Any:
    # Panels and figures take seconds to import, which a worker or the load of a lab does without.
    if name == "Lab":
        from allocator.lab.lab import Lab

        return Lab
    if name == "demonstrate":
        from allocator.lab.demonstration import demonstrate

        return demonstrate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
