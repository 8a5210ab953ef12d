"""A lease while the supervisor holds it."""

import time

from allocator.domain.lease import Lease


class Held:
    """
    One leased job on its way through the supervisor.

    Attributes:
        lease: Extended in place by the lease keeper.
        timeout_s: For one attempt.
        held_up_s: How long that worker had to wait before it might take one.
        started: When a worker took it, on the monotonic clock of this process; 0 before that.
        alive: When the processor last said that it is alive, on the same clock; 0 if it never did.
        lost: The lease is gone; whatever comes of the attempt will be refused.
        ended: Its end is being told.
        abandoned: Over its timeout: not extended any more.
    """

    __slots__ = (
        "abandoned",
        "alive",
        "ended",
        "fetched",
        "held_up_s",
        "lease",
        "lost",
        "started",
        "timeout_s",
        "worker",
    )

    def __init__(self, lease: Lease, timeout_s: float, fetched: float) -> None:
        self.lease = lease
        self.timeout_s = timeout_s
        self.fetched = fetched
        self.held_up_s = 0.0
        self.started = 0.0
        self.alive = 0.0
        self.worker = ""
        self.lost = False
        self.ended = False
        self.abandoned = False

    def at(self, monotonic: float) -> float:
        """An instant of this process on the queue's clock, by the lease: it was fetched just after it was given."""
        return self.lease.leased_at + max(0.0, monotonic - self.fetched)

    def beat(self) -> None:
        """Measure the timeout from now."""
        self.alive = time.monotonic()

    @property
    def overdue_at(self) -> float:
        """When the timeout is over, on the monotonic clock of this process; only once it was started."""
        return max(self.started, self.alive) + self.timeout_s
