"""Uploads and assets: accepted once, placed by who holds the lease, found again page by page."""

import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import Select, event, text

from allocator.domain.errors import InvalidJob, QueueUnavailable
from allocator.domain.ids import new_id
from allocator.domain.job import Job
from allocator.domain.lease import Lease
from allocator.persistence import Asset, AssetBusy, Assets, KeyReused, Store, Upload, migrating
from allocator.persistence.assets import ASSETS_OF_UPLOAD, COUNTS, PLACED, page_of
from tests.persistence.builders import NOW, FakeQueue, Opener, a_job, a_lease, an_ending, finished, state_of


@dataclass
class Sent:
    """An upload as a request brings it: one asset for each name, with its job."""

    names: tuple[str, ...] = ("a.txt",)
    owner: str = "ann"
    key: str | None = None
    digest: str = "d1"
    received_at: float = NOW
    changes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.upload = Upload(id=new_id(), owner=self.owner, key=self.key, digest=self.digest, created_at=NOW)
        job_ids = [new_id() for _ in self.names]
        self.assets = [
            Asset(
                **{
                    "id": new_id(),
                    "upload_id": self.upload.id,
                    "job_id": job_id,
                    "owner": self.owner,
                    "name": name,
                    "size_bytes": 3_000_000_000,
                    "sha256": f"hash of {name}",
                    "received_at": self.received_at,
                    **self.changes,
                }
            )
            for name, job_id in zip(self.names, job_ids, strict=True)
        ]
        self.jobs = [
            Job(type="allocate", payload={"asset": asset.id}, id=job_id)
            for asset, job_id in zip(self.assets, job_ids, strict=True)
        ]


@pytest.fixture
def assets(store: Store) -> Assets:
    """The uploads and assets of an empty store."""
    return Assets(store)


def accepted(assets: Assets, queue: FakeQueue, *names: str, **changes: Any) -> list[Asset]:
    """The assets of a new upload."""
    sent = Sent(names or ("a.txt",), changes=changes.pop("changes", {}), **changes)
    assert assets.accept(queue, sent.upload, sent.assets, sent.jobs) == sent.upload
    return sent.assets


def begun(store: Store, queue: FakeQueue, asset: Asset, at: float = NOW, attempt: int = 1) -> Lease:
    """A lease of an asset's job, begun."""
    lease = a_lease(a_job(id=asset.job_id), attempt=attempt, at=at)
    assert store.begin([lease], queue).runnable == [lease]
    return lease


def place(assets: Assets, asset: Asset, token: str, **changes: Any) -> bool:
    """Record that the asset was put somewhere."""
    said = {"kind": "other", "type": "text/plain", "path": "2024/a.txt", "rule": "default", "at": NOW + 2}
    return assets.place(asset.id, token, **{**said, "facts_json": b'{"lines":1}', **changes})


def seen(assets: Assets, asset: Asset) -> Asset:
    """The asset as it is stored, which it must be."""
    found = assets.asset(asset.id)
    assert found is not None
    return found


def counts_of(assets: Assets, upload_id: str) -> dict[str, int]:
    """How the assets of an upload stand, which there must be."""
    standing = assets.standing(upload_id)
    assert standing is not None
    return standing.counts


# Accept


def test_an_accepted_upload_reads_back(store: Store, assets: Assets, queue: FakeQueue) -> None:
    """With its assets in order; their jobs are in the store and in the queue."""
    sent = Sent(("a.txt", "b.txt"), key="k")
    sent.upload.comments = "two files"
    sent.assets[0].comments = "the first"

    stored = assets.accept(queue, sent.upload, sent.assets, sent.jobs)

    assert stored == sent.upload == assets.upload(sent.upload.id) == assets.keyed("ann", "k")
    assert assets.assets_of(sent.upload.id) == sent.assets
    assert counts_of(assets, sent.upload.id) == {"queued": 2, "processing": 0, "done": 0, "failed": 0, "total": 2}
    assert [job.id for job in queue.enqueued] == [job.id for job in sent.jobs]
    assert {state_of(store, job.id) for job in sent.jobs} == {"queued"}


