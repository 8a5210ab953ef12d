"""Intake and archive, without a server: what happens when the queue is down, and to links that two assets share."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from allocator.domain.job import Job
from allocator.domain.lease import Lease
from allocator.ingest import SweptAway
from allocator.ingest.intake import Brought, Intake, NoDocument, documents_of
from allocator.ingest.processors import Archive, _facts
from allocator.persistence import Asset, AssetState, KeyReused
from tests.ingest.test_objects import make_old, nobody
from tests.persistence.builders import FakeQueue, a_lease, an_ending


@dataclass
class AnAttempt:
    """As much of a supervisor's context as processors see."""

    job: Job
    token: str


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """A new one."""
    opened = Archive.open(tmp_path / "data", f"sqlite:///{tmp_path / 'store.db'}")
    yield opened
    opened.close()


@pytest.fixture
def queue() -> FakeQueue:
    """It can be broken."""
    return FakeQueue()


@pytest.fixture
def intake(archive: Archive, queue: FakeQueue) -> Intake:
    """Into the archive."""
    return Intake(archive.objects, archive.assets, queue)


def accepted(archive: Archive, intake: Intake, name: str, content: bytes) -> Asset:
    """The asset of a new upload of one file."""
    found = archive.assets.asset(intake.accept([intake.put(name, content)]).asset_ids[0])
    assert found is not None
    return found


def begin(archive: Archive, queue: FakeQueue, asset: Asset) -> Lease:
    """An attempt at the job of an asset, as the store knows it."""
    (job,) = [job for job in queue.enqueued if job.id == asset.job_id]
    lease = a_lease(job)
    archive.store.begin([lease], queue)
    return lease


def test_an_upload_is_accepted_while_the_queue_is_down(archive: Archive, intake: Intake, queue: FakeQueue) -> None:
    """The store has it, and so has whoever sends it again; other content under its key is told from it."""
    queue.broken = True
    brought = [intake.put("a.txt", b"words")]

    first = intake.accept(brought, key="once")
    again = intake.accept(brought, key="once")

    assert (first.upload.id, first.asset_ids) == (again.upload.id, again.asset_ids)
    assert (first.is_repeat, again.is_repeat) == (False, True)
    standing = archive.assets.standing(first.upload.id)
    assert standing is not None
    assert standing.counts["queued"] == 1
    assert queue.enqueued == []
    with pytest.raises(KeyReused):
        intake.accept([intake.put("a.txt", b"other words")], key="once")


def test_what_the_store_did_not_take_is_not_accepted(intake: Intake, queue: FakeQueue) -> None:
    """A queue that was closed accepts nothing, and a text that no database takes is refused."""
    brought = [intake.put("a.txt", b"words")]
    with pytest.raises(ValueError, match="NUL"):
        intake.accept(brought, comments="\0")
    queue.closed = True

    with pytest.raises(RuntimeError, match="closed"):
        intake.accept(brought)


def test_what_took_long_to_come_is_not_swept_before_it_is_recorded(archive: Archive, intake: Intake) -> None:
    """From its acceptance on it is young again; what a sweep was faster with is not accepted, and can be sent again."""
    slow, slower = intake.put("slow.txt", b"slow"), intake.put("slower.txt", b"slower")
    make_old(archive.objects.path(slow.stored.sha256))
    intake.accept([slow])
    make_old(archive.objects.path(slower.stored.sha256))

    swept = archive.objects.sweep(nobody)

    assert swept.objects == 1
    assert archive.objects.size(slow.stored.sha256) == 4
    with pytest.raises(SweptAway, match=r"slower\.txt.*send it again"):
        intake.accept([slower], key="again")
    assert intake.accept([intake.put("slower.txt", b"slower")], key="again").asset_ids


def test_assets_stay_in_the_order_in_which_they_were_sent(archive: Archive, intake: Intake) -> None:
    """However many ids are made for them in one millisecond, of which the counter begins anew every 4,096."""
    one = intake.put("0", b"words")
    sent = [str(number) for number in range(5000)]

    made = intake.accept([replace(one, name=name) for name in sent], key="once")

    assert [asset.name for asset_id in made.asset_ids if (asset := archive.assets.asset(asset_id))] == sent
    again = intake.accept([replace(one, name=name) for name in sent], key="once")
    assert (again.is_repeat, again.asset_ids == made.asset_ids) == (True, True)


