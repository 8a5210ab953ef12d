"""
The controls: for each kind of fault a bug or a setting that must be caught, or the checker has no teeth.

Each is shown on real servers: in workers by `allocator.bench.chaos.sabotage`, the others in the tests of faults.
"""

from dataclasses import dataclass

from allocator.bench.checker.verdicts import Promise


@dataclass(frozen=True, slots=True)
class Control:
    """
    Something broken on purpose.

    Args:
        fault: Under which it shows.
        breaks: What goes wrong.
        caught_by: The promises that it may break; one of them it must.
    """

    name: str
    fault: str
    breaks: str
    caught_by: frozenset[Promise]


def _controls(*controls: tuple[str, str, str, tuple[Promise, ...]]) -> dict[str, Control]:
    return {name: Control(name, fault, breaks, frozenset(caught_by)) for name, fault, breaks, caught_by in controls}


CONTROLS = _controls(
    (
        "ack before run",
        "worker process killed",
        "jobs are told done before they run; what is killed then never runs",
        (Promise.LOST,),
    ),
    (
        "lease keeper off",
        "thread trouble",
        "leases of running jobs are not extended; a job that outlasts its lease runs again",
        (Promise.EXPLAINED,),
    ),
    (
        "no token on ack",
        "pause",
        "an attempt may end its job although another has the lease by now",
        (Promise.STALE,),
    ),
    (
        "none: everything lost",
        "Redis killed and restarted",
        "Redis keeps nothing on disk; what it had accepted is gone after a kill",
        (Promise.LOST,),
    ),
    (
        "synchronous_commit=off",
        "PostgreSQL killed and restarted",
        "PostgreSQL acknowledges what is not on disk; the last of it is gone after a kill",
        (Promise.LOST,),
    ),
    (
        "reconciler off",
        "FLUSHALL",
        "what the queue has lost is not put back",
        (Promise.LOST,),
    ),
    (
        "repeated enqueue without a call number",
        "reply lost after commit",
        "the server cannot know that a call is made again; a job that was done meanwhile is enqueued once more",
        (Promise.ONCE,),
    ),
    (
        "cross-slot script",
        "Cluster",
        "the keys of a queue have no common hash tag; scripts are refused wherever they span two nodes",
        (Promise.DRAINED,),
    ),
    (
        "swallowed retry",
        "an error",
        "a failed attempt is told done",
        (Promise.RETRIED,),
    ),
    (
        "expiry ignored",
        "worker process killed",
        "what a dead worker held is leased for ever",
        (Promise.LOST, Promise.DRAINED),
    ),
)
"""By name; those of the table of faults that the bench is built to."""
