"""Loopback ports for servers."""

import errno
import random
import socket

# Below what Linux (32768) and macOS (49152) hand out to clients. From a port inside that range a client that
# retries while its server is down may connect to itself, and so hold the very port that the server needs to
# come back.
_LOWEST, _HIGHEST = 15_000, 31_000


def port_error(port: int) -> OSError | None:
    """Why a server could not listen on this loopback port just now, or None if it could."""
    with socket.socket() as probe:
        # Servers set this too; without it, connections that linger from the last server would count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError as error:
            return error
    return None


def free_port(*, with_offsets: tuple[int, ...] = ()) -> int:
    """
    A loopback port on which nothing listens now, and on which a restarted server will find no client either.

    Args:
        with_offsets: Distances at which ports must be free too, such as 10000 for the bus of a Redis Cluster
            node.
    """
    for _ in range(1000):
        port = random.randint(_LOWEST, _HIGHEST)
        if all(port_error(port + offset) is None for offset in (0, *with_offsets)):
            return port
    raise OSError(errno.EADDRINUSE, f"no free loopback port between {_LOWEST} and {_HIGHEST}")
