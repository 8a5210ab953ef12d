"""Locks on (store, name) between processes."""

import resource
import time
from typing import Any

import pytest

from allocator.persistence import Store, StoreLock, StoreLocked
from tests.persistence.builders import Opener
from tests.persistence.programs import line_of, start

HOLDER = (
    "from allocator.persistence import open_store\n"
    "store = open_store(**place); lock = store.lock('memory:default'); print('held', flush=True); input()"
)


def test_a_lock_has_one_holder(opener: Opener) -> None:
    """Another object is refused until it is released; other names are free."""
    first, second = opener(), opener()

    held = first.lock("a queue/with: any name")
    other = second.lock("another")
    with pytest.raises(StoreLocked, match="a queue name of its own"):
        second.lock("a queue/with: any name")
    with pytest.raises(StoreLocked):
        first.lock("a queue/with: any name")
    held.release()
    held.release()

    assert (held.held(), other.held()) == (False, True)
    with second.lock("a queue/with: any name") as taken:
        assert taken.held()


def test_a_lock_that_was_released_is_free_at_once(opener: Opener) -> None:
    """As where a supervisor is stopped and another one started in its place."""
    first, second = opener(), opener()

    for _ in range(10):
        first.lock("queue").release()
        second.lock("queue").release()


def test_closing_the_store_releases_its_locks(opener: Opener) -> None:
    """As the end of the process does."""
    first, second = opener(), opener()
    first.lock("queue")

    first.close()

    assert second.lock("queue").held()


def test_a_full_disk_does_not_keep_anybody_from_a_lock(opener: Opener) -> None:
    """Only who holds it cannot be written down; it is released as always."""
    store = opener()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        lock = store.lock("queue")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    lock.release()

    assert store.lock("queue").held()


def test_a_kill_releases_the_lock(place: dict[str, Any], store: Store) -> None:
    """A second process is refused while the first lives, is told who it is, and gets the lock once it is killed."""
    with start(HOLDER, place) as holder:
        assert line_of(holder) == "held"
        with pytest.raises(StoreLocked) as refused:
            store.lock("memory:default")
        holder.kill()

    assert refused.value.owner
    assert taken_within_bound(store).held()


def test_a_forked_child_does_not_keep_the_lock(place: dict[str, Any], store: Store) -> None:
    """It has a share of all that its parent had open; the lock goes with the parent, and not before."""
    program = (
        "import os, signal\n"
        "from allocator.persistence import open_store\n"
        "store = open_store(**place); lock = store.lock('memory:default')\n"
        "if os.fork() == 0: print('forked', lock.held(), flush=True); input(); os._exit(0)\n"
        "signal.pause()"
    )

    with start(program, place) as parent:
        assert line_of(parent) == "forked False"
        with pytest.raises(StoreLocked):
            store.lock("memory:default")
        parent.kill()
        parent.wait()
        taken = taken_within_bound(store)

    assert taken.held()


def taken_within_bound(store: Store, limit_s: float = 20.0) -> StoreLock:
    """A server learns of the end of a client a moment later, and gives no signal that it has."""
    deadline = time.monotonic() + limit_s
    while True:
        try:
            return store.lock("memory:default")
        except StoreLocked:
            assert time.monotonic() < deadline, f"still locked after {limit_s:g} s"
            time.sleep(0.01)
