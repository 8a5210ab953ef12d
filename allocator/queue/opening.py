"""From a URL to a queue: the one place where the concrete backends are known."""

from typing import Any
from urllib.parse import urlsplit

from allocator.queue.base import Queue


def open_queue(url: str, **options: Any) -> Queue:
    """
    Open the queue that a URL names.

    Args:
        url: `memory://[NAME]`, `redis://`, `rediss://`, `redis+sentinel://HOST:PORT,HOST:PORT/SERVICE[/DB]`,
            `redis+cluster://HOST:PORT,HOST:PORT`, `postgresql://`.
        options: As for `Queue` and for the backend: name, lease_s, backoff, …
    Raises:
        ValueError: No backend for this URL, or an option is out of range.
        QueueUnavailable: The server could not be reached, or refused the connection.
    """
    scheme = urlsplit(url).scheme
    # Imported when asked for: an application on Redis does not pay for psycopg.
    match scheme:
        case "memory":
            from allocator.queue.inprocess import InProcessQueue

            return InProcessQueue(url, **options)
        case "redis" | "rediss" | "unix" | "redis+sentinel" | "redis+cluster":
            from allocator.queue.redis import RedisQueue

            return RedisQueue(url, **options)
        case "postgresql" | "postgres":
            from allocator.queue.postgres import PostgresQueue

            return PostgresQueue(url, **options)
        case _:
            # The scheme alone: the rest may hold a password.
            raise ValueError(
                f"url: {scheme!r} is no known backend; use memory://, redis://HOST:PORT/DB, rediss://…, "
                "redis+sentinel://…, redis+cluster://… or postgresql://USER@HOST:PORT/DB"
            )
