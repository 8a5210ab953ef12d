"""The job store: every job with its state, attempts, progress and result, on SQLite or PostgreSQL."""

from allocator.persistence.assets import (
    MAX_COMMENTS_CHARS,
    Asset,
    AssetBusy,
    Assets,
    AssetState,
    KeyReused,
    Placed,
    Upload,
)
from allocator.persistence.errors import StoreClosed, StoreForked, StoreLocked, StoreUnavailable
from allocator.persistence.keys import ApiKey, Keys
from allocator.persistence.locking import StoreLock
from allocator.persistence.opening import default_url, open_store
from allocator.persistence.records import Begun, Dispatcher, Ending, Progress, StoredAttempt, StoredJob
from allocator.persistence.states import ENDED, UNFINISHED, JobState, Outcome
from allocator.persistence.store import Store

__all__ = [
    "ENDED",
    "MAX_COMMENTS_CHARS",
    "UNFINISHED",
    "ApiKey",
    "Asset",
    "AssetBusy",
    "AssetState",
    "Assets",
    "Begun",
    "Dispatcher",
    "Ending",
    "JobState",
    "KeyReused",
    "Keys",
    "Outcome",
    "Placed",
    "Progress",
    "Store",
    "StoreClosed",
    "StoreForked",
    "StoreLock",
    "StoreLocked",
    "StoreUnavailable",
    "StoredAttempt",
    "StoredJob",
    "Upload",
    "default_url",
    "open_store",
]
