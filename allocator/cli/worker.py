"""`allocator worker`."""

import logging
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from allocator.cli.failing import fail
from allocator.cli.opening import RECONNECT_S, open_named, open_record
from allocator.cli.options import QueueName, QueueUrl, StoreUrl, host_and_port, number, pair, settings

if TYPE_CHECKING:
    from allocator.supervisor.metrics import Metrics

log = logging.getLogger(__name__)


def worker(
    processor: Annotated[
        list[str],
        typer.Option("--processor", "-p", metavar="TYPE=MODULE:FUNCTION", help="Who does jobs of a type. Repeat it."),
    ],
    queue: QueueUrl = settings.queue_url,
    name: QueueName = settings.queue_name,
    store: StoreUrl = settings.store_url,
    workers: Annotated[int | None, typer.Option(help="Threads (4, or 0 with --processes).")] = None,
    processes: Annotated[int, typer.Option(help="Processes, for work that computes, crashes or hangs.")] = 0,
    limit: Annotated[
        list[str] | None, typer.Option(metavar="TYPE=N", help="At most N of a type at a time. Repeat it.")
    ] = None,
    timeout: Annotated[float, typer.Option(metavar="S", help="For one attempt, where the job names none.")] = 3600.0,
    lease: Annotated[float, typer.Option(metavar="S", help="Until a silent worker's job goes to another.")] = 15.0,
    grace: Annotated[float, typer.Option(metavar="S", help="For what runs when a stop is asked for.")] = 30.0,
    reconcile: Annotated[float, typer.Option(metavar="S", help="How often store and queue are compared.")] = 30.0,
    prune: Annotated[
        bool, typer.Option(help="Whether the store forgets jobs that ended 30 days or a million jobs ago.")
    ] = True,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="[HOST:]PORT", help="Serve figures to Prometheus; on loopback where no HOST is given."),
    ] = None,
) -> None:
    """
    Do the jobs of a queue until SIGTERM or Ctrl-C; a second one ends at once.

    Exit status 1 when so many threads hang in jobs over their timeout that no more are taken.

    Examples: `allocator worker -p json=myapp.jobs:read`,
    `allocator worker -q postgresql://me@db/jobs -p media=myapp.media:thumbnail --processes 2 --limit media=1`,
    `allocator worker -p json=myapp.jobs:read --metrics 9100`
    """
    from allocator.supervisor import Retention, Supervisor
    from allocator.supervisor.metrics import Metrics

    # As with `python -m`: the processors are mostly beside the one who types this.
    sys.path.insert(0, "")
    processors: dict[str, Any] = dict(pair("--processor", text, "TYPE=MODULE:FUNCTION") for text in processor)
    limits = {
        type: number("--limit", count) for type, count in (pair("--limit", text, "TYPE=N") for text in limit or ())
    }
    address = None if metrics is None else host_and_port("--metrics", metrics)
    with ExitStack() as stack:
        opened = stack.enter_context(open_named(queue, name, lease_s=lease))
        record = None if store is None else stack.enter_context(open_record(store))
        figures = None if address is None else Metrics(name, processors)
        try:
            supervisor = Supervisor(
                opened,
                processors,
                workers=workers,
                processes=processes,
                timeout_s=timeout,
                limits=limits,
                store=record,
                reconcile_s=reconcile,
                retention=Retention() if prune else None,
                events=[] if figures is None else [figures],
                handle_signals=True,
            )
            if figures is not None and address is not None:
                figures.watch(supervisor, stack.enter_context(open_named(queue, name, reconnect_s=RECONNECT_S)))
                stack.callback(_serve(figures, *address))
            status = supervisor.run(grace)
        except ValueError as error:
            fail(str(error))
    raise typer.Exit(status)


def _serve(figures: "Metrics", host: str, port: int) -> Callable[[], None]:
    """Answer Prometheus in a thread; gives what ends it."""
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, host, figures.registry)
    except OSError as error:
        fail(f"--metrics: nothing can listen on {host} port {port}: {error}")
    shown = f"[{host}]" if ":" in host else host
    log.info("metrics at http://%s:%d/metrics", shown, server.server_port)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
