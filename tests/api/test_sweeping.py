"""Sweeps beside the server: what was abandoned goes by itself, and nothing else does."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from allocator.api.services import Services
from allocator.api.settings import ApiSettings
from allocator.ingest import ObjectStore
from allocator.ingest.intake import Accepted
from allocator.ingest.processors import Archive
from allocator.ingest.sweeping import FolderShared, Stopped, sweep
from allocator.persistence import open_store
from tests.faults.running import until
from tests.ingest.samples import files_below, put
from tests.ingest.test_objects import make_old

OLD_S = 40 * 86400.0


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Services]:
    """What a server works with, in the folder and on the database of this test."""

    def open_one(**changes: object) -> Services:
        where = {"queue_url": "memory://", "data": tmp_path / "data", "store_url": f"sqlite:///{tmp_path / 'store.db'}"}
        return Services(ApiSettings(**{**where, "processes": 0, **changes}))  # type: ignore[arg-type]

    return open_one


def abandoned(objects: ObjectStore, name: str) -> list[Path]:
    """An old object that nothing refers to, and an old file whose writer is gone."""
    left = [objects.path(put(objects, name.encode()).sha256), objects.root / "incoming" / name]
    left[1].touch()
    for path in left:
        make_old(path, OLD_S)
    return left


def upload(services: Services, content: bytes) -> Accepted:
    """One whose bytes have been there for long."""
    accepted = services.intake.accept([services.intake.put("a.txt", content)])
    for path in files_below(services.archive.objects.root / "objects"):
        make_old(path, OLD_S)
    return accepted


def are_gone(paths: list[Path]) -> bool:
    """Whether none of them is there."""
    return not any(path.exists() for path in paths)


def test_what_was_abandoned_goes_at_the_start_and_later(opened: Callable[..., Services]) -> None:
    """With two servers at it, which both go on; what is referred to, young, or being written stays."""
    with opened(sweep_s=0) as before:
        accepted = upload(before, b"kept")
        objects = before.archive.objects
        young = objects.path(put(objects, b"young").sha256)
        early = abandoned(objects, "early")
    with ExitStack() as stack:
        writing = stack.enter_context(objects.incoming())
        make_old(writing.path, OLD_S)
        first, second = (stack.enter_context(opened(sweep_s=0.05)) for _ in range(2))
        until(lambda: are_gone(early), "what was there at the start is gone")
        late = abandoned(objects, "late")
        until(lambda: are_gone(late), "what came later is gone")
        kept = first.archive.assets.asset(accepted.asset_ids[0])
        assert kept is not None
        size = second.archive.objects.size(kept.sha256)
        is_writing = writing.path.exists()

    assert size == 4
    assert is_writing
    assert young.exists()


def test_no_sweep_is_made_where_none_is_wanted(opened: Callable[..., Services]) -> None:
    """With 0 nothing is deleted, however old it is."""
    with opened(sweep_s=0) as services:
        left = abandoned(services.archive.objects, "left")
    with opened(sweep_s=0):
        pass

    assert all(path.exists() for path in left)


def test_the_files_of_another_database_are_spared(opened: Callable[..., Services], tmp_path: Path) -> None:
    """A new database in the place of the right one deletes nothing, nor does the right one while both are there."""
    both = b"both have it"
    other_url = f"sqlite:///{tmp_path / 'other.db'}"
    with opened(sweep_s=0) as right, opened(sweep_s=0, store_url=other_url) as wrong:
        objects = right.archive.objects
        upload(wrong, both)
        accepted = upload(right, both)
        deleted = right.archive.assets.asset(accepted.asset_ids[0])
        assert deleted is not None
        right.archive.store.cancel(deleted.job_id)
        left = abandoned(objects, "left")

        for archive, other in ((wrong.archive, "store.db"), (right.archive, "other.db")):
            with pytest.raises(FolderShared, match=rf"{other}.*strike out"):
                sweep(objects, archive.store)
        right.archive.delete(deleted.id)
        size = objects.size(deleted.sha256)
        databases = objects.root / "databases"
        databases.write_text(databases.read_text().splitlines(keepends=True)[1])
        swept = sweep(objects, wrong.archive.store)

    assert size == len(both)
    assert (swept.objects, swept.incoming) == (1, 0)
    assert are_gone(left)
    assert files_below(objects.root / "objects") == [objects.path(deleted.sha256)]


def test_a_database_that_was_moved_is_known_again(tmp_path: Path) -> None:
    """By its identity, not by where it is; without a line for it, nothing is deleted."""
    Archive.open(tmp_path / "data", f"sqlite:///{tmp_path / 'store.db'}").close()
    os.rename(tmp_path / "store.db", tmp_path / "moved.db")
    moved = Archive.open(tmp_path / "data", f"sqlite:///{tmp_path / 'moved.db'}")
    left = abandoned(moved.objects, "left")

    lines = (tmp_path / "data" / "databases").read_text().splitlines()
    sweep(moved.objects, moved.store)
    moved.close()

    assert [line.split()[0] for line in lines] == [identity_of(tmp_path / "moved.db")]
    assert are_gone(left)
    with open_store(f"sqlite:///{tmp_path / 'moved.db'}") as store:
        (tmp_path / "data" / "databases").unlink()
        with pytest.raises(FolderShared, match="not known"):
            sweep(moved.objects, store)


def identity_of(path: Path) -> str:
    """Of a database."""
    with open_store(f"sqlite:///{path}") as store:
        return store.identity()


def test_a_sweep_ends_when_it_is_told(opened: Callable[..., Services]) -> None:
    """Before it has looked at everything."""
    with opened(sweep_s=0) as services:
        left = abandoned(services.archive.objects, "left")

        with pytest.raises(Stopped):
            sweep(services.archive.objects, services.archive.store, is_stopping=lambda: True)

    assert left[0].exists()


def test_a_sweep_spares_what_may_belong_to_an_upload() -> None:
    """However little is set, it spares more than the longest upload takes."""
    assert ApiSettings(sweep_age_s=0, max_upload_s=100).spared_s == 100 + 3600
    assert ApiSettings(sweep_age_s=1e6).spared_s == 1e6