def test_a_key_that_comes_again_with_the_same_content(store: Store, assets: Assets, queue: FakeQueue) -> None:
    """Gives the first upload; nothing is written."""
    first, again = Sent(key="k"), Sent(key="k")

    answers = [assets.accept(queue, sent.upload, sent.assets, sent.jobs) for sent in (first, again)]

    assert answers == [first.upload, first.upload]
    assert assets.upload(again.upload.id) is None
    assert assets.find() == first.assets
    assert [job.id for job in store.jobs()] == [first.jobs[0].id]
    assert [job.id for job in queue.enqueued] == [first.jobs[0].id]


def test_a_key_that_comes_again_with_other_content(assets: Assets, queue: FakeQueue) -> None:
    """Is refused, naming the upload that has it; nothing is written."""
    first, other = Sent(key="k"), Sent(key="k", digest="d2")
    assets.accept(queue, first.upload, first.assets, first.jobs)

    with pytest.raises(KeyReused, match=r"'k'.*use a new key") as caught:
        assets.accept(queue, other.upload, other.assets, other.jobs)

    assert caught.value.upload_id == first.upload.id
    assert assets.find() == first.assets


def test_keys_belong_to_their_owners(assets: Assets, queue: FakeQueue) -> None:
    """The same key of two owners is two uploads, and no key is no repetition."""
    for owner, key in (("ann", "k"), ("bob", "k"), ("ann", None), ("ann", None)):
        accepted(assets, queue, owner=owner, key=key)

    assert len(assets.find()) == 4


def test_an_upload_that_is_sent_again_after_a_lost_reply(assets: Assets, queue: FakeQueue) -> None:
    """Without a key its id tells that it is known."""
    sent = Sent()

    answers = [assets.accept(queue, sent.upload, sent.assets, sent.jobs) for _ in range(2)]

    assert answers == [sent.upload, sent.upload]
    assert assets.find() == sent.assets


def test_processes_with_the_same_key_at_once(opener: Opener, queue: FakeQueue) -> None:
    """One wins, and all the others get the winner's."""
    rooms = [Assets(opener()) for _ in range(4)]
    barrier = Barrier(4)

    def accept(number: int, key: str) -> Upload:
        sent = Sent(("a.txt", "b.txt"), key=key)
        barrier.wait(10)
        return rooms[number].accept(queue, sent.upload, sent.assets, sent.jobs)

    with ThreadPoolExecutor(4) as pool:
        answers = [set(map(str, pool.map(accept, range(4), [f"k{n}"] * 4))) for n in range(10)]

    assert [len(answer) for answer in answers] == [1] * 10
    assert len(rooms[0].find()) == 20
    assert len({job.id for job in queue.enqueued}) == 20


def test_an_upload_survives_a_queue_that_fails_after_the_commit(store: Store, assets: Assets, queue: FakeQueue) -> None:
    """It is stored whole and listed for the reconciler; sent again it is enqueued."""
    sent, again = Sent(("a.txt", "b.txt"), key="k"), Sent(("a.txt", "b.txt"), key="k")
    queue.broken = True

    with pytest.raises(QueueUnavailable):
        assets.accept(queue, sent.upload, sent.assets, sent.jobs)

    assert assets.keyed("ann", "k") == sent.upload
    assert [job.id for job in store.unfinished(queue.identity)] == [job.id for job in sent.jobs]
    queue.broken = False
    assert assets.accept(queue, again.upload, again.assets, again.jobs) == sent.upload
    assert [job.id for job in queue.enqueued] == [job.id for job in sent.jobs]


