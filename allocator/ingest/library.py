"""
The library: the allocated tree, made of relative symbolic links into the object store.

It can be made again from what the database knows, so it is not synced to the disk. Folders are walked from the root on,
one by one, and none that is a link is entered: whatever someone puts into the tree, nothing is made outside of it.

root/<path>                      links to objects; nothing else is ours
<parent of root>/.<name>.lock    flock: shared to link and unlink, exclusive to rebuild
<parent of root>/.<name>.new     the tree that a rebuild is making
<parent of root>/.<name>.old     the tree that it has replaced, until it is deleted
"""

import errno
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from allocator.ingest.errors import BadPath, LibraryUnavailable
from allocator.ingest.locks import locked
from allocator.ingest.names import MAX_BYTES, shortened, split_name
from allocator.ingest.objects import ObjectStore

MAX_COMPONENTS = 40

_HASH_DIGITS = (8, 16, 32, 64)
_TRIES = 100


@dataclass(frozen=True)
class Rebuilt:
    """
    What `rebuild` made.

    Args:
        links: How many there are now.
        moved: By asset, the path of those that did not get the one asked for: other bytes have it.
    """

    links: int
    moved: dict[str, str]


class Library:
    """
    A tree of links. Any number of threads and processes may use it.

    Args:
        root: Made if it is missing.
        objects: Where the links lead. Links are relative: root and store can be moved together, not apart.
    Raises:
        LibraryUnavailable: The folder cannot be made.
    """

    def __init__(self, root: Path, objects: ObjectStore) -> None:
        self.root = Path(root).resolve()
        self._objects = objects
        self._way = os.path.relpath(objects.root, self.root)
        self._lock = self.root.with_name(f".{self.root.name}.lock")
        self._new = self.root.with_name(f".{self.root.name}.new")
        self._old = self.root.with_name(f".{self.root.name}.old")
        with self._told():
            self.root.parent.mkdir(parents=True, exist_ok=True)
            self._make_root()

    def link(self, path: str, sha256: str, asset_id: str) -> str:
        """
        Show an object at a path; again and again gives the same.

        Args:
            path: Relative, "/" between components.
            sha256: Of the object; it need not be there yet.
            asset_id: Tells apart assets of other bytes at the same path.
        Returns:
            The path used. Where other bytes have the path, it is <stem>~<first digits of the hash of the asset's
            id><suffix>; where a link has the place of a folder, the folder gets a ~ at its end. Two assets of the same
            bytes and path share one link.
        Raises:
            BadPath, BadDigest, LibraryUnavailable: See there.
        """
        parts = _parts(path)
        self._objects.relative(sha256)
        with self._told(), self._shared():
            return self._link(self.root, parts, sha256, asset_id)

    def link_again(self, path: str, sha256: str, asset_id: str) -> None:
        """Where `link` has just shown an object, show it again if someone has hidden it since; raises as that does."""
        with self._told(), self._shared():
            # To look is cheaper than to go there folder by folder, as one must to make something.
            if _target_at(None, f"{self.root}/{path}") == self._target(sha256, path.count("/")):
                return
        self.link(path, sha256, asset_id)

    def unlink(self, path: str) -> bool:
        """
        Remove the link at a path, and the folders that it leaves empty, up to the root.

        Returns:
            Whether there was one. What is no link is not ours, and stays.
        Raises:
            BadPath, LibraryUnavailable: See there.
        """
        parts = _parts(path)
        with self._told(), self._shared():
            try:
                with self._folder(self.root, parts[:-1], make=False) as (folder, _):
                    if not stat.S_ISLNK(os.stat(parts[-1], dir_fd=folder, follow_symlinks=False).st_mode):
                        return False
                    os.unlink(parts[-1], dir_fd=folder)
            except (FileNotFoundError, NotADirectoryError):
                return False
            self._remove_empty(parts[:-1])
            return True

    def rebuild(self, entries: Iterable[tuple[str, str, str]]) -> Rebuilt:
        """
        Make the tree anew, then put it in the place of the present one; link and unlink wait meanwhile.

        The present tree stays as it is until the new one is complete; for an instant between two renames there is none.
        What was not ours in it goes with it.

        Args:
            entries: Path, SHA-256 and asset id of all that is to be there. Give the paths that `link` gave, and each
                gets its own again.
        Raises:
            BadPath, BadDigest, LibraryUnavailable: The present tree stays.
        """
        links = 0
        moved: dict[str, str] = {}
        self._make_root()
        with self._told(), locked(self._lock, fcntl.LOCK_EX):
            for left in (self._new, self._old):
                if left.exists():
                    shutil.rmtree(left)
            self._new.mkdir(mode=0o700)
            try:
                for path, sha256, asset_id in entries:
                    self._objects.relative(sha256)
                    used = self._link(self._new, _parts(path), sha256, asset_id)
                    links += 1
                    if used != path:
                        moved[asset_id] = used
            except BaseException:
                shutil.rmtree(self._new, ignore_errors=True)
                raise
            os.rename(self.root, self._old)
            os.rename(self._new, self.root)
            shutil.rmtree(self._old, ignore_errors=True)
        return Rebuilt(links, moved)

    # Inside

    def _make_root(self) -> None:
        with self._told(), locked(self._lock, fcntl.LOCK_EX):
            # A rebuild that was killed between its two renames had finished the new tree.
            if not self.root.exists() and self._old.exists() and self._new.exists():
                os.rename(self._new, self.root)
            self.root.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def _shared(self) -> Iterator[None]:
        """The shared lock, on a tree that is there."""
        if not self.root.exists():
            # Either a rebuild is between its renames, and this waits for it, or it was killed there.
            self._make_root()
        with locked(self._lock, fcntl.LOCK_SH):
            yield

    def _link(self, root: Path, parts: list[str], sha256: str, asset_id: str) -> str:
        names = _candidates(parts[-1], asset_id)
        for _ in range(_TRIES):
            # Someone may remove a folder that is empty, or take a name, between two of these steps.
            with suppress(FileNotFoundError), self._folder(root, parts[:-1], make=True) as (folder, used):
                target = self._target(sha256, len(used))
                for name in names:
                    if _target_at(folder, name) == target:
                        return "/".join([*used, name])
                for name in names:
                    # Making a link either takes a free name or fails, in one step; renaming one into place would
                    # silently replace what another process has just put there.
                    with suppress(FileExistsError):
                        os.symlink(target, name, dir_fd=folder)
                        return "/".join([*used, name])
                    if _target_at(folder, name) == target:
                        return "/".join([*used, name])
                raise LibraryUnavailable(self.root, f"all names that {'/'.join(parts)!r} may have are taken")
        raise LibraryUnavailable(self.root, f"the folders of {'/'.join(parts)!r} vanish as often as they are made")

    def _target(self, sha256: str, depth: int) -> str:
        # Seen from the root, which a new tree will have when it is in place.
        return os.path.join(*[".."] * depth, self._way, self._objects.relative(sha256))

    @contextmanager
    def _folder(self, root: Path, parts: list[str], make: bool) -> Iterator[tuple[int, list[str]]]:
        """A descriptor of the folder, to which no link leads, and the names that were used."""
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        used: list[str] = []
        try:
            for part in parts:
                below, name = _enter(fd, part, make)
                os.close(fd)
                fd = below
                used.append(name)
            yield fd, used
        finally:
            os.close(fd)

    def _remove_empty(self, parts: list[str]) -> None:
        for length in range(len(parts), 0, -1):
            try:
                with self._folder(self.root, parts[: length - 1], make=False) as (folder, _):
                    os.rmdir(parts[length - 1], dir_fd=folder)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.ENOTDIR):
                    return
                raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (BadPath, LibraryUnavailable):
            raise
        except OSError as error:
            detail = f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else "")
            raise LibraryUnavailable(self.root, detail) from error


