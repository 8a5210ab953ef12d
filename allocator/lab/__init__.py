"""The lab: operate the system live in JupyterLab, `Lab().show()`."""

from allocator.lab.lab import Lab

__all__ = ["Lab"]
