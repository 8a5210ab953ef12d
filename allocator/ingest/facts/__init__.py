"""
What a file says of itself: one function for each kind, each giving a dict that is strict JSON.

They read hostile input. Call them in a process of its own, after `bound_memory`, and under a time limit: Pillow and
MediaInfo are C and C++, and nothing in Python ends a call into them.
"""

from allocator.ingest.facts.bounds import bound_memory
from allocator.ingest.facts.documents import json_facts
from allocator.ingest.facts.media import media_facts
from allocator.ingest.facts.other import other_facts

__all__ = ["bound_memory", "json_facts", "media_facts", "other_facts"]