def _enter(fd: int, part: str, make: bool) -> tuple[int, str]:
    """Open the folder of this name; with `make`, make it, under a name with a ~ where a link has its name."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
    names = [part, shortened(part, MAX_BYTES - 1) + "~"] if make else [part]
    for name in names:
        try:
            # Nearly always it is there.
            with suppress(FileNotFoundError):
                return os.open(name, flags, dir_fd=fd), name
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, mode=0o700, dir_fd=fd)
            return os.open(name, flags, dir_fd=fd), name
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
    raise NotADirectoryError(errno.ENOTDIR, "a link or a file has the place of a folder", part)


def _target_at(folder: int | None, name: str) -> str:
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError:
        # Not there, or no link.
        return ""


def _parts(path: str) -> list[str]:
    parts = path.split("/")
    if len(parts) > MAX_COMPONENTS:
        raise BadPath(f"path: has {len(parts)} components, of which {MAX_COMPONENTS} are the most")
    for part in parts:
        if part in ("", ".", "..") or "\x00" in part or not _fits(part):
            raise BadPath(f"path: {path[:200]!r} is no relative path inside the library (component {part[:80]!r})")
    return parts


def _fits(part: str) -> bool:
    try:
        return len(part.encode()) <= 255
    except UnicodeEncodeError:
        # Half of a character is no name.
        return False


def _candidates(name: str, asset_id: str) -> list[str]:
    """The names that an asset may have in its folder, in the order of preference."""
    digest = hashlib.sha256(asset_id.encode()).hexdigest()
    found = [name]
    for digits in _HASH_DIGITS:
        mark = f"~{digest[:digits]}"
        stem, suffix = split_name(name)
        room = 255 - len(mark) - len(suffix.encode())
        found.append(stem.encode()[:room].decode(errors="ignore") + mark + suffix)
    return found
