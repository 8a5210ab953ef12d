"""The attempts of a supervisor of one's own, as a frame: `Supervisor(queue, …, events=[seen])`, then `seen.frame()`."""

from typing import Any

import pandas as pd

from allocator.domain.lease import Lease
from allocator.supervisor import Events

COLUMNS = ("job", "type", "attempt", "worker", "due_at", "wait_s", "service_s", "outcome", "error", "delay_s")


class Attended(Events):
    """
    Notes every attempt that ends, in memory: for some thousands of them, by hand. A run records far more cheaply.
    """

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, Any]] = {}

    def frame(self) -> pd.DataFrame:
        """
        A row an attempt, in the order in which they ended.

        Columns: job, type, attempt, worker; due_at (UTC); wait_s (due until started), service_s; outcome (done, failed,
        released, lost), error; delay_s until the next attempt (missing: there is none).
        """
        frame = pd.DataFrame(list(self._rows.values()), columns=list(COLUMNS))
        return frame.assign(due_at=pd.to_datetime(frame["due_at"], unit="s", utc=True))

    def on_attempt(self, lease: Lease, wait_s: float, service_s: float) -> None:
        self._note(lease, wait_s=wait_s, service_s=service_s)

    def on_done(self, lease: Lease, wait_s: float, service_s: float) -> None:
        self._note(lease, outcome="done")

    def on_retry(self, lease: Lease, error: str, delay_s: float) -> None:
        self._note(lease, outcome="failed", error=error, delay_s=delay_s)

    def on_dead(self, lease: Lease, error: str) -> None:
        self._note(lease, outcome="failed", error=error)

    def on_released(self, lease: Lease) -> None:
        self._note(lease, outcome="released")

    def on_lost(self, lease: Lease) -> None:
        self._note(lease, outcome="lost")

    def _note(self, lease: Lease, **seen: Any) -> None:
        job = lease.job
        row = self._rows.setdefault(
            lease.token,
            {"job": job.id, "type": job.type, "attempt": lease.attempt, "worker": lease.worker, "due_at": lease.due_at},
        )
        row.update(seen)
