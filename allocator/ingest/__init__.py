"""
Files on their way in: stored by content, identified, placed in the library.

What they say of themselves is in `allocator.ingest.facts`, apart, since it loads Pillow and MediaInfo.
"""

from allocator.ingest.errors import (
    BadDigest,
    BadPath,
    LibraryUnavailable,
    ObjectMissing,
    ObjectStoreUnavailable,
    OutOfSpace,
    SweptAway,
    TooLarge,
    Unreadable,
    WrongRules,
)
from allocator.ingest.identify import Identity, Kind, identify
from allocator.ingest.library import Library, Rebuilt
from allocator.ingest.objects import MIN_AGE_S, Damage, Incoming, ObjectStore, Stored, Swept
from allocator.ingest.rules import Placement, Rule, Rules, Subject, load_rules, parse_rules

__all__ = [
    "MIN_AGE_S",
    "BadDigest",
    "BadPath",
    "Damage",
    "Identity",
    "Incoming",
    "Kind",
    "Library",
    "LibraryUnavailable",
    "ObjectMissing",
    "ObjectStore",
    "ObjectStoreUnavailable",
    "OutOfSpace",
    "Placement",
    "Rebuilt",
    "Rule",
    "Rules",
    "Stored",
    "Subject",
    "Swept",
    "SweptAway",
    "TooLarge",
    "Unreadable",
    "WrongRules",
    "identify",
    "load_rules",
    "parse_rules",
]
