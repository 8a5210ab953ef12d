"""Facts of files that no other processor takes."""

import os
from pathlib import Path
from typing import Any

from allocator.ingest.identify import HEAD_BYTES, text_encoding

MAX_COUNTED_BYTES = 16 * 1024 * 1024
"""Largest text of which the lines are counted."""


def other_facts(path: Path | str, sha256: str = "") -> dict[str, Any]:
    """
    What can be said of any file.

    `size_bytes`; `sha256` as given; `encoding` (see `text_encoding`; "binary" if it is no text), by its first 64 KiB;
    `lines` of a text in ASCII, UTF-8 or an old encoding of at most MAX_COUNTED_BYTES, else None.

    Raises:
        OSError: It cannot be opened or read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(HEAD_BYTES)
        encoding = text_encoding(head, len(head) >= size) if head else "binary"
        lines = None
        if encoding in ("ascii", "utf-8", "unknown-8bit") and size <= MAX_COUNTED_BYTES:
            lines = head.count(b"\n")
            last = head
            while chunk := file.read(HEAD_BYTES):
                lines += chunk.count(b"\n")
                last = chunk
            if not last.endswith(b"\n"):
                lines += 1
    return {"size_bytes": size, "sha256": sha256, "encoding": encoding, "lines": lines}
