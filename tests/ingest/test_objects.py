"""The object store: what goes in comes out, whatever fails meanwhile."""

import errno
import hashlib
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from allocator.ingest import BadDigest, ObjectMissing, ObjectStore, ObjectStoreUnavailable, OutOfSpace, TooLarge
from tests.ingest.samples import SAMPLE_DATA, files_below, put

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "store")


def nobody(digests: Sequence[str]) -> set[str]:
    """Nothing refers to anything."""
    return set()


def everybody(digests: Sequence[str]) -> set[str]:
    """Something refers to all."""
    return set(digests)


def make_old(path: Path, age_s: float = 7200.0) -> None:
    """As if it had last been touched so long ago."""
    at = time.time() - age_s
    os.utime(path, (at, at))


def objects_of(store: ObjectStore) -> list[Path]:
    return files_below(store.root / "objects")


def incoming_of(store: ObjectStore) -> list[Path]:
    return files_below(store.root / "incoming")


# Put and get


def test_real_files_come_back_as_they_were(store: ObjectStore) -> None:
    """Every file of a folder reads back byte by byte, under the SHA-256 of its bytes."""
    sent = {path: path.read_bytes() for path in files_below(SAMPLE_DATA)}

    stored = {path: put(store, content) for path, content in sent.items()}

    for path, content in sent.items():
        with store.open(stored[path].sha256) as file:
            assert file.read() == content
        assert stored[path].sha256 == hashlib.sha256(content).hexdigest()
        assert stored[path].size_bytes == store.size(stored[path].sha256) == len(content)
    assert list(store.verify(expected=[one.sha256 for one in stored.values()])) == []
    assert incoming_of(store) == []


def test_the_same_bytes_are_stored_once(store: ObjectStore) -> None:
    """The second commit finds them there, and touches them."""
    first = put(store, b"again")
    make_old(store.path(first.sha256))

    second = put(store, b"again")

    assert (first.is_new, second.is_new) == (True, False)
    assert len(objects_of(store)) == 1
    assert time.time() - store.path(first.sha256).stat().st_mtime < 60
    assert incoming_of(store) == []


def test_chunks_of_any_kind_and_size_make_one_object(store: ObjectStore) -> None:
    """An empty file too."""
    with store.incoming() as incoming:
        for chunk in (b"", b"one", bytearray(b"two"), memoryview(b"three"), b"x" * 1_000_000):
            incoming.write(chunk)
        stored = incoming.commit()
    empty = put(store, b"")

    assert store.path(stored.sha256).read_bytes() == b"onetwothree" + b"x" * 1_000_000
    assert (empty.size_bytes, store.size(empty.sha256)) == (0, 0)


def test_objects_and_folders_have_tight_modes(store: ObjectStore) -> None:
    """Nobody else looks in, and nobody writes to an object by mistake."""
    stored = put(store, b"x")

    assert stat.S_IMODE(store.root.stat().st_mode) == 0o700
    assert stat.S_IMODE(store.path(stored.sha256).stat().st_mode) == 0o444


def test_leaving_without_commit_leaves_nothing(store: ObjectStore) -> None:
    """Whether by choice or by an error."""
    with store.incoming() as incoming:
        incoming.write(b"half")
    with suppress(KeyError), store.incoming() as incoming:
        incoming.write(b"half")
        raise KeyError

    assert objects_of(store) == incoming_of(store) == []
    with pytest.raises(ValueError, match="given up"):
        incoming.write(b"more")


def test_a_file_over_the_limit_is_refused(store: ObjectStore) -> None:
    """The limit itself is allowed; the error names it; what failed cannot be committed."""
    with store.incoming(max_bytes=4) as incoming:
        incoming.write(b"four")
        incoming.commit()
    with store.incoming(max_bytes=4) as incoming:
        incoming.write(b"fou")
        with pytest.raises(TooLarge, match="4 bytes") as refused:
            incoming.write(b"rs")
        with pytest.raises(ValueError, match="failed before"):
            incoming.commit()

    assert refused.value.max_bytes == 4
    assert len(objects_of(store)) == 1
    assert incoming_of(store) == []


