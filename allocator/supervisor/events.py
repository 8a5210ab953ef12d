"""Hooks into the life of jobs: for metrics, tracing, alarms. Their failures never harm a job."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from allocator.domain.lease import Lease

log = logging.getLogger(__name__)


class Events:
    """Override what you need. Called in the supervisor's own threads: be quick, or hand over to a thread of yours."""

    def on_started(self, lease: Lease) -> None:
        """A worker begins an attempt."""

    def on_attempt(self, lease: Lease, wait_s: float, service_s: float) -> None:
        """An attempt was made and the queue knows how it ended; which way it did, the hook called next tells."""

    def on_done(self, lease: Lease, wait_s: float, service_s: float) -> None:
        """The job is done, and the queue knows."""

    def on_retry(self, lease: Lease, error: str, delay_s: float) -> None:
        """The attempt failed, and another follows after `delay_s`."""

    def on_dead(self, lease: Lease, error: str) -> None:
        """The job became a dead letter."""

    def on_released(self, lease: Lease) -> None:
        """The lease was given back untried."""

    def on_lost(self, lease: Lease) -> None:
        """The lease was lost before its end could be told; the attempt may run again elsewhere."""


class Listeners:
    """Calls the hooks of several `Events`, and logs what they raise."""

    def __init__(self, listeners: Sequence[Events]) -> None:
        self._listeners = tuple(listeners)
        hooks = [name for name in vars(Events) if name.startswith("on_")]
        # A hook that does nothing is not called: with thousands of jobs a second it shows.
        self._functions: dict[str, list[Callable[..., None]]] = {
            hook: [
                getattr(listener, hook)
                for listener in self._listeners
                if getattr(type(listener), hook, None) is not getattr(Events, hook)
            ]
            for hook in hooks
        }

    def __bool__(self) -> bool:
        return bool(self._listeners)

    def tell(self, hook: str, *arguments: Any) -> None:
        for function in self._functions[hook]:
            try:
                function(*arguments)
            except Exception:
                log.exception("the hook %s failed (%r); the job is unharmed", hook, function)
