"""Processors: the functions that do the jobs, and what they are given."""

import asyncio
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from allocator.domain.errors import AllocatorError
from allocator.domain.job import Job
from allocator.supervisor.held import Held

Processor = Callable[["Context"], Any]
"""`fn(context) -> result`; a coroutine function does as well. Named `module:function` where it runs in a process."""


class GiveUp(AllocatorError):
    """Raised by a processor: no further attempt can help. The job becomes a dead letter with this reason."""


class Context:
    """
    What a processor sees of its job.

    Attributes:
        job: Decoded afresh for this attempt; its payload is yours to change.
        attempt: 1, 2, …
        token: Unique to this attempt. Written beside what a processor changes elsewhere, it tells attempts apart.
    """

    __slots__ = ("_held", "_report", "attempt", "job", "token")

    def __init__(self, held: Held, report: Callable[[Held, int, int | None, str], None]) -> None:
        self.job: Job = held.lease.job
        self.attempt = held.lease.attempt
        self.token = held.lease.token
        self._held = held
        self._report = report

    def progress(self, done: int, total: int | None = None, message: str = "") -> None:
        """Tell how far the job is. Cheap: what comes too often is dropped, the last word is kept."""
        self._report(self._held, done, total, message)

    def heartbeat(self) -> None:
        """Start the timeout anew: the job is alive although it takes long."""
        self._held.beat()

    @property
    def due_at(self) -> float:
        """When the job became due, in seconds since the epoch on the queue's clock: the start of its wait time."""
        return self._held.lease.due_at

    @property
    def leased_at(self) -> float:
        """When this attempt's lease was given, on the same clock."""
        return self._held.lease.leased_at

    @property
    def cancelled(self) -> bool:
        """Whether the job was cancelled, or its lease lost: what is done from here on will be discarded."""
        return self._held.lease.cancelled or self._held.lost


def resolve(processor: Processor | str) -> Processor:
    """
    The function itself; a string names it as `module:function`.

    Raises:
        ValueError: It cannot be imported, or is not callable.
    """
    if isinstance(processor, str):
        module_name, _, function_name = processor.partition(":")
        try:
            processor = getattr(importlib.import_module(module_name), function_name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"processor {processor!r} is not module:function: {error}") from error
    if not callable(processor):
        raise ValueError(f"processor {processor!r} cannot be called")
    return processor


def resolve_all(processors: Mapping[str, Processor | str]) -> dict[str, Processor]:
    """Job type -> function, coroutine functions wrapped so that each runs to its end in the worker's thread."""
    return {type: _synchronous(resolve(processor)) for type, processor in processors.items()}


def _synchronous(processor: Processor) -> Processor:
    if inspect.iscoroutinefunction(processor):
        return lambda context: asyncio.run(processor(context))
    return processor
