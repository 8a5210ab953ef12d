"""The backend of a run: a server started for it, one that a URL names, or none."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from allocator.bench import steps
from allocator.bench.errors import InvalidWorkload
from allocator.bench.proxy import Proxy
from allocator.bench.scratch import scratch_name
from allocator.bench.workload import Workload
from allocator.services import Server, open_postgres, open_redis

KINDS = ("memory", "redis", "postgres")

_ON_PROCESSES = steps.KillWorker | steps.PauseWorker | steps.PauseProducers


@dataclass(frozen=True)
class Backend:
    """
    Where the queue of a run is.

    Args:
        kind: memory, redis or postgres.
        url: Of the server itself, for whoever measures or harms it.
        server: None for a queue in process, and for one that a URL names.
        durability: What was set for it, in words.
        proxy: Between the server and those who send and work, where a fault needs one.
    """

    kind: str
    url: str
    server: Server | None
    durability: str
    proxy: Proxy | None = None

    @property
    def clients_url(self) -> str:
        """For those who send and work."""
        return self.url if self.proxy is None else self.proxy.url


def kind_of(backend: str) -> str:
    """
    memory, redis or postgres.

    Raises:
        ValueError: There is no such backend.
    """
    scheme = backend.partition(":")[0].partition("+")[0]
    kind = {"rediss": "redis", "postgresql": "postgres"}.get(scheme, scheme)
    if kind not in KINDS:
        raise ValueError(f"backend: must be {', '.join(KINDS)}, or a URL redis://… or postgresql://…, not {backend!r}")
    return kind


def refuse_impossible(workload: Workload, backend: str) -> None:
    """
    Refuse faults that cannot be made on this backend, before anything is started.

    Raises:
        InvalidWorkload: Names the field.
        ValueError: There is no such backend.
    """
    kind = kind_of(backend)
    for number, step in enumerate(workload.faults):
        field = f"faults[{number}].kind"
        if isinstance(step, _ON_PROCESSES) and kind == "memory":
            raise InvalidWorkload(
                field, f"{step.kind} would hit this very process, where the queue is; use --backend redis or postgres"
            )
        if step.BACKENDS and (kind not in step.BACKENDS or backend not in KINDS):
            allowed = " or ".join(sorted(step.BACKENDS))
            raise InvalidWorkload(
                field,
                f"{step.kind} acts only on a server that was started for the run: use --backend {allowed}, "
                f"not {backend}",
            )


def needs_proxy(step: steps.Step) -> bool:
    """Whether a fault happens between client and server."""
    if isinstance(step, steps.CutConnections):
        return step.how != "reset" or step.seconds > 0
    return isinstance(step, steps.DelayReplies)


@contextmanager
def open_backend(backend: str, workload: Workload) -> Iterator[Backend]:
    """
    The backend for a run.

    Args:
        backend: `memory`, or `redis` or `postgres` for a server that is started for this run and removed after it; or
            the URL of a server that is there, of which nothing but a queue of its own is touched.
    Raises:
        ServiceUnavailable: The server cannot be had.
        ValueError: There is no such backend.
    """
    kind = kind_of(backend)
    if kind == "memory":
        yield Backend(kind, f"memory://{scratch_name('run')}", None, "none: the queue ends with its process")
        return
    if backend not in KINDS:
        yield Backend(kind, backend, None, "as that server is set")
        return
    with open_server(kind, workload) as server:
        said = _durability(kind, workload)
        if any(map(needs_proxy, workload.faults)):
            with Proxy(server.url, workload.seed) as proxy:
                yield Backend(kind, server.url, server, said, proxy)
        else:
            yield Backend(kind, server.url, server, said)


def open_server(kind: str, workload: Workload) -> Server:
    """A server for this run alone, as durable as the workload says."""
    if kind == "redis":
        fsync = workload.durability.redis_appendfsync
        return open_redis(config={"appendonly": "no"} if fsync == "none" else {"appendfsync": fsync}, use_url=False)
    commit = "on" if workload.durability.postgres_synchronous_commit else "off"
    return open_postgres(settings={"synchronous_commit": commit}, use_url=False)


def _durability(kind: str, workload: Workload) -> str:
    if kind == "redis":
        return f"appendfsync {workload.durability.redis_appendfsync}"
    return f"fsync on, synchronous_commit {'on' if workload.durability.postgres_synchronous_commit else 'off'}"
