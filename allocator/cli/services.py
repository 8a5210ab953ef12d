"""`allocator services`."""

import typer


def services(context: typer.Context) -> None:
    """
    Start a real Redis and a real PostgreSQL on loopback; Ctrl-C stops them.

    Examples: `allocator services`, `allocator services --redis-port 6379`, `allocator services --help`
    """
    from allocator.services.__main__ import main as run_services

    raise typer.Exit(run_services(context.args))