def test_jobs_go_to_the_processor_of_the_content(intake: Intake, queue: FakeQueue) -> None:
    """Whatever the names say; the first document of several is marked."""
    contents = [b"GIF89a" + bytes(20), b'{"n": 1}', b'{"n": 2}', b"words"]

    intake.accept([intake.put("x.json", content) for content in contents])

    assert [job.type for job in queue.enqueued] == ["media", "json", "json", "other"]
    assert ["is_first" in job.payload for job in queue.enqueued] == [False, True, False, False]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b'{"words": "' + b"long " * 20_000 + b'"}', "json"),
        (b'{"words": "' + b"long " * 20_000, "other"),
        (b'{"words": "' + b"long " * 300_000, "json"),
        (b"long " * 20_000, "other"),
        (b"", "other"),
    ],
    ids=["a document", "one that is cut off", "one that is too large to be parsed here", "text", "nothing"],
)
def test_a_file_is_seen_as_a_whole_however_it_comes(
    archive: Archive, intake: Intake, content: bytes, kind: str
) -> None:
    """Its first bytes are kept while it comes, in whatever pieces, and the rest is read where that decides."""
    with archive.objects.incoming() as incoming:
        for start in range(0, len(content), 50_000):
            incoming.write(content[start : start + 50_000])
        in_pieces = Brought.of("a.txt", incoming)

    assert in_pieces.identity == intake.put("a.txt", content).identity
    assert in_pieces.identity.kind == kind


def test_placing_again_gives_the_same(archive: Archive, intake: Intake, queue: FakeQueue) -> None:
    """The same attempt repeated changes nothing; one that was overtaken leaves nothing behind."""
    asset = accepted(archive, intake, "notes.txt", b"notes")
    attempt = begin(archive, queue, asset)

    first = archive.process(attempt, _facts)
    again = archive.process(attempt, _facts)
    late = archive.process(AnAttempt(attempt.job, "another token"), _facts)

    placed = archive.assets.asset(asset.id)
    assert placed is not None
    assert (placed.state, placed.path, placed.rule) == (AssetState.DONE, first["path"], first["rule"])
    assert (again, late) == (first, {})
    assert (archive.library.root / first["path"]).read_bytes() == b"notes"


def test_an_overtaken_attempt_leaves_no_link(archive: Archive, intake: Intake, queue: FakeQueue) -> None:
    """What it linked before it was refused is taken away."""
    asset = accepted(archive, intake, "notes.txt", b"notes")
    attempt = begin(archive, queue, asset)

    assert archive.process(AnAttempt(attempt.job, "another token"), _facts) == {}

    assert [path for path in archive.library.root.rglob("*") if path.is_symlink()] == []


def test_a_shared_link_stays_until_the_last_asset_goes(archive: Archive, intake: Intake, queue: FakeQueue) -> None:
    """Two assets of the same name and bytes are shown by one link."""
    assets = [accepted(archive, intake, "twice.txt", b"the same") for _ in range(2)]
    attempts = [begin(archive, queue, asset) for asset in assets]
    paths = {archive.process(attempt, _facts)["path"] for attempt in attempts}
    for attempt in attempts:
        archive.store.settle([an_ending(attempt)])
    (path,) = paths
    link = archive.library.root / path

    archive.delete(assets[0].id)
    between = link.is_symlink()
    archive.delete(assets[1].id)

    assert between
    assert not link.is_symlink()
    assert archive.delete(assets[0].id) is None


def test_a_deleted_asset_has_nothing_to_do(archive: Archive) -> None:
    """Its job is done without effect."""
    assert archive.process(AnAttempt(Job(type="other", payload={"asset_id": "nobody"}), "token"), _facts) == {}


def test_documents_are_the_bytes_that_were_sent() -> None:
    """Blanks between items belong to none."""
    assert documents_of(b' {"a" : 1} ') == [b'{"a" : 1}']
    assert documents_of('[ {"ä": 1e0} ,{}]'.encode()) == ['{"ä": 1e0}'.encode(), b"{}"]
    for wrong in (b"", b"null", b'"text"', b"[[]]", b'[{"a": 1}, 2]', b'{"a": "\xff"}', b"[" * 100_000):
        with pytest.raises(NoDocument, match="payload"):
            documents_of(wrong)
