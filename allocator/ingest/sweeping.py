"""
Deletes what nothing refers to, and never what another database may refer to.

root/databases   a line for each database that has records of the files here: its identity, and where it was at first

Two databases that share a folder by mistake, such as a new and empty one in the place of another, would each take the
other's files for abandoned. While there are two lines, no object is deleted.
"""

import fcntl
import os
from collections.abc import Callable, Sequence

from allocator.domain.errors import AllocatorError
from allocator.ingest.errors import store_error
from allocator.ingest.locks import locked
from allocator.ingest.objects import MIN_AGE_S, ObjectStore, Swept, _sync_folder
from allocator.persistence import Assets, Store

NAME = "databases"


class FolderShared(AllocatorError):
    """Another database may refer to the files too; no object was deleted. `others` says where they are."""

    def __init__(self, objects: ObjectStore, others: Sequence[str]) -> None:
        super().__init__(
            f"objects in {objects.root} that nothing refers to are kept: {', '.join(others)} may refer to them. "
            f"Give each database a folder of its own; in {objects.root / NAME}, strike out those not used any more"
        )
        self.others = list(others)


class Stopped(AllocatorError):
    """A sweep ended early, as it was told; what it has not come to goes next time."""


def enrol(objects: ObjectStore, store: Store) -> None:
    """
    Write down, durably, that a database has records of the files here; to be called before it has any.

    Raises:
        OutOfSpace, ObjectStoreUnavailable, StoreUnavailable: See there.
    """
    path, identity = objects.root / NAME, store.identity()
    try:
        with locked(objects.root / "lock", fcntl.LOCK_EX), path.open("a+", encoding="utf-8") as file:
            file.seek(0)
            if any(line.split()[:1] == [identity] for line in file):
                return
            file.write(f"{identity} {store.where}\n")
            file.flush()
            os.fsync(file.fileno())
            _sync_folder(objects.root)
    except AllocatorError:
        raise
    except OSError as error:
        raise store_error(objects.root, error) from error


def sweep(
    objects: ObjectStore,
    store: Store,
    older_than_s: float = MIN_AGE_S,
    is_stopping: Callable[[], bool] = lambda: False,
) -> Swept:
    """
    Delete the objects that no asset refers to, and incoming files whose writers are gone. Safe from several processes.

    Args:
        older_than_s: See `ObjectStore.sweep`. Abandoned incoming files go after MIN_AGE_S in any case.
        is_stopping: Asked now and then; True ends it.
    Raises:
        FolderShared: Only incoming files were deleted.
        Stopped: As it was told.
        ObjectStoreUnavailable, StoreUnavailable: See there.
    """
    assets = Assets(store)

    def referenced(sha256s: Sequence[str]) -> set[str]:
        if is_stopping():
            raise Stopped("the sweep was told to stop")
        return assets.referenced(sha256s)

    incoming = objects.sweep_incoming(min(older_than_s, MIN_AGE_S))
    if shared_with := others(objects, store):
        raise FolderShared(objects, shared_with)
    swept = objects.sweep(referenced, older_than_s)
    return Swept(swept.objects, swept.bytes, swept.incoming + incoming)


def others(objects: ObjectStore, store: Store) -> list[str]:
    """
    Where the other databases are that may have records of the files here; none: what this one does not know may go.

    Raises:
        ObjectStoreUnavailable, StoreUnavailable: See there.
    """
    identity = store.identity()
    try:
        lines = (objects.root / NAME).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        # Nobody has enrolled: whose files they are is not known.
        return ["a database that is not known"]
    except OSError as error:
        raise store_error(objects.root, error) from error
    return [line.partition(" ")[2] or line for line in lines if line.split()[:1] not in ([identity], [])]
