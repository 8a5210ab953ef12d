"""The states of a job in a queue, and the transitions between them."""

from enum import StrEnum


class State(StrEnum):
    """Where a job is. At every instant an accepted job is in exactly one of these."""

    READY = "ready"
    SCHEDULED = "scheduled"
    LEASED = "leased"
    DONE = "done"
    DEAD = "dead"
    CANCELLED = "cancelled"


WAITING = frozenset({State.READY, State.SCHEDULED})

TRANSITIONS: dict[State, frozenset[State]] = {
    # A delay of zero makes a job ready at once; a due time that comes makes it ready later.
    State.SCHEDULED: frozenset({State.READY, State.CANCELLED}),
    State.READY: frozenset({State.LEASED, State.CANCELLED, State.DEAD}),
    # ready: released or expired; scheduled: backoff, or released with a delay.
    State.LEASED: frozenset({State.DONE, State.READY, State.SCHEDULED, State.DEAD, State.CANCELLED}),
    # Put back by hand. A purged dead letter leaves the queue altogether.
    State.DEAD: frozenset({State.READY}),
    State.DONE: frozenset(),
    State.CANCELLED: frozenset(),
}
"""Every legal change of state. Ready to dead is the way of a record that cannot be read."""
