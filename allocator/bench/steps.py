"""
Faults as timed steps of a workload. This is the plan alone; who makes them writes down what was done.

Those of servers act only on servers that `allocator.services` started, never on one given by URL; a queue in process
has no server, and a run on it refuses them.
"""

from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field

from allocator.bench.models import CountFromZero, Model, Seconds, SomeSeconds

REDIS, POSTGRES = "redis", "postgres"


class Step(Model):
    """
    A fault at an instant of the schedule.

    Attributes:
        BACKENDS: Whose servers it acts on; empty where it acts on no server, and so fits every backend.
    """

    BACKENDS: ClassVar[frozenset[str]] = frozenset()
    at_s: Seconds = Field(description="Seconds after the start of the schedule.")


class _OnWorkers(Step):
    target: Literal["supervisor", "process"] = Field(
        "supervisor", description="A whole supervisor with all its workers, or one worker process of it."
    )
    number: CountFromZero | None = Field(None, description="Of the supervisor, from 0; none: drawn from the seed.")


class _OnServer(Step):
    BACKENDS: ClassVar[frozenset[str]] = frozenset({REDIS, POSTGRES})


class KillWorker(_OnWorkers):
    """SIGKILL; what was killed is started again at once."""

    kind: Literal["kill_worker"] = "kill_worker"


class PauseWorker(_OnWorkers):
    """SIGSTOP, and SIGCONT after `seconds`: longer than the lease, and a stale ack must be refused."""

    kind: Literal["pause_worker"] = "pause_worker"
    seconds: SomeSeconds


class PauseProducers(Step):
    """SIGSTOP of all producers for `seconds`: must show as lateness, and nowhere else."""

    kind: Literal["pause_producers"] = "pause_producers"
    seconds: SomeSeconds


class KillServer(_OnServer):
    """SIGKILL of the server, which is started again after `seconds`."""

    kind: Literal["kill_server"] = "kill_server"
    seconds: Seconds = 0.0


class RestartServer(_OnServer):
    """An orderly stop of the server, which is started again after `seconds`."""

    kind: Literal["restart_server"] = "restart_server"
    seconds: Seconds = 0.0


class PauseServer(_OnServer):
    """SIGSTOP of the server, and SIGCONT after `seconds`."""

    kind: Literal["pause_server"] = "pause_server"
    seconds: SomeSeconds


class FlushAll(Step):
    """FLUSHALL: the queue loses everything at once, and the reconciler must bring it back."""

    BACKENDS: ClassVar[frozenset[str]] = frozenset({REDIS})
    kind: Literal["flushall"] = "flushall"


class ScriptFlush(Step):
    """SCRIPT FLUSH: the server forgets every script."""

    BACKENDS: ClassVar[frozenset[str]] = frozenset({REDIS})
    kind: Literal["script_flush"] = "script_flush"


class CutConnections(_OnServer):
    """All connections to the server are cut, and new ones for `seconds`, in the manner that `how` says."""

    kind: Literal["cut_connections"] = "cut_connections"
    seconds: Seconds = 0.0
    how: Literal["reset", "mid_reply", "lost_reply", "half_open"] = Field(
        "reset",
        description="With a TCP reset; in the middle of a reply; after a call took effect and before its reply; "
        "or silently, so that the client hears nothing more.",
    )


class DelayReplies(_OnServer):
    """Every reply of the server comes later by `delay_s`, for `seconds`."""

    kind: Literal["delay_replies"] = "delay_replies"
    seconds: SomeSeconds
    delay_s: SomeSeconds


Fault: TypeAlias = Annotated[
    KillWorker
    | PauseWorker
    | PauseProducers
    | KillServer
    | RestartServer
    | PauseServer
    | FlushAll
    | ScriptFlush
    | CutConnections
    | DelayReplies,
    Field(discriminator="kind"),
]