@pytest.mark.parametrize(
    "digest", ["", "..", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n", "a/" * 32]
)
def test_no_path_leaves_the_store(store: ObjectStore, digest: str) -> None:
    """Only 64 lower-case hex digits name an object, for every method that takes a name."""
    for use in (store.path, store.open, store.size, lambda name: store.remove(name, nobody)):
        with pytest.raises(BadDigest):
            use(digest)


def test_an_object_that_is_not_there_is_said_to_be_missing(store: ObjectStore) -> None:
    """With its digest."""
    with pytest.raises(ObjectMissing, match="a" * 64):
        store.open("a" * 64)
    with pytest.raises(ObjectMissing):
        store.size("a" * 64)


def test_a_damaged_object_is_replaced_by_a_commit_of_its_bytes(store: ObjectStore) -> None:
    """A file of another size under its name is not taken for it."""
    stored = put(store, b"whole")
    path = store.path(stored.sha256)
    path.chmod(0o600)
    path.write_bytes(b"who")

    put(store, b"whole")

    assert path.read_bytes() == b"whole"


def test_a_folder_that_was_tidied_away_is_made_again(store: ObjectStore) -> None:
    """An empty one, by someone who does not like them."""
    digest = hashlib.sha256(b"x").hexdigest()
    store.path(digest).parent.rmdir()

    put(store, b"x")

    assert store.path(digest).read_bytes() == b"x"


# What fails


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["write", "fsync"])
def test_no_room_leaves_nothing_half_written(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    """However the file system says so; when there is room again, the same store works."""

    def full(*arguments: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        with pytest.raises(OutOfSpace, match="room"):
            put(store, b"x")

    assert objects_of(store) == incoming_of(store) == []
    assert put(store, b"x").is_new


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB of its own."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small file system can be mounted by root only, where mounting is allowed")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_real_disk_that_is_full_recovers(small_disk: Path) -> None:
    """Writes fail when it is full, nothing half-written is left, and they work again when something was deleted."""
    store = ObjectStore(small_disk / "store")
    filler = small_disk / "filler"
    filler.write_bytes(bytes(2 * 1024 * 1024))

    with pytest.raises(OutOfSpace):
        put(store, bytes(5 * 1024 * 1024))
    left = objects_of(store) + incoming_of(store)
    filler.unlink()
    stored = put(store, bytes(3 * 1024 * 1024))

    assert left == []
    assert store.size(stored.sha256) == 3 * 1024 * 1024


def test_what_else_the_file_system_says_names_what_to_check(tmp_path: Path) -> None:
    """A root that is a file; a store that was removed under a running server."""
    (tmp_path / "file").touch()
    with pytest.raises(ObjectStoreUnavailable, match="Check that it is mounted"):
        ObjectStore(tmp_path / "file")
    store = ObjectStore(tmp_path / "store")
    (tmp_path / "store").rename(tmp_path / "elsewhere")

    with pytest.raises(ObjectStoreUnavailable, match="Check that it is mounted"):
        store.incoming()


KILLED = """
import os, random, sys
from pathlib import Path
from allocator.ingest import ObjectStore
store = ObjectStore(Path(sys.argv[1]))
chance = random.Random(int(sys.argv[2]))
print("begun", flush=True)
while True:
    with store.incoming() as incoming:
        for _ in range(chance.randrange(1, 40)):
            incoming.write(chance.randbytes(chance.randrange(1, 20_000)))
        print(incoming.commit().sha256, flush=True)
"""


def test_a_writer_that_is_killed_leaves_only_whole_files(store: ObjectStore) -> None:
    """After kill -9 at ten moments: what is there hashes to its name, what was promised is there, the rest is swept."""
    promised: list[str] = []
    for seed in range(10):
        writer = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(store.root), str(seed)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == "begun\n"
        # After some of its commits, wherever it is by then.
        promised += [writer.stdout.readline().strip() for _ in range(seed % 4)]
        writer.kill()
        rest = writer.communicate()[0]
        promised += [line.strip() for line in rest.splitlines(keepends=True) if line.endswith("\n")]

    damage = list(store.verify(expected=promised))
    for path in incoming_of(store):
        make_old(path)
    swept = store.sweep(everybody)

    assert damage == []
    assert swept.objects == 0
    assert incoming_of(store) == []


# Several at once


def test_many_commit_the_same_bytes_at_once(store: ObjectStore) -> None:
    """Threads and stores of their own, one object, no error, no temporary file."""
    together = threading.Barrier(8)

    def commit(number: int) -> str:
        with ObjectStore(store.root).incoming() as incoming:
            incoming.write(b"the same" * 1000)
            together.wait(10)
            return incoming.commit().sha256

    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(commit, range(8)))

    assert [path.name for path in objects_of(store)] == list(digests)
    assert list(store.verify()) == []
    assert incoming_of(store) == []


def test_a_commit_of_old_bytes_survives_a_sweep_at_the_same_moment(store: ObjectStore) -> None:
    """The sweep has found them unreferenced and old; a commit comes in before it deletes: they stay."""
    stored = put(store, b"old")
    make_old(store.path(stored.sha256))
    asked: list[int] = []

    def commit_while_asked(digests: Sequence[str]) -> set[str]:
        asked.append(len(digests))
        if len(asked) == 1:
            put(store, b"old")
        return set()

    swept = store.sweep(commit_while_asked)

    assert asked == [1, 1]
    assert swept.objects == 0
    assert store.path(stored.sha256).read_bytes() == b"old"


