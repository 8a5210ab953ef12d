"""Runs a Redis and a PostgreSQL until Ctrl-C."""

import argparse
import contextlib
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

from allocator.services import Server, ServiceUnavailable, open_postgres, open_redis

_EXAMPLES = """\
examples:
  python -m allocator.services                      both, on free ports
  python -m allocator.services --redis-port 6379    Redis on its usual port
  python -m allocator.services --only postgres      PostgreSQL alone

The data is temporary and goes when the command ends. A server named by REDIS_URL or DATABASE_URL is used as
it is: it is neither started nor stopped.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 1 if there was no server at all or one ended by itself."""
    parser = argparse.ArgumentParser(
        prog="python -m allocator.services",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--redis-port", type=int, metavar="N", help="default: a free one")
    parser.add_argument("--postgres-port", type=int, metavar="N", help="default: a free one")
    parser.add_argument("--only", choices=["redis", "postgres"], help="start just this one")
    options = parser.parse_args(arguments)
    # Both signals raise, so that they end the command at whatever point it is, a start included.
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        with contextlib.ExitStack() as stack:
            return _run(options, stack)
    except KeyboardInterrupt:
        return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    # Once is enough: another Ctrl-C must not cut short the stopping of the servers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _run(options: argparse.Namespace, stack: contextlib.ExitStack) -> int:
    openers = {
        "redis": lambda: open_redis(port=options.redis_port),
        "postgres": lambda: open_postgres(port=options.postgres_port),
    }
    servers: list[Server] = []
    for name in [options.only] if options.only else openers:
        try:
            server = stack.enter_context(openers[name]())
        except ServiceUnavailable as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            continue
        servers.append(server)
        note = "" if server.owned else f", used because {server.source} is set, and not started"
        print(f"{name}: {server.describe()}{note}", flush=True)
    started = [server for server in servers if server.owned]
    variables = {"redis": "REDIS_URL", "postgres": "DATABASE_URL"}
    if started:
        # URLs that come from the environment are there already, and may hold a password.
        pairs = [f"{variables[server.name]}={shlex.quote(server.url)}" for server in started]
        print("export " + " ".join(pairs), "Ctrl-C stops what was started.", sep="\n", flush=True)
    while started:
        time.sleep(0.5)
        if ended := [server for server in started if server.pid is None]:
            print(f"{ended[0].name}: the server ended by itself", file=sys.stderr, flush=True)
            return 1
    return 0 if servers else 1


if __name__ == "__main__":
    sys.exit(main())
