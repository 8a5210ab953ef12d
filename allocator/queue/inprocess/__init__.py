"""The in-process backend: for threads of one process."""

from allocator.queue.inprocess.backend import InProcessQueue

__all__ = ["InProcessQueue"]
