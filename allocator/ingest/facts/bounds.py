"""Bounds on what a file may cost and on what may be said of it."""

import math
import resource
import unicodedata
from collections.abc import Mapping
from typing import Any

from allocator.ingest.errors import Unreadable

MAX_TEXT = 1000
"""Characters of a text that are kept, so that a tag does not become a file of its own."""

MAX_ITEMS = 200
"""Items of a list, and entries of an object, that are kept."""

MAX_LEVELS = 6


def bound_memory(max_bytes: int) -> int:
    """
    Limit the address space of this process, for good; what needs more fails with MemoryError, or ends the process.

    Call it in a child that was made for one task. Address space is more than memory in use: an interpreter with Pillow
    and MediaInfo has some 100 MB of it.

    Returns:
        The limit now in force, which is lower if the process had a lower one. macOS does not enforce it.
    """
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = max_bytes if most == resource.RLIM_INFINITY else min(max_bytes, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return limit


def too_large(what: str) -> Unreadable:
    """For a MemoryError: the file asks for more than `bound_memory` allows."""
    return Unreadable(f"This {what} needs more memory than a processor is given.")


def plain(value: object, level: int = 0) -> Any:
    """
    A value of a foreign library as strict JSON, within bounds; None where there is nothing to say.

    Numbers that are not finite become None, other numbers int or float, bytes text where they are ASCII, all else text.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, bytes):
        return plain_text(value.decode("ascii")) if value.isascii() else None
    if isinstance(value, str):
        return plain_text(value)
    if level >= MAX_LEVELS:
        return None
    if isinstance(value, Mapping):
        some = list(value.items())[:MAX_ITEMS]
        return {plain_text(str(key)): plain(item, level + 1) for key, item in some}
    if isinstance(value, list | tuple):
        return [plain(item, level + 1) for item in value[:MAX_ITEMS]]
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ArithmeticError):
        return plain_text(str(value))
    return number if math.isfinite(number) else None


def plain_text(text: str) -> str:
    """Text without control characters, lone surrogates and padding, in NFC, cut at MAX_TEXT characters."""
    kept = "".join(character for character in text[: 4 * MAX_TEXT] if _is_plain(character))
    return unicodedata.normalize("NFC", kept).strip()[:MAX_TEXT]


def _is_plain(character: str) -> bool:
    return character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs")