def test_only_jobs_that_have_not_ended_are_enqueued_again(
    store: Store, assets: Assets, queue: FakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of this queue and batch by batch; those of another queue are that one's."""
    monkeypatch.setattr("allocator.persistence.assets.AGAIN_BATCH", 2)
    sent = Sent(("a", "b", "c", "d", "e"), key="k")
    assets.accept(queue, sent.upload, sent.assets, sent.jobs)
    store.settle([an_ending(begun(store, queue, sent.assets[1]), "done")])
    queue.enqueued.clear()
    other = FakeQueue("another")

    assets.accept(queue, sent.upload, sent.assets, sent.jobs)
    assets.accept(other, sent.upload, sent.assets, sent.jobs)

    assert [job.id for job in queue.enqueued] == [sent.jobs[n].id for n in (0, 2, 3, 4)]
    assert other.enqueued == []


def test_a_closed_queue_accepts_nothing(assets: Assets, queue: FakeQueue) -> None:
    """The queue's own refusal comes before the commit."""
    queue.closed = True
    sent = Sent()

    with pytest.raises(RuntimeError, match="closed"):
        assets.accept(queue, sent.upload, sent.assets, sent.jobs)

    assert assets.upload(sent.upload.id) is None


def test_an_upload_is_accepted_as_a_whole(store: Store, assets: Assets, queue: FakeQueue) -> None:
    """One asset or job that is refused leaves nothing behind; one with thousands of assets goes in."""
    taken = accepted(assets, queue)[0]
    clash, refused = Sent(("a", "b")), Sent(("a", "b"))
    clash.assets[1].id = taken.id
    refused.jobs[1].priority = 5000

    with pytest.raises(Exception, match=r"(?i)unique"):
        assets.accept(queue, clash.upload, clash.assets, clash.jobs)
    with pytest.raises(InvalidJob):
        assets.accept(queue, refused.upload, refused.assets, refused.jobs)

    assert [assets.upload(sent.upload.id) for sent in (clash, refused)] == [None, None]
    assert len(store.jobs()) == 1
    large = accepted(assets, queue, *map(str, range(2500)))
    assert counts_of(assets, large[0].upload_id)["queued"] == 2500


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"job_id": "another"}, "one of its own"),
        ({"upload_id": "another"}, "not of"),
        ({"owner": "another"}, "not of"),
        ({"name": "nul\0"}, "name: .*NUL"),
        ({"comments": "\ud800"}, "comments: .*lone surrogate"),
        ({"sha256": ""}, "sha256: must have 1 to 200"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    assets: Assets, queue: FakeQueue, changes: dict[str, Any], said: str
) -> None:
    """Before anything is written."""
    sent = Sent(changes=changes)

    with pytest.raises(ValueError, match=said):
        assets.accept(queue, sent.upload, sent.assets, sent.jobs)

    assert assets.upload(sent.upload.id) is None


# Place, and how an asset stands


def test_a_placed_asset_is_done(store: Store, assets: Assets, queue: FakeQueue) -> None:
    """Before its job has ended, and the same call again changes nothing."""
    asset = accepted(assets, queue)[0]
    lease = begun(store, queue, asset)

    answers = [place(assets, asset, lease.token) for _ in range(2)]

    found = seen(assets, asset)
    assert answers == [True, True]
    assert (found.state, found.kind, found.type, found.error) == ("done", "other", "text/plain", None)
    assert (found.path, found.rule, found.placed_at, found.facts_json) == (
        "2024/a.txt",
        "default",
        NOW + 2,
        b'{"lines":1}',
    )
    assert assets.placed() == [("2024/a.txt", asset.sha256, asset.id)]


def test_a_late_worker_places_nothing(store: Store, assets: Assets, queue: FakeQueue) -> None:
    """Before the job begins, under the token of an attempt that was replaced, after the end, or where nothing is."""
    asset = accepted(assets, queue)[0]
    early = place(assets, asset, "token")
    late = begun(store, queue, asset)
    present = begun(store, queue, asset, at=NOW + 20, attempt=2)

    fenced = place(assets, asset, late.token, path="late")
    inside = place(assets, asset, present.token, path="present")
    store.settle([an_ending(present)])
    after = place(assets, asset, present.token, path="after")
    nowhere = assets.place("nobody", present.token, "other", "text/plain", "x", "default", None, NOW)

    assert [early, fenced, inside, after, nowhere] == [False, False, True, False, False]
    assert seen(assets, asset).path == "present"


def test_a_later_attempt_places_anew(store: Store, assets: Assets, queue: FakeQueue) -> None:
    """Where the first died between placing and its end."""
    asset = accepted(assets, queue)[0]
    place(assets, asset, begun(store, queue, asset).token, path="first")

    again = place(assets, asset, begun(store, queue, asset, at=NOW + 20, attempt=2).token, path="second")

    assert again
    assert (seen(assets, asset).path, seen(assets, asset).attempts) == ("second", 2)


