"""`allocator serve`."""

from typing import Annotated, Any

import typer
from pydantic import ValidationError

from allocator.cli.failing import fail
from allocator.cli.options import DataFolder, QueueName, QueueUrl, StoreUrl, settings


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on (127.0.0.1). Others than loopback ask for keys.")
    ] = "",
    require_key: Annotated[
        bool | None, typer.Option("--require-key", help="Ask for a key on loopback too; see `allocator keys`.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = None,
    data: DataFolder = None,
    queue: QueueUrl = settings.queue_url,
    name: QueueName = settings.queue_name,
    store: StoreUrl = settings.store_url,
    processes: Annotated[
        int | None, typer.Option(min=0, help="Worker processes (2); with 0 others work on the queue.")
    ] = None,
    grace: Annotated[float | None, typer.Option(metavar="S", min=0, help="For what runs at the end (30).")] = None,
) -> None:
    """
    Serve the ingest API, and do its jobs, until SIGTERM or Ctrl-C; a second one ends at once.

    Files sent to `POST /api/v1/ingest` are kept, identified and placed; `/openapi.json` tells the rest. What has no
    option is set by variables such as ALLOCATOR_MAX_FILE_BYTES.

    Where other machines can connect, each request must show a key that `allocator keys create NAME` made. It goes over
    the network as it is: put a server that speaks TLS before this one.

    Examples: `allocator serve`, `allocator serve -q memory:// --data ./files --port 8080`,
    `allocator serve --host 0.0.0.0`
    """
    from allocator.api.serving import serve as run_server
    from allocator.api.settings import ApiSettings

    given: dict[str, Any] = {
        "host": host or None,
        "require_key": require_key,
        "port": port,
        "data": data,
        "queue_url": queue,
        "queue_name": name,
        "store_url": store,
        "processes": processes,
        "grace_s": grace,
    }
    try:
        chosen = ApiSettings(**{field: value for field, value in given.items() if value is not None})
    except ValidationError as error:
        fail("; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()))
    raise typer.Exit(run_server(chosen))