def test_commits_and_sweeps_beside_each_other_lose_nothing(store: ObjectStore) -> None:
    """Old bytes are committed again while sweeps go on all the time: after each commit they are there."""
    stop = threading.Event()
    swept: list[int] = []

    def sweep() -> None:
        while not stop.is_set():
            swept.append(store.sweep(nobody).objects)

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    missing = 0
    try:
        deadline = time.monotonic() + 30
        while sum(swept) < 20 and time.monotonic() < deadline:
            for number in range(3):
                stored = put(store, b"%d" % number)
                missing += not store.path(stored.sha256).exists()
                make_old(store.path(stored.sha256))
    finally:
        stop.set()
        sweeper.join(30)

    assert missing == 0
    assert sum(swept) >= 20


def test_an_upload_that_is_slow_is_not_swept(store: ObjectStore) -> None:
    """However long ago the last byte came: its writer lives. One without a writer goes."""
    with store.incoming() as incoming:
        incoming.write(b"slow")
        make_old(incoming.path)
        left = store.root / "incoming" / "left"
        left.write_bytes(b"abandoned")
        make_old(left)
        young = store.root / "incoming" / "young"
        young.write_bytes(b"just now")

        swept = store.sweep(nobody)
        stored = incoming.commit()

    assert swept.incoming == 1
    assert incoming_of(store) == [young]
    assert store.path(stored.sha256).read_bytes() == b"slow"


# Look after


def test_a_sweep_takes_what_is_old_and_unreferenced(store: ObjectStore) -> None:
    """And counts it; what is young or referred to stays."""
    old, kept, young = (put(store, content) for content in (b"old!", b"kept", b"young"))
    make_old(store.path(old.sha256))
    make_old(store.path(kept.sha256))

    swept = store.sweep(lambda digests: {kept.sha256} & set(digests))

    assert (swept.objects, swept.bytes, swept.incoming) == (1, 4, 0)
    assert {path.name for path in objects_of(store)} == {kept.sha256, young.sha256}


def test_what_is_kept_is_young_again(store: ObjectStore) -> None:
    """However soon a sweep takes what is not; what is gone already is told."""
    kept, left, gone = (put(store, content) for content in (b"kept", b"left", b"gone"))
    for one in (kept, left):
        make_old(store.path(one.sha256), 20.0)
    store.path(gone.sha256).unlink()

    store.keep(kept.sha256)

    assert store.sweep(nobody, older_than_s=10.0).objects == 1
    assert store.size(kept.sha256) == 4
    with pytest.raises(ObjectMissing):
        store.keep(gone.sha256)


def test_a_sweep_asks_in_batches(store: ObjectStore) -> None:
    """A thousand objects do not become one question."""
    for number in range(1100):
        digest = hashlib.sha256(b"%d" % number).hexdigest()
        store.path(digest).write_bytes(b"%d" % number)
        make_old(store.path(digest))
    sizes: list[int] = []

    def asked(digests: Sequence[str]) -> set[str]:
        sizes.append(len(digests))
        return set()

    swept = store.sweep(asked)

    assert swept.objects == 1100
    assert max(sizes) <= 500


def test_remove_deletes_what_nothing_refers_to(store: ObjectStore) -> None:
    """Not while something does, not while another upload may be on its way, and once only."""
    stored = put(store, b"x")

    young = store.remove(stored.sha256, nobody)
    make_old(store.path(stored.sha256))
    referenced = store.remove(stored.sha256, everybody)
    deleted = store.remove(stored.sha256, nobody)
    again = store.remove(stored.sha256, nobody)

    assert (young, referenced, deleted, again) == (False, False, True, False)
    assert objects_of(store) == []


def test_verify_names_all_that_is_wrong(store: ObjectStore) -> None:
    """Changed bytes, missing ones, files and links that are not ours."""
    good, changed = put(store, b"good"), put(store, b"changed")
    path = store.path(changed.sha256)
    path.chmod(0o600)
    path.write_bytes(b"CHANGED")
    (store.root / "objects" / "notes").mkdir()
    (store.path(good.sha256).parent / "thumbs.db").touch()
    gone = hashlib.sha256(b"gone").hexdigest()
    outside = hashlib.sha256(b"outside").hexdigest()
    store.path(outside).symlink_to("/etc/passwd")

    found = {damage.path.rpartition("/")[2]: damage.problem for damage in store.verify(expected=[good.sha256, gone])}

    assert found == {
        gone: "missing",
        changed.sha256: "wrong content",
        "notes": "foreign file",
        "thumbs.db": "foreign file",
        outside: "foreign file",
    }