def tell_statements(store: Store, tell: Callable[[str], None]) -> None:
    """Have each be told before it runs; on SQLite also those that go straight to the driver."""
    if store.has_one_writer:

        @event.listens_for(store.engine, "checkout")
        def _trace(connection: sqlite3.Connection, *_: Any) -> None:
            connection.set_trace_callback(tell)

    else:

        @event.listens_for(store.engine, "before_cursor_execute")
        def _before(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            tell(statement)


def test_a_worker_that_is_replaced_while_it_places(opener: Opener, queue: FakeQueue) -> None:
    """The word of the later attempt stands, also where it begins between the look at the token and the writing."""
    stores = [opener(), opener()]
    rooms = [Assets(store) for store in stores]
    asset = accepted(rooms[0], queue)[0]
    lease = begun(stores[0], queue, asset)
    later: list[Future[bool]] = []

    def later_attempt() -> bool:
        return place(rooms[1], asset, begun(stores[1], queue, asset, at=NOW + 20, attempt=2).token, path="later")

    with ThreadPoolExecutor(1) as pool:

        def before(statement: str) -> None:
            if statement.startswith("UPDATE assets"):
                later.append(pool.submit(later_attempt))
                # It has to wait for this transaction: so much time is enough for one that has not.
                wait(later, timeout=0.3)

        tell_statements(stores[0], before)
        answers = [place(rooms[0], asset, lease.token, path="first"), later[0].result(10)]

    assert answers == [True, True]
    assert seen(rooms[0], asset).path == "later"


def test_an_asset_stands_as_its_job_does(store: Store, assets: Assets, queue: FakeQueue) -> None:
    """Until it is placed; an asset that failed says why."""
    names = ("queued", "processing", "retried", "placed", "dead", "cancelled", "done, not placed", "pruned")
    brought = dict(zip(names, accepted(assets, queue, *names), strict=True))
    leases = {name: begun(store, queue, asset) for name, asset in brought.items() if name != "queued"}
    place(assets, brought["placed"], leases["placed"].token)
    store.settle(
        [
            an_ending(leases["retried"], "retry", error="try again"),
            an_ending(leases["placed"]),
            an_ending(leases["dead"], "dead", error="a bomb"),
            an_ending(leases["cancelled"], "cancelled"),
            an_ending(leases["done, not placed"]),
            an_ending(leases["pruned"], "dead", error="forgotten", finished_at=NOW - 1000),
        ]
    )
    store.retain(age_s=500, now=NOW)

    found = {asset.name: (asset.state, asset.error, asset.attempts) for asset in assets.find()}
    counts = counts_of(assets, brought["dead"].upload_id)

    assert found["queued"] == ("queued", None, 0)
    assert found["processing"] == ("processing", None, 1)
    assert found["retried"] == ("queued", "try again", 1)
    assert found["placed"] == ("done", None, 1)
    assert found["dead"] == ("failed", "a bomb", 1)
    assert found["cancelled"] == ("failed", "cancelled", 1)
    assert found["done, not placed"][0] == "failed"
    assert "did not place it" in str(found["done, not placed"][1])
    assert (found["pruned"][0], found["pruned"][2]) == ("failed", None)
    assert "no longer kept" in str(found["pruned"][1])
    assert counts == {"queued": 2, "processing": 1, "done": 1, "failed": 4, "total": 8}


def test_a_placed_asset_stays_done_without_its_job(store: Store, assets: Assets, queue: FakeQueue) -> None:
    """Retention takes the job's record and leaves the asset's."""
    asset = accepted(assets, queue)[0]
    lease = begun(store, queue, asset)
    place(assets, asset, lease.token)
    store.settle([an_ending(lease)])

    pruned = store.retain(count=0)

    assert pruned == 1
    assert (seen(assets, asset).state, seen(assets, asset).attempts) == ("done", None)


# Find


def test_pages_stay_as_they_are_while_rows_are_added(assets: Assets, queue: FakeQueue) -> None:
    """Newest first, those of one instant by id; none comes twice and none is left out."""
    for n in range(5):
        accepted(assets, queue, f"{n}a", f"{n}b", received_at=NOW + n)
    names = [f"{n}{half}" for n in (4, 3, 2, 1, 0) for half in "ba"]

    pages = [assets.find(limit=3)]
    while pages[-1]:
        accepted(assets, queue, "newer", received_at=NOW + 100)
        last = pages[-1][-1]
        pages.append(assets.find(limit=3, after=last if len(pages) % 2 else (last.received_at, last.id)))

    assert [asset.name for page in pages for asset in page] == names


def test_pages_of_an_upload_come_in_order(assets: Assets, queue: FakeQueue) -> None:
    """By an asset or its id."""
    brought = accepted(assets, queue, *"abcde")
    accepted(assets, queue, "another")
    upload_id = brought[0].upload_id

    first = assets.assets_of(upload_id, 2)
    second = assets.assets_of(upload_id, 2, after=first[-1])
    third = assets.assets_of(upload_id, 2, after=second[-1].id)

    assert first + second + third == brought


def test_each_filter_gives_its_own(store: Store, assets: Assets, queue: FakeQueue) -> None:
    """Alone and together; of a span of time the start belongs to it, the end does not."""
    picture, letter, note = (
        accepted(assets, queue, name, owner=owner, received_at=NOW + at)[0]
        for name, owner, at in (("picture", "ann", 0), ("letter", "ann", 10), ("note", "bob", 20))
    )
    place(assets, picture, begun(store, queue, picture).token, kind="media", type="image/png")
    place(assets, letter, begun(store, queue, letter).token)

    def names(**wanted: Any) -> list[str]:
        return [asset.name for asset in assets.find(**wanted)]

    assert names() == ["note", "letter", "picture"]
    assert names(owner="ann") == ["letter", "picture"]
    assert names(kind="media") == ["picture"]
    assert names(type="text/plain") == ["letter"]
    assert names(received_after=NOW + 10) == ["note", "letter"]
    assert names(received_before=NOW + 10) == ["picture"]
    assert names(received_after=NOW, received_before=NOW + 20, after=note) == ["letter", "picture"]
    assert names(received_before=NOW + 10, after=note) == ["picture"]
    assert names(owner="ann", kind="other", text="ETT") == ["letter"]
    assert names(owner="bob", kind="media") == []


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("REPORT", ["100%_report.txt", "1000 reported"]),
        ("0%_r", ["100%_report.txt"]),
        ("%", ["100%_report.txt"]),
        ("_", ["100%_report.txt"]),
        ("/", ["c/d"]),
        ("\\", ["e\\f"]),
        ("a'--", []),
        ("ÄRGER", ["a\u0308rger"]),
        ("strasse", ["Straße"]),
        ("ΣΟΦΊΑ", ["σοφία"]),
        ("first of may", ["σοφία"]),
        ("", ["σοφία", "Straße", "a\u0308rger", "e\\f", "c/d", "100%_report.txt", "1000 reported"]),
    ],
)
def test_text_is_looked_for_as_it_is(assets: Assets, queue: FakeQueue, wanted: str, names: list[str]) -> None:
    """In names and comments, whatever the case; nothing in it is a wildcard."""
    accepted(assets, queue, "1000 reported", "100%_report.txt", "c/d", "e\\f", "a\u0308rger", "Straße")
    accepted(assets, queue, "σοφία", received_at=NOW + 1, changes={"comments": "On the First of May"})

    found = [asset.name for asset in assets.find(text=wanted)]

    assert found == names


