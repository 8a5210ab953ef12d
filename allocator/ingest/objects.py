"""
The object store: files by the SHA-256 of their bytes, each stored once.

root/objects/ab/<64 hex digits>   whole files, never changed, mode 0444 less the umask
root/incoming/<uuid>              files that are being written; each locked by its writer
root/lock                         flock: shared to touch or replace what is there, exclusive to check and unlink

A file appears under objects/ by one rename, after its bytes are on the disk: whatever is there is whole. A commit of
bytes that are there already touches them, so that a sweep, which spares what is young, leaves them to whoever records
them next.
"""

import fcntl
import hashlib
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from allocator.domain.errors import AllocatorError
from allocator.domain.ids import new_id
from allocator.ingest.errors import BadDigest, ObjectMissing, ObjectStoreUnavailable, TooLarge, store_error
from allocator.ingest.identify import HEAD_BYTES
from allocator.ingest.locks import locked

MIN_AGE_S = 3600.0
"""How long after a commit its bytes are spared although nothing refers to them: the record may be on its way."""

FRESH_S = 1.0
"""What was written to within this time need not be touched to look young."""

READ_BYTES = 1024 * 1024
SWEEP_BATCH = 500

IsReferenced = Callable[[Sequence[str]], set[str]]
"""Of these digests, those that something refers to. Asked under the lock: it must be quick, and must not commit."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_SHARDS = [f"{number:02x}" for number in range(256)]


@dataclass(frozen=True)
class Stored:
    """
    What a commit put into the store.

    Args:
        sha256: Of the bytes, 64 lower-case hex digits.
        size_bytes: How many there are.
        is_new: They were not there before.
    """

    sha256: str
    size_bytes: int
    is_new: bool


@dataclass(frozen=True)
class Damage:
    """
    What `verify` found.

    Args:
        path: Relative to the root of the store.
        problem: One of "missing", "wrong content", "foreign file", "unreadable".
        detail: More on it, for people.
    """

    path: str
    problem: str
    detail: str


@dataclass(frozen=True)
class Swept:
    """What `sweep` deleted: objects, their bytes together, and abandoned incoming files."""

    objects: int
    bytes: int
    incoming: int


class ObjectStore:
    """
    A folder of files that are found by their content. Holds no state: any number of threads and processes may use it.

    Args:
        root: Made with mode 0700 if it is missing. objects/ and incoming/ below it must be one file system.
    Raises:
        ObjectStoreUnavailable, OutOfSpace: The folders cannot be made.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root).resolve()
        self._objects = self.root / "objects"
        self._incoming = self.root / "incoming"
        self._lock = self.root / "lock"
        with self._told():
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._incoming.mkdir(mode=0o700, exist_ok=True)
            self._make_shards()
            if self._incoming.stat().st_dev != self._objects.stat().st_dev:
                raise ObjectStoreUnavailable(self.root, "objects/ and incoming/ are on different file systems")

    # Put

    def incoming(self, max_bytes: int | None = None) -> "Incoming":
        """
        A new file, to be written and then committed; a context manager that removes what was not committed.

        Args:
            max_bytes: Most bytes it may have; None: any number.
        Raises:
            OutOfSpace, ObjectStoreUnavailable: It cannot be made.
        """
        return Incoming(self, max_bytes)

    # Get

    def path(self, sha256: str) -> Path:
        """
        Where the object of this digest is, or would be.

        Raises:
            BadDigest: Not 64 lower-case hex digits, so that no path ever leaves the store.
        """
        return self.root / self.relative(sha256)

    def relative(self, sha256: str) -> str:
        """As `path`, seen from the root."""
        if not isinstance(sha256, str) or not _DIGEST.fullmatch(sha256):
            raise BadDigest(sha256)
        return f"objects/{sha256[:2]}/{sha256}"

    def open(self, sha256: str) -> BinaryIO:
        """
        The object's bytes, to read. Stays readable until it is closed, also when the object is deleted meanwhile.

        Raises:
            BadDigest, ObjectMissing, ObjectStoreUnavailable: See there.
        """
        with self._told(sha256):
            return open(self.path(sha256), "rb")

    def size(self, sha256: str) -> int:
        """How many bytes the object has; raises as `open` does."""
        with self._told(sha256):
            return self.path(sha256).stat().st_size

    # Look after

    def total_bytes(self) -> int:
        """Of all objects together."""
        total = 0
        for shard in _SHARDS:
            for entry in _entries(self._objects / shard):
                with suppress(FileNotFoundError):
                    total += entry.stat(follow_symlinks=False).st_size
        return total

    def verify(
        self, expected: Iterable[str] = (), advance: Callable[[int], None] = lambda size: None
    ) -> Iterator[Damage]:
        """
        Read every object and hash it again; gives what is wrong, as it is found. Changes nothing.

        Args:
            expected: Digests that must be there, such as those that the database refers to.
            advance: Is told of the bytes of each object that was read.
        """
        for sha256 in expected:
            path = self.path(sha256)
            if not path.exists():
                yield Damage(self._relative(path), "missing", "something refers to it, and it is not there")
        for folder in _entries(self._objects):
            if not folder.is_dir(follow_symlinks=False) or folder.name not in _SHARDS:
                yield Damage(self._relative(folder.path), "foreign file", "not one of the folders 00 to ff")
                continue
            for entry in _entries(folder.path):
                if (damage := self._damage(folder.name, entry)) is not None:
                    yield damage
                with suppress(FileNotFoundError):
                    advance(entry.stat(follow_symlinks=False).st_size)

    def sweep(self, is_referenced: IsReferenced, older_than_s: float = MIN_AGE_S, *, dry_run: bool = False) -> Swept:
        """
        Delete the objects that nothing refers to, and the incoming files whose writers are gone.

        Args:
            is_referenced: Is asked twice about what is to go, the second time under the lock.
            older_than_s: Spares what was committed, or written to, within this time. It must be longer than any upload
                takes from its first commit until its record is in the database.
            dry_run: Delete nothing, and say what would be deleted.
        """
        oldest_spared = time.time() - older_than_s
        objects = freed = 0
        with self._told():
            for batch in self._old_objects(oldest_spared):
                referenced = is_referenced(batch)
                for_now = [sha256 for sha256 in batch if sha256 not in referenced]
                if dry_run:
                    for sha256 in for_now:
                        with suppress(FileNotFoundError):
                            freed += self.path(sha256).stat().st_size
                            objects += 1
                    continue
                if not for_now:
                    continue
                with locked(self._lock, fcntl.LOCK_EX):
                    referenced = is_referenced(for_now)
                    for sha256 in for_now:
                        if sha256 in referenced:
                            continue
                        size = self._unlink_old(sha256, oldest_spared)
                        if size is not None:
                            objects += 1
                            freed += size
            return Swept(objects, freed, self._sweep_incoming(oldest_spared, dry_run))

    def sweep_incoming(self, older_than_s: float = MIN_AGE_S) -> int:
        """Delete incoming files whose writers are gone, unless written to within this time; returns how many."""
        with self._told():
            return self._sweep_incoming(time.time() - older_than_s, dry_run=False)

    def keep(self, sha256: str) -> None:
        """Have sweeps spare the object as if it had been committed now; raises as `open` does."""
        path = self.path(sha256)
        with self._told(sha256):
            # The clock of the file system may be a tick behind this one.
            if abs(time.time() - path.stat().st_mtime) < FRESH_S:
                return
        with self._told(), locked(self._lock, fcntl.LOCK_SH), self._told(sha256):
            os.utime(path)

    def remove(self, sha256: str, is_referenced: IsReferenced, older_than_s: float = MIN_AGE_S) -> bool:
        """
        Delete one object, unless something refers to it or it was committed within `older_than_s`.

        Bytes that young may be those of another upload, whose record is on its way; `sweep` takes them later.

        Returns:
            Whether it was deleted.
        Raises:
            BadDigest, ObjectStoreUnavailable: See there. An object that is not there is no error.
        """
        self.path(sha256)
        with self._told(), locked(self._lock, fcntl.LOCK_EX):
            if sha256 in is_referenced([sha256]):
                return False
            return self._unlink_old(sha256, time.time() - older_than_s) is not None

    # Inside

    def _make_shards(self) -> None:
        # All at once: a folder made by the first commit that needs it could be lost in a power cut after the second
        # one, which found it there, had promised its own file.
        if self._objects.is_dir() and len(os.listdir(self._objects)) >= len(_SHARDS):
            return
        self._objects.mkdir(mode=0o700, exist_ok=True)
        for shard in _SHARDS:
            (self._objects / shard).mkdir(mode=0o700, exist_ok=True)
        for folder in (self._objects, self.root, self.root.parent):
            with suppress(PermissionError):
                _sync_folder(folder)

    @contextmanager
    def _told(self, sha256: str = "") -> Iterator[None]:
        """Turn what the file system says into errors of ours."""
        try:
            yield
        except AllocatorError:
            # Those of a database, which `is_referenced` may raise, are OSErrors too.
            raise
        except FileNotFoundError as error:
            if sha256:
                raise ObjectMissing(sha256, self.root) from None
            raise store_error(self.root, error) from error
        except OSError as error:
            raise store_error(self.root, error) from error

    def _relative(self, path: Path | str) -> str:
        return os.path.relpath(path, self.root)

    def _damage(self, shard: str, entry: "os.DirEntry[str]") -> Damage | None:
        name = self._relative(entry.path)
        if not _DIGEST.fullmatch(entry.name) or not entry.name.startswith(shard):
            return Damage(name, "foreign file", "not named by the SHA-256 of an object of this folder")
        if not entry.is_file(follow_symlinks=False):
            return Damage(name, "foreign file", "not a regular file")
        try:
            with open(entry.path, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
                size = file.tell()
        except FileNotFoundError:
            return None
        except OSError as error:
            return Damage(name, "unreadable", error.strerror or str(error))
        if found != entry.name:
            return Damage(name, "wrong content", f"its {size:,} bytes hash to {found}")
        return None

    def _old_objects(self, oldest_spared: float) -> Iterator[list[str]]:
        batch: list[str] = []
        for shard in _SHARDS:
            for entry in _entries(self._objects / shard):
                if not _DIGEST.fullmatch(entry.name) or not entry.name.startswith(shard):
                    continue
                with suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(found.st_mode) and found.st_mtime <= oldest_spared:
                        batch.append(entry.name)
                if len(batch) >= SWEEP_BATCH:
                    yield batch
                    batch = []
        if batch:
            yield batch

    def _unlink_old(self, sha256: str, oldest_spared: float) -> int | None:
        """Under the exclusive lock: its size if it was deleted, None if it is young or not there."""
        path = self.path(sha256)
        try:
            found = path.stat(follow_symlinks=False)
        except FileNotFoundError:
            return None
        if found.st_mtime > oldest_spared:
            return None
        path.unlink()
        return found.st_size

    def _sweep_incoming(self, oldest_spared: float, dry_run: bool) -> int:
        count = 0
        for entry in _entries(self._incoming):
            with suppress(FileNotFoundError):
                found = entry.stat(follow_symlinks=False)
                if found.st_mtime > oldest_spared or stat.S_ISDIR(found.st_mode):
                    continue
                if stat.S_ISREG(found.st_mode) and _has_writer(entry.path):
                    continue
                if not dry_run:
                    os.unlink(entry.path)
                count += 1
        return count


class Incoming:
    """
    A file that is being written into the store, by one thread; made by `ObjectStore.incoming`.

    Hashes while it writes, and holds none of it in memory but its beginning. After an error it can only be given up.

    Attributes:
        store: Into which it goes.
        head: Its first HEAD_BYTES, or all that was written so far: what it is shows in them.
        size_bytes: Bytes written so far.
    """

    def __init__(self, store: ObjectStore, max_bytes: int | None) -> None:
        self.store = store
        self._max_bytes = max_bytes
        self._hash = hashlib.sha256()
        self._failed = False
        self._written_at = time.monotonic()
        self.head = bytearray()
        self.size_bytes = 0
        self.path = store._incoming / new_id()
        self._fd: int | None = None
        with store._told():
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
            # A sweep tells by this lock that the writer still lives, however slow it is.
            fcntl.flock(self._fd, fcntl.LOCK_EX)

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """
        Add bytes to the end.

        Raises:
            TooLarge: There are more than `max_bytes`; none of this chunk was written.
            OutOfSpace, ObjectStoreUnavailable: The file system refused.
            ValueError: Committed, given up, or failed before.
        """
        fd = self._open_fd()
        view = memoryview(chunk).cast("B")
        if self._max_bytes is not None and self.size_bytes + len(view) > self._max_bytes:
            self._failed = True
            raise TooLarge(self._max_bytes)
        try:
            self._hash.update(view)
            rest = view
            while rest:
                rest = rest[os.write(fd, rest) :]
            self._written_at = time.monotonic()
        except BaseException as error:
            self._failed = True
            if isinstance(error, OSError):
                raise store_error(self.store.root, error) from error
            raise
        self.size_bytes += len(view)
        if len(self.head) < HEAD_BYTES:
            self.head += view[: HEAD_BYTES - len(self.head)]

    def commit(self) -> Stored:
        """
        Put the file in its place, durably: when this returns, a power cut does not take it away.

        Raises:
            OutOfSpace, ObjectStoreUnavailable: The file system refused. Nothing half-written is visible; write the
                bytes again, as a new file.
            ValueError: Committed, given up, or failed before.
        """
        fd = self._open_fd()
        store = self.store
        sha256 = self._hash.hexdigest()
        target = store.path(sha256)
        # Whatever fails from here on, these bytes must not be written to or committed a second time.
        self._failed = True
        with store._told():
            is_new = not os.path.lexists(target)
            if is_new:
                # A sweep unlinks only what it found, and finds this young.
                self._put(fd, target)
            else:
                with locked(store._lock, fcntl.LOCK_SH):
                    is_new = not self._present(target)
                    if is_new:
                        self._put(fd, target)
                    else:
                        os.utime(target)
            # Also when the file was there: whoever renamed it may not have come as far as this.
            _sync_folder(target.parent)
        self._give_up(remove=not is_new)
        return Stored(sha256, self.size_bytes, is_new)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_up(remove=True)

    def _put(self, fd: int, target: Path) -> None:
        _sync(fd)
        # Writing may have taken longer than a sweep spares.
        if time.monotonic() - self._written_at > FRESH_S:
            os.utime(fd)
        _rename(self.path, target)

    def _present(self, target: Path) -> bool:
        """Whether these bytes are there; a file of another size is damaged, and is replaced by this one."""
        try:
            found = target.stat(follow_symlinks=False)
        except FileNotFoundError:
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size == self.size_bytes

    def _open_fd(self) -> int:
        if self._fd is None:
            raise ValueError("this incoming file was committed or given up; begin another one")
        if self._failed:
            raise ValueError("this incoming file failed before; begin another one")
        return self._fd

    def _give_up(self, remove: bool) -> None:
        """Close it, and remove it if it is still there. Never raises: what stays is swept later."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        if remove:
            with suppress(OSError):
                os.unlink(self.path)
        with suppress(OSError):
            os.close(fd)


def _rename(source: Path, target: Path) -> None:
    try:
        os.rename(source, target)
    except FileNotFoundError:
        # Someone tidied up empty folders.
        target.parent.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(target.parent.parent)
        os.rename(source, target)


def _sync(fd: int) -> None:
    if sys.platform == "darwin":
        # There, fsync leaves the bytes in the drive's cache.
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fsync(fd)


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _has_writer(path: str) -> bool:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _entries(folder: Path | str) -> Iterator["os.DirEntry[str]"]:
    """What a folder holds; nothing, if it is not there (any more)."""
    with suppress(FileNotFoundError), os.scandir(folder) as found:
        yield from found
