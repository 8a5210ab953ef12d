"""
Looks after an archive: whether all is there and as it was, what may go, and the library made anew.

All of it may run beside a server. What is found wrong is looked at once more before it is told, since a file may have
been placed or deleted in between; what is young is left alone.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from allocator.ingest.objects import MIN_AGE_S, Damage, Swept
from allocator.ingest.processors import Archive
from allocator.ingest.sweeping import NAME, FolderShared, enrol, others
from allocator.persistence import Placed


@dataclass(frozen=True)
class Collected:
    """What `collect` removed: from the object store, and links that no record has."""

    swept: Swept
    links: int


def doubts(archive: Archive) -> str | None:
    """
    Why this database may not be the one that these files are recorded in; None where all it refers to is there.

    By the database of another archive, everything here would be garbage.
    """
    count = 0
    for sha256 in _digests(archive):
        count += 1
        if not archive.objects.path(sha256).exists() and archive.assets.referenced([sha256]):
            return f"it refers to the object {sha256}, which is not there"
    return None if count else "it has no asset at all"


def check(archive: Archive, advance: Callable[[int], None] = lambda size: None) -> Iterator[Damage]:
    """
    Hash every object again, and compare library and database; gives what is wrong, as it is found. Changes nothing.

    Args:
        advance: Is told of the bytes of each object that was read.
    """
    for damage in archive.objects.verify(_digests(archive), advance):
        digest = os.path.basename(damage.path)
        if damage.problem != "missing" or (
            archive.assets.referenced([digest]) and not archive.objects.path(digest).exists()
        ):
            yield damage
    for placed in _placed(archive):
        if _shown_at(archive, placed.path) == placed.sha256:
            continue
        if archive.assets.shown_at(placed.path, placed.sha256) and _shown_at(archive, placed.path) != placed.sha256:
            yield Damage(f"library/{placed.path}", "wrong link", f"asset {placed.id} is to be seen there, and is not")
    yield from foreign(archive)
    for path, _ in _unrecorded(archive, MIN_AGE_S):
        yield Damage(f"library/{path}", "unrecorded link", "no asset is recorded there; `gc` removes it")


def foreign(archive: Archive) -> Iterator[Damage]:
    """What lies in the library and is no link into the object store."""
    for path in _entries(archive):
        if _shown_at(archive, path) is None and os.path.lexists(archive.library.root / path):
            yield Damage(f"library/{path}", "foreign file", "no link of ours; it stays until the library is rebuilt")


def collect(archive: Archive, older_than_s: float = MIN_AGE_S, *, dry_run: bool = False) -> Collected:
    """
    Remove objects that nothing refers to, incoming files whose writers are gone, and links that no record has.

    Args:
        older_than_s: Spares what is younger; longer than any upload takes until it is recorded.
        dry_run: Remove nothing, and say what would be removed.
    Raises:
        FolderShared: Another database may refer to what this one does not know. Nothing was, or would be, removed.
    """
    if not dry_run and not (archive.objects.root / NAME).exists():
        # From before databases were written down.
        enrol(archive.objects, archive.store)
    if shared_with := others(archive.objects, archive.store):
        raise FolderShared(archive.objects, shared_with)
    links = 0
    # Links first: one into bytes that are gone would lead nowhere.
    for path, sha256 in list(_unrecorded(archive, older_than_s)):
        links += 1
        if not dry_run:
            archive.hide(path, sha256)
    return Collected(archive.objects.sweep(archive.assets.referenced, older_than_s, dry_run=dry_run), links)


def rebuild(archive: Archive) -> int:
    """
    Make the library anew from the database; how many links it has. Whatever else lay in it is gone then.

    Raises:
        BadPath, LibraryUnavailable: The present tree stays.
    """
    rebuilt = archive.library.rebuild((placed.path, placed.sha256, placed.id) for placed in _placed(archive))
    # Two records of one path, with other bytes: the library has told them apart, and the database must hear of it.
    for placed in list(_placed(archive)) if rebuilt.moved else ():
        if placed.id in rebuilt.moved:
            archive.assets.move(placed, rebuilt.moved[placed.id])
    return rebuilt.links


def _digests(archive: Archive) -> Iterator[str]:
    after = ""
    while page := archive.assets.digests(after):
        yield from page
        after = page[-1]


def _placed(archive: Archive) -> Iterator[Placed]:
    after = ""
    while page := archive.assets.placed(after):
        yield from page
        after = page[-1].id


def _entries(archive: Archive) -> Iterator[str]:
    """All that is in the library and no folder, by its path there."""
    root = str(archive.library.root)
    for folder, folders, files in os.walk(root):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in (*files, *links):
            yield os.path.relpath(os.path.join(folder, name), root)


def _unrecorded(archive: Archive, older_than_s: float) -> Iterator[tuple[str, str]]:
    """Path and hash of links that no asset is recorded at. A link is made before its record: young ones are spared."""
    oldest_spared = time.time() - older_than_s
    for path in _entries(archive):
        sha256 = _shown_at(archive, path)
        if sha256 is None or archive.assets.shown_at(path, sha256) is not None:
            continue
        try:
            if os.lstat(archive.library.root / path).st_mtime <= oldest_spared:
                yield path, sha256
        except FileNotFoundError:
            continue


def _shown_at(archive: Archive, path: str) -> str | None:
    """The hash of the object that a link of ours at a path leads to; None where there is none of ours."""
    link = archive.library.root / path
    try:
        target = os.path.normpath(os.path.join(link.parent, os.readlink(link)))
    except OSError:
        return None
    digest = os.path.basename(target)
    try:
        return digest if str(archive.objects.path(digest)) == target else None
    except ValueError:
        return None
