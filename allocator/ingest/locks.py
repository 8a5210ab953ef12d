"""A lock between all threads and processes that open one file."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, how: int) -> Iterator[None]:
    """Hold the lock of a file, which is made if it is missing; `how` is fcntl.LOCK_SH or LOCK_EX. Raises OSError."""
    # Opened anew each time: a lock belongs to what was opened, so threads exclude each other as processes do.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)
