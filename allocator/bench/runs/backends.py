"""The backend of a run: a server started for it, one that a URL names, or none."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from allocator.bench.errors import InvalidWorkload
from allocator.bench.scratch import scratch_name
from allocator.bench.workload import Workload
from allocator.services import Server, open_postgres, open_redis

KINDS = ("memory", "redis", "postgres")


@dataclass(frozen=True)
class Backend:
    """
    Where the queue of a run is.

    Args:
        kind: memory, redis or postgres.
        server: None for a queue in process.
        durability: What was set for it, in words.
    """

    kind: str
    url: str
    server: Server | None
    durability: str

    @property
    def is_ours(self) -> bool:
        """Whether it may be harmed."""
        return self.server is not None and self.server.owned


@contextmanager
def open_backend(backend: str, workload: Workload) -> Iterator[Backend]:
    """
    The backend for a run.

    Args:
        backend: `memory`, or `redis` or `postgres` for a server that is started for this run and removed after it; or
            the URL of a server that is there, of which nothing but a queue of its own is touched.
    Raises:
        InvalidWorkload: A fault of the workload cannot be made on this backend; names the field.
        ServiceUnavailable: The server cannot be had.
        ValueError: There is no such backend.
    """
    kind = _kind(backend)
    for number, step in enumerate(workload.faults):
        if step.BACKENDS and (kind not in step.BACKENDS or backend not in KINDS):
            allowed = " or ".join(sorted(step.BACKENDS))
            raise InvalidWorkload(
                f"faults[{number}].kind",
                f"{step.kind} acts only on a server that was started for the run: use --backend {allowed}, "
                f"not {backend}",
            )
    if kind == "memory":
        yield Backend(kind, f"memory://{scratch_name('run')}", None, "none: the queue ends with its process")
        return
    if backend not in KINDS:
        yield Backend(kind, backend, None, "as that server is set")
        return
    fsync = workload.durability.redis_appendfsync
    commit = workload.durability.postgres_synchronous_commit
    if kind == "redis":
        config = {"appendonly": "no"} if fsync == "none" else {"appendfsync": fsync}
        opened, said = open_redis(config=config, use_url=False), f"appendfsync {fsync}"
    else:
        word = "on" if commit else "off"
        opened = open_postgres(settings={"synchronous_commit": word}, use_url=False)
        said = f"fsync on, synchronous_commit {word}"
    with opened as server:
        yield Backend(kind, server.url, server, said)


def _kind(backend: str) -> str:
    scheme = backend.partition(":")[0].partition("+")[0]
    kind = {"rediss": "redis", "postgresql": "postgres"}.get(scheme, scheme)
    if kind not in KINDS:
        raise ValueError(f"backend: must be {', '.join(KINDS)}, or a URL redis://… or postgresql://…, not {backend!r}")
    return kind
