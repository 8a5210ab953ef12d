"""The Redis backend; works with Valkey, Sentinel and Cluster too."""

from allocator.queue.redis.backend import RedisQueue

__all__ = ["RedisQueue"]
