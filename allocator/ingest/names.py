"""Names of files and folders that no content of theirs can turn into another place, or into something misleading."""

import os
import unicodedata

MAX_BYTES = 120
"""UTF-8 bytes of one component; file systems take 255."""

MAX_SUFFIX_BYTES = 20
"""A longer one is no suffix, but part of the name."""

UNNAMED = "unnamed"

# They turn the writing around, so that a name ends in what is not its end.
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_DROPPED = frozenset(("Cc", "Cs", "Zl", "Zp"))


def safe_component(text: str) -> str:
    """
    One component of a path, made of any text.

    No separators (they become _), no NUL, control or bidi characters, not "." or "..", in NFC, at most MAX_BYTES in
    UTF-8 with the suffix kept; what is empty then becomes "unnamed".
    """
    kept = text[: 16 * MAX_BYTES].replace("/", "_").replace("\\", "_")
    # Of printable ASCII, which nearly all of them are, nothing is dropped, and all is in NFC.
    if not (kept.isascii() and kept.isprintable()):
        kept = "".join(
            character
            for character in kept
            if character not in _BIDI and unicodedata.category(character) not in _DROPPED
        )
        # Last, since what was dropped may have kept two characters apart that are one in NFC.
        kept = unicodedata.normalize("NFC", kept)
    kept = kept.strip()
    if len(text) > 16 * MAX_BYTES:
        # Its suffix was out of sight.
        kept += safe_suffix(os.path.splitext(text[-16 * MAX_BYTES :])[1])
    if kept in ("", ".", ".."):
        return UNNAMED
    # Cutting may leave blanks at the end.
    return shortened(kept, MAX_BYTES) or UNNAMED


def safe_suffix(text: str) -> str:
    """A suffix with its dot, by the rules of `safe_component`; empty if there is none, or none to speak of."""
    if not text.startswith("."):
        return ""
    suffix = safe_component("x" + text)[1:]
    return suffix if 1 < len(suffix.encode()) <= MAX_SUFFIX_BYTES else ""


def split_name(name: str) -> tuple[str, str]:
    """Stem and suffix; a suffix of more than MAX_SUFFIX_BYTES belongs to the stem."""
    stem, suffix = os.path.splitext(name)
    return (name, "") if len(suffix.encode()) > MAX_SUFFIX_BYTES else (stem, suffix)


def shortened(name: str, max_bytes: int) -> str:
    """A name cut to its bytes in UTF-8, with its suffix, and no character cut apart."""
    if len(name.encode()) <= max_bytes:
        return name
    stem, suffix = split_name(name)
    room = max_bytes - len(suffix.encode())
    return stem.encode()[:room].decode(errors="ignore").rstrip() + suffix
