"""What can go wrong with files on their way in, each with what to do about it."""

import errno
from pathlib import Path

from allocator.domain.errors import AllocatorError


class BadDigest(AllocatorError, ValueError):
    """A SHA-256 that is not 64 lower-case hex digits; no file was touched."""

    def __init__(self, sha256: object) -> None:
        super().__init__(f"sha256: must be 64 lower-case hex digits, not {str(sha256)[:80]!r}")


class BadPath(AllocatorError, ValueError):
    """A path that does not name a place inside the library; nothing was linked or unlinked."""


class TooLarge(AllocatorError):
    """A file grew past the limit; what had been written of it is removed."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(
            f"the file is larger than the {max_bytes:,} bytes allowed; send a smaller one or raise the limit"
        )
        self.max_bytes = max_bytes


class OutOfSpace(AllocatorError):
    """No room, or no quota, for a file. Nothing half-written stays; the same call works again when there is room."""

    def __init__(self, root: Path, detail: str) -> None:
        super().__init__(
            f"no room in the object store {root}: {detail}. Make room there or raise the quota, then retry"
        )
        self.root = root


class ObjectMissing(AllocatorError, LookupError):
    """No object of this digest is in the store."""

    def __init__(self, sha256: str, root: Path) -> None:
        super().__init__(f"the object {sha256} is not in {root}: deleted, or the store is not the one it was put into")
        self.sha256 = sha256


class SweptAway(AllocatorError):
    """Bytes of an upload were deleted before it was recorded, so that it was not accepted."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the bytes of {name[:100]!a} were swept before the upload was complete: it took longer than sweeps spare. "
            "Nothing was accepted; send it again, with fewer files at a time"
        )


class ObjectStoreUnavailable(AllocatorError):
    """The file system of the object store refused; the text says what to check."""

    def __init__(self, root: Path, detail: str) -> None:
        super().__init__(
            f"the object store {root} does not work: {detail}. Check that it is mounted, writable by this user, and "
            "one file system"
        )
        self.root = root


class LibraryUnavailable(AllocatorError):
    """The file system of the library refused; the text says what to check."""

    def __init__(self, root: Path, detail: str) -> None:
        super().__init__(
            f"the library {root} does not work: {detail}. Check that it is writable by this user, and that its file "
            "system has symbolic links"
        )
        self.root = root


class Unreadable(AllocatorError):
    """A file is not what its first bytes promise, or too much for the bounds; `reason` is one sentence."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class WrongRules(AllocatorError, ValueError):
    """Placement rules were refused as a whole; names the file, the rule and the field."""

    def __init__(self, source: str, rule: str, field: str, problem: str) -> None:
        place = ", ".join(part for part in (source, rule and f"rule {rule}", field) if part)
        super().__init__(f"{place}: {problem}")
        self.source = source
        self.rule = rule
        self.field = field


def store_error(root: Path, error: OSError) -> AllocatorError:
    """The error of ours for what the file system said."""
    detail = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutOfSpace(root, detail)
    where = f" ({error.filename})" if error.filename else ""
    return ObjectStoreUnavailable(root, detail + where)