def test_files_are_known_by_owner_name_bytes_and_comments(store: Store, assets: Assets, queue: FakeQueue) -> None:
    """The last received of each; none of what was not asked for, nor what was deleted since."""
    first = accepted(assets, queue, "a.txt", "b.txt")
    last = accepted(assets, queue, "a.txt", received_at=NOW + 1)
    (said,) = accepted(assets, queue, "a.txt", changes={"comments": "other words"})
    a, b = (("a.txt", "hash of a.txt"), ("b.txt", "hash of b.txt"))
    crossed = [("a.txt", b[1]), ("b.txt", a[1]), ("\0", a[1]), ("a.txt", "\0")]

    found = assets.known([a, b, *crossed], "ann", None)

    assert {file: known.asset_id for file, known in found.items()} == {a: last[0].id, b: first[1].id}
    assert found[b].upload_id == first[1].upload_id
    assert assets.known([a], "ann", "other words")[a].asset_id == said.id
    assert assets.known([a], "bob", None) == assets.known([], "ann", None) == assets.known([a], "\0", None) == {}


def test_text_that_no_database_takes(assets: Assets, queue: FakeQueue) -> None:
    """Is refused where it is a filter, and not found where it is an id."""
    for wanted in ({"text": "\0"}, {"owner": "\ud800"}, {"text": "x" * 1001}, {"after": (NOW, "\0")}):
        with pytest.raises(ValueError, match=r"NUL|more than 1000"):
            assets.find(**wanted)

    found = [assets.asset("\0"), assets.upload("\ud800"), assets.keyed("a", "\0"), assets.delete("\0")]

    assert found == [None] * 4
    assert assets.assets_of("\0") == []
    sent = accepted(assets, queue)
    standing = assets.standing(sent[0].upload_id, after="\0")
    assert standing is not None
    assert standing.assets == []
    assert assets.standing("\0") is assets.standing("nobody") is None
    assert assets.referenced(["\0"]) == set()


