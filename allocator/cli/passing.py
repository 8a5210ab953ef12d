"""Commands that hand their arguments on to the command line of a room."""

import typer


def services(context: typer.Context) -> None:
    """
    Start a real Redis and a real PostgreSQL on loopback; Ctrl-C stops them.

    Examples: `allocator services`, `allocator services --redis-port 6379`, `allocator services --help`
    """
    from allocator.services.__main__ import main as run_services

    raise typer.Exit(run_services(context.args))


def bench(context: typer.Context) -> None:
    """
    Measure the queue beside bare limits, and write a page.

    Examples: `allocator bench`, `allocator bench --quick --only redis`, `allocator bench --help`
    """
    from allocator.bench.queue.__main__ import main as run_bench

    raise typer.Exit(run_bench(context.args))
