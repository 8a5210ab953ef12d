"""The PostgreSQL backend."""

from allocator.queue.postgres.backend import PostgresQueue

__all__ = ["PostgresQueue"]