def test_the_hashes_come_in_pages(assets: Assets, queue: FakeQueue) -> None:
    """Each once, however many assets have it, placed or not."""
    for names in ("ba", "cab", "d"):
        accepted(assets, queue, *names)

    first = assets.digests(limit=3)
    rest = assets.digests(first[-1], limit=3)

    assert first + rest == [f"hash of {name}" for name in "abcd"]


def test_an_asset_is_moved_from_where_it_is(store: Store, assets: Assets, queue: FakeQueue) -> None:
    """To another path in the record; not by one who saw it elsewhere."""
    asset = accepted(assets, queue)[0]
    place(assets, asset, begun(store, queue, asset).token, path="here")
    (placed,) = assets.placed()

    answers = [assets.move(placed, "there") for _ in range(2)]

    assert answers == [True, False]
    assert seen(assets, asset).path == "there"


def test_the_placed_come_in_pages(store: Store, assets: Assets, queue: FakeQueue) -> None:
    """In the order of ids; those that are not placed are passed over."""
    brought = accepted(assets, queue, *"abcd")
    for asset in brought[1:]:
        place(assets, asset, begun(store, queue, asset).token, path=f"to/{asset.name}")

    first = assets.placed(limit=2)
    second = assets.placed(first[-1].id, limit=2)

    assert [placed.path for placed in first + second] == ["to/b", "to/c", "to/d"]


# Delete


def test_a_deleted_asset_is_forgotten(store: Store, assets: Assets, queue: FakeQueue) -> None:
    """It comes back as it was; its bytes are referenced for as long as another asset has the same."""
    first = accepted(assets, queue, "same")[0]
    second = accepted(assets, queue, "same")[0]
    for asset in (first, second):
        lease = begun(store, queue, asset)
        place(assets, asset, lease.token)
        store.settle([an_ending(lease)])
    before = seen(assets, first)

    deleted = assets.delete(first.id)
    shared = assets.referenced([first.sha256, "unknown"])
    assets.delete(second.id)

    assert deleted == before
    assert shared == {first.sha256}
    assert assets.referenced([first.sha256]) == set()
    assert [assets.asset(first.id), assets.delete(first.id)] == [None, None]


def test_an_asset_that_is_worked_on_is_not_deleted(store: Store, assets: Assets, queue: FakeQueue) -> None:
    """The error names the state; once the job was cancelled it goes."""
    asset = accepted(assets, queue)[0]
    with pytest.raises(AssetBusy, match=f"asset {asset.id}.* is queued"):
        assets.delete(asset.id)
    begun(store, queue, asset)
    with pytest.raises(AssetBusy, match="processing") as caught:
        assets.delete(asset.id)
    store.copy_back({asset.job_id: "cancelled"}, store.unfinished(queue.identity))

    deleted = assets.delete(asset.id)

    assert (caught.value.state, caught.value.job_id) == ("processing", asset.job_id)
    assert deleted is not None
    assert assets.find() == []


def test_what_was_deleted_can_be_sent_again(store: Store, assets: Assets, queue: FakeQueue) -> None:
    """The upload gives up its key with its first asset that goes, and is gone with its last."""
    first, second = accepted(assets, queue, "a", "b", key="k")
    for asset in (first, second):
        assert store.cancel(asset.job_id)

    assets.delete(first.id)
    without_key = assets.upload(first.upload_id)
    again = accepted(assets, queue, "a", "b", key="k")
    assets.delete(second.id)

    assert without_key is not None
    assert without_key.key is None
    assert assets.upload(first.upload_id) is None
    assert assets.keyed("ann", "k") == assets.upload(again[0].upload_id)
    assert {asset.id for asset in assets.find()} == {asset.id for asset in again}


