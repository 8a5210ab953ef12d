"""The lease keeper: extends what the supervisor holds, and ends what runs too long."""

import logging
import threading
import time
from collections.abc import Callable

from allocator.queue.base import Queue
from allocator.supervisor.held import Held
from allocator.supervisor.trouble import unforeseen

log = logging.getLogger(__name__)

LOOK_S = 0.25
"""How late at most a timeout is noticed."""


class LeaseKeeper(threading.Thread):
    """
    Every third of a lease: one call that extends everything held, except what is over its timeout.

    Args:
        held: Gives everything held at the moment.
        overdue: Called once for each job that is over its timeout, from this thread.
    """

    def __init__(
        self,
        queue: Queue,
        held: Callable[[], list[Held]],
        overdue: Callable[[Held], None],
    ) -> None:
        super().__init__(name="allocator-lease-keeper", daemon=True)
        self._queue = queue
        self._held = held
        self._overdue = overdue
        self._stopping = threading.Event()

    def stop(self, timeout_s: float) -> None:
        """Extend nothing more; waits so long for a call that is on its way."""
        self._stopping.set()
        if self.is_alive():
            self.join(timeout_s)

    def run(self) -> None:
        every_s = self._queue.lease_s / 3
        extend_at = time.monotonic() + every_s
        while not self._stopping.wait(max(0.0, min(extend_at, self._next_look()) - time.monotonic())):
            now = time.monotonic()
            for held in self._held():
                if held.started and not held.abandoned and now >= held.overdue_at:
                    held.abandoned = True
                    try:
                        self._overdue(held)
                    except Exception:
                        # Whatever it is: without this thread every lease would be lost.
                        log.exception("job %s is over its timeout, and its worker was not replaced", held.lease.job.id)
            if now >= extend_at:
                extend_at = now + every_s
                self._extend()

    def _next_look(self) -> float:
        """The next timeout; but a job that starts meanwhile may have a shorter one, hence at most LOOK_S from now."""
        running = [held.overdue_at for held in self._held() if held.started and not held.abandoned]
        return min(*running, time.monotonic() + LOOK_S) if running else time.monotonic() + LOOK_S

    def _extend(self) -> None:
        holding = [held for held in self._held() if not held.abandoned and not held.lost]
        if not holding:
            return
        try:
            lost = {lease.token for lease in self._queue.extend_many([held.lease for held in holding])}
        except Exception as error:
            # Whatever it is: without this thread every lease would be lost.
            text = "%d leases could not be extended; trying again: %s"
            log.error(text, len(holding), error, exc_info=unforeseen(error))
            return
        for held in holding:
            # One whose end is being told may just have been settled, which is how a lease should be lost.
            if held.lease.token in lost and not held.ended:
                held.lost = True
                log.warning("the lease on job %s attempt %d was lost", held.lease.job.id, held.lease.attempt)
