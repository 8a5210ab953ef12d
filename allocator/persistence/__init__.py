"""The job store: every job with its state, attempts, progress and result, on SQLite or PostgreSQL."""

from allocator.persistence.errors import StoreClosed, StoreForked, StoreLocked, StoreUnavailable
from allocator.persistence.locking import StoreLock
from allocator.persistence.opening import default_url, open_store
from allocator.persistence.records import Begun, Dispatcher, Ending, Progress, StoredAttempt, StoredJob
from allocator.persistence.states import ENDED, UNFINISHED, JobState, Outcome
from allocator.persistence.store import Store

__all__ = [
    "ENDED",
    "UNFINISHED",
    "Begun",
    "Dispatcher",
    "Ending",
    "JobState",
    "Outcome",
    "Progress",
    "Store",
    "StoreClosed",
    "StoreForked",
    "StoreLock",
    "StoreLocked",
    "StoreUnavailable",
    "StoredAttempt",
    "StoredJob",
    "default_url",
    "open_store",
]
