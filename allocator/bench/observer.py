"""What a supervisor tells of its attempts, recorded: how each ended, once the queue knows."""

import math

from allocator.bench.control import Ended
from allocator.bench.live import WaitCounter
from allocator.bench.recorder import Event, Outcome, Recorder, number_of
from allocator.domain.lease import Lease
from allocator.supervisor import Events

_SETTLED, _DONE = int(Event.SETTLED), int(Outcome.DONE)


class Observer(Events):
    """
    Records every attempt's end, for `Supervisor(…, events=[Observer(recorder)])`.

    Args:
        ended: Marks jobs that have come to their end, for the clients of a closed loop.
        waits: Counts how long those waited that are done, for who looks on.
    """

    def __init__(self, recorder: Recorder, ended: Ended | None = None, waits: WaitCounter | None = None) -> None:
        self._recorder = recorder
        self._ended = ended
        self._waits = waits

    def on_done(self, lease: Lease, wait_s: float, service_s: float) -> None:
        # What nearly every attempt comes to, so with the fewest steps.
        number = number_of(lease.job.id)
        self._recorder.record(_SETTLED, number, lease.attempt, lease.token, _DONE, lease.due_at, lease.leased_at)
        if self._ended is not None:
            self._ended.mark(number)
        if self._waits is not None:
            self._waits.add(wait_s)

    def on_retry(self, lease: Lease, error: str, delay_s: float) -> None:
        self._settled(lease, Outcome.CANCELLED if lease.cancelled else Outcome.FAILED, error, delay_s)

    def on_dead(self, lease: Lease, error: str) -> None:
        self._settled(lease, Outcome.CANCELLED if lease.cancelled else Outcome.FAILED, error)
        if self._ended is not None:
            self._ended.mark(number_of(lease.job.id))

    def on_released(self, lease: Lease) -> None:
        self._settled(lease, Outcome.CANCELLED if lease.cancelled else Outcome.RELEASED)

    def on_lost(self, lease: Lease) -> None:
        self._settled(lease, Outcome.LOST)

    def _settled(self, lease: Lease, outcome: Outcome, error: str = "", delay_s: float = math.nan) -> None:
        recorder = self._recorder
        recorder.record(
            Event.SETTLED,
            number_of(lease.job.id),
            lease.attempt,
            lease.token,
            outcome=outcome,
            due_at=lease.due_at,
            leased_at=lease.leased_at,
            delay_s=delay_s,
            error=recorder.text(error) if error else 0,
        )