def test_the_last_assets_of_an_upload_deleted_at_once(opener: Opener, queue: FakeQueue) -> None:
    """Each is deleted once, and the upload does not stay behind."""
    rooms = [Assets(opener()) for _ in range(2)]
    barrier = Barrier(2)

    def remove(number: int, asset: Asset) -> bool:
        barrier.wait(10)
        return rooms[number].delete(asset.id) is not None

    for _ in range(10):
        pair = accepted(rooms[0], queue, "a", "b")
        for asset in pair:
            rooms[0]._store.cancel(asset.job_id)
        with ThreadPoolExecutor(2) as pool:
            apart = list(pool.map(remove, range(2), pair))
        assert apart == [True, True]
        assert rooms[0].upload(pair[0].upload_id) is None

    same = accepted(rooms[0], queue)[0]
    rooms[0]._store.cancel(same.job_id)
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(remove, range(2), [same, same])) == [False, True]


# The database


def test_a_database_of_the_first_revision_is_upgraded(
    opener: Opener, queue: FakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its jobs and their attempts stay, and uploads can be accepted."""
    monkeypatch.setattr(migrating, "HEAD", "0001")
    old = opener()
    done = finished(old, queue)
    waiting = old.submit(queue, a_job(payload="kept")).id
    with old.engine.connect() as connection:
        columns = connection.execute(text("SELECT * FROM assets")).keys()
    monkeypatch.undo()

    store = opener()
    assets = Assets(store)
    asset = accepted(assets, queue)[0]

    assert "placement" in columns
    assert [state_of(store, id) for id in (done, waiting)] == ["done", "queued"]
    kept = store.job(waiting)
    assert kept is not None
    assert kept.payload == "kept"
    ended = store.job(done)
    assert ended is not None
    assert len(ended.attempts) == 1
    assert assets.find() == [asset]


@pytest.mark.parametrize(
    ("query", "index"),
    [
        pytest.param(COUNTS.params(upload_id="x"), "assets_upload", id="counts of an upload"),
        pytest.param(ASSETS_OF_UPLOAD.params(upload_id="x", after_id="", limit=9), "assets_upload", id="an upload"),
        pytest.param(page_of().limit(9), "assets_received", id="first page"),
        pytest.param(page_of(after=(5.0, "x")).limit(9), "assets_received", id="next page"),
        pytest.param(page_of(received_after=1.0, received_before=9.0).limit(9), "assets_received", id="span of time"),
        pytest.param(page_of(text="x").limit(9), "assets_received", id="text"),
        pytest.param(page_of("ann").limit(9), "assets_owner", id="one owner"),
        pytest.param(page_of("ann", after=(5.0, "x")).limit(9), "assets_owner", id="next page of one owner"),
        pytest.param(page_of(kind="media").limit(9), "assets_kind", id="one kind"),
        pytest.param(page_of(kind="media", after=(5.0, "x")).limit(9), "assets_kind", id="next page of one kind"),
        pytest.param(PLACED.params(after_id="x", limit=9), ("assets_pkey", "autoindex_assets"), id="placed"),
    ],
)
def test_the_plan(store: Store, query: Select[Any], index: str | tuple[str, ...]) -> None:
    """The index is used, nothing is sorted, and each asset's job is found by its id."""
    written = query.compile(store.engine, compile_kwargs={"literal_binds": True})

    plan = _plan(store, str(written))

    assert any(name in plan for name in ([index] if isinstance(index, str) else index)), plan
    assert "Sort" not in plan, plan
    assert "TEMP B-TREE" not in plan, plan
    assert "Seq Scan" not in plan, plan
    assert "SCAN jobs" not in plan, plan


def test_the_plan_of_references(store: Store, assets: Assets) -> None:
    """Each hash is looked for in the index."""
    query = assets._statements.referenced.params(**store._statements.ids(["x", "y"]))
    given = "ARRAY['x', 'y']" if store.engine.dialect.name == "postgresql" else "'[]'"
    written = str(query.compile(store.engine)).replace("%(ids)s::TEXT[]", given).replace("?", given)

    plan = _plan(store, written)

    assert "assets_sha256" in plan, plan
    assert "Seq Scan on assets" not in plan, plan
    assert "SCAN assets" not in plan, plan


def _plan(store: Store, written: str) -> str:
    explain = "EXPLAIN QUERY PLAN" if store.engine.dialect.name == "sqlite" else "EXPLAIN"
    with store.engine.connect() as connection:
        rows = connection.exec_driver_sql(f"{explain} {written}".replace("%", "%%")).all()
    return "\n".join(str(row[-1]) for row in rows)
