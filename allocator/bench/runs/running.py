"""One execution of a workload, from the plan to the folder that is kept of it."""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from allocator.bench.errors import InvalidWorkload
from allocator.bench.plan import plan
from allocator.bench.runs.backends import Backend, kind_of, open_backend, open_server, refuse_impossible
from allocator.bench.runs.execution import Execution, Progress, Say
from allocator.bench.runs.run import Run
from allocator.bench.storing import KINDS, Kind, StorePlace, on_postgres, on_sqlite
from allocator.bench.workload import Workload

LEASE_S = 5.0


def run(
    workload: Workload,
    backend: str = "memory",
    *,
    store: Kind = "none",
    folder: Path | None = None,
    lease_s: float = LEASE_S,
    say: Say = lambda progress: None,
) -> Run:
    """
    Make a run of the workload, and judge it.

    Ctrl-C, or SIGTERM, ends it in order and keeps what was measured: the run then says that it was interrupted. A
    second one ends it at once, and keeps nothing but its records.

    Args:
        backend: `memory`; `redis` or `postgres` for a server of its own; or the URL of one that is there.
        store: Where jobs are submitted and every step of them is recorded: nowhere; in SQLite; in PostgreSQL, in a
            schema of its own on the queue's server, or else on a server of its own.
        folder: Where runs are kept, each in a folder named by its id; None: `reports/runs` where this process is.
        say: Told how far it is, about twenty times a second.
    Raises:
        InvalidWorkload: It cannot finish, or a fault of it cannot be made here; names the field. Nothing was started.
        ServiceUnavailable: The server cannot be had.
        WorkerFailed: A supervisor could not start.
        RecordingFailed: The disk is full: what was measured is not whole.
        ValueError: There is no such backend or store.
    """
    say(Progress("preparing"))
    refuse_impossible(workload, backend)
    kind = kind_of(backend)
    if store not in KINDS:
        raise ValueError(f"store: must be {', '.join(KINDS)}, not {store!r}")
    if store != "none" and kind == "memory" and workload.workers.supervisors > 1:
        raise InvalidWorkload("workers.supervisors", "a queue in process with a store has one supervisor; set it to 1")
    planned = plan(workload)
    with ExitStack() as stack:
        place = stack.enter_context(open_backend(backend, workload))
        id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{workload.name}-{kind}-{secrets.token_hex(2)}"
        own = ((folder or Path("reports") / "runs") / id).resolve()
        (own / "records").mkdir(parents=True)
        execution = Execution(id, own, planned, place, lease_s, say)
        return execution.make(store, stack.enter_context(_open_store(store, place, workload, own / "records")))


@contextmanager
def _open_store(kind: Kind, place: Backend, workload: Workload, folder: Path) -> Iterator[StorePlace | None]:
    with ExitStack() as stack:
        if kind == "none":
            yield None
        elif kind == "sqlite":
            yield stack.enter_context(on_sqlite(folder))
        else:
            shares = place.kind == "postgres"
            url = place.url if shares else stack.enter_context(open_server("postgres", workload)).url
            yield stack.enter_context(on_postgres(url))
