"""Processors: the functions that do the jobs, and what they are given."""

import asyncio
import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from allocator.domain.deadletter import MAX_ERROR_BYTES, trim_text
from allocator.domain.errors import AllocatorError
from allocator.domain.job import Job
from allocator.supervisor.held import Held

Processor = Callable[["Context"], Any]
"""
`fn(context) -> result`; a coroutine function does as well. Named `module:function` where it runs in a process.

A store keeps the result: strict JSON, at most 1 MiB. What else is returned is left out, with a warning in the log.
"""

MAX_MESSAGE_BYTES = 1024


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

    def __init__(self, held: Held, report: Callable[[Held, float, float | None, str], None]) -> None:
        self.job: Job = held.lease.job
        self.attempt = held.lease.attempt
        self.token = held.lease.token
        self._held = held
        self._report = report

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """
        Tell how far the job is. Cheap: what comes too often is dropped, the last word is kept.

        Args:
            done, total: In any unit.
            message: For people; of more than a KiB, the end.
        Raises:
            ValueError, TypeError: `done` or `total` is no finite number.
        """
        text = trim_text(str(message), MAX_MESSAGE_BYTES)
        self._report(self._held, _finite("done", done), None if total is None else _finite("total", total), text)

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


def _finite(name: str, value: float) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"progress: {name} must be a finite number, not {value!r}")
    return number


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
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # Whatever the module does: a worker process that ended without a word would be replaced, and again.
            text = trim_text(f"{type(error).__name__}: {error}", MAX_ERROR_BYTES)
            raise ValueError(f"processor {processor!r}: its module breaks when it is imported: {text}") from error
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
