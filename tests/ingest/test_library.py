"""The library: links that lead to what was stored, and nowhere else."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from allocator.ingest import BadDigest, BadPath, Library, LibraryUnavailable, ObjectStore
from tests.ingest.samples import files_below, put

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "home" / "store")


@pytest.fixture
def library(tmp_path: Path, store: ObjectStore) -> Library:
    return Library(tmp_path / "home" / "library", store)


def tree(library: Library) -> dict[str, bytes]:
    """All that can be read in the library."""
    return {str(path.relative_to(library.root)): path.read_bytes() for path in files_below(library.root)}


def test_a_link_leads_to_the_bytes(library: Library, store: ObjectStore) -> None:
    """At any depth, relative, and also after both were moved together."""
    stored = put(store, b"x")

    used = [library.link(path, stored.sha256, "asset") for path in ("x.txt", "a/b/c/x.txt")]
    library.root.parent.rename(library.root.parent.with_name("moved"))

    assert used == ["x.txt", "a/b/c/x.txt"]
    moved = library.root.parent.with_name("moved") / "library"
    assert [(moved / path).read_bytes() for path in used] == [b"x", b"x"]
    assert not os.readlink(moved / "x.txt").startswith("/")


def test_linking_again_changes_nothing(library: Library, store: ObjectStore) -> None:
    """The same path, also where other bytes have the one asked for, and also when those are gone."""
    one, two = put(store, b"1"), put(store, b"2")

    first = [library.link("a/x.txt", one.sha256, "first") for _ in range(2)]
    second = [library.link("a/x.txt", two.sha256, "second") for _ in range(2)]
    library.unlink("a/x.txt")
    later = library.link("a/x.txt", two.sha256, "second")

    assert first == ["a/x.txt"] * 2
    assert second[0] == second[1] == later
    assert second[0].startswith("a/x~")
    assert second[0].endswith(".txt")
    assert tree(library) == {later: b"2"}


@pytest.mark.parametrize("path", ["x.txt", "a/b/x.txt"])
def test_what_was_hidden_is_linked_again(library: Library, store: ObjectStore, path: str) -> None:
    """Also where its folders went with it, or a link to something else has its name now."""
    one, two = put(store, b"1"), put(store, b"2")
    library.link(path, one.sha256, "first")
    library.link_again(path, one.sha256, "first")
    assert tree(library) == {path: b"1"}

    library.unlink(path)
    library.link_again(path, one.sha256, "first")
    assert tree(library) == {path: b"1"}

    library.unlink(path)
    library.link(path, two.sha256, "second")
    library.link_again(path, one.sha256, "first")
    assert sorted(tree(library).values()) == [b"1", b"2"]


def test_the_same_bytes_at_the_same_path_share_a_link(library: Library, store: ObjectStore) -> None:
    """Two assets that cannot be told apart by reading."""
    stored = put(store, b"x")

    used = {library.link("x.txt", stored.sha256, asset) for asset in ("one", "two")}

    assert used == {"x.txt"}


def test_a_long_name_keeps_its_suffix_beside_its_mark(library: Library, store: ObjectStore) -> None:
    """And fits the file system."""
    name = "ä" * 125 + ".jpg"
    library.link(name, put(store, b"1").sha256, "one")

    used = library.link(name, put(store, b"2").sha256, "two")

    assert used.endswith(".jpg")
    assert "~" in used
    assert len(used.encode()) <= 255


def test_a_link_in_the_place_of_a_folder_is_gone_around(library: Library, store: ObjectStore) -> None:
    """And a folder in the place of a link."""
    stored = put(store, b"x")
    library.link("a", stored.sha256, "one")
    library.link("b/x", stored.sha256, "two")

    below = library.link("a/x", stored.sha256, "three")
    beside = library.link("b", stored.sha256, "four")

    assert below == "a~/x"
    assert beside.startswith("b~")
    assert set(tree(library)) == {"a", "a~/x", "b/x", beside}
    assert set(tree(library).values()) == {b"x"}


def test_unlink_removes_emptied_folders_and_nothing_else(library: Library, store: ObjectStore) -> None:
    """Up to one that still holds something; the root stays; files of other people stay."""
    stored = put(store, b"x")
    for path in ("a/b/c/x", "a/y"):
        library.link(path, stored.sha256, path)
    (library.root / "a" / "notes").write_bytes(b"mine")

    removed = [library.unlink(path) for path in ("a/b/c/x", "a/b/c/x", "a/notes", "a", "nothing/there", "a/y/z")]
    left = set(tree(library))
    library.unlink("a/y")
    (library.root / "a" / "notes").unlink()

    assert removed == [True, False, False, False, False, False]
    assert left == {"a/y", "a/notes"}
    assert not (library.root / "a" / "b").exists()
    assert library.root.is_dir()
    assert store.path(stored.sha256).read_bytes() == b"x"


def test_unlinking_the_last_link_leaves_the_root(library: Library, store: ObjectStore) -> None:
    """Empty, and ready for the next one."""
    stored = put(store, b"x")
    library.link("a/b/x", stored.sha256, "one")

    library.unlink("a/b/x")

    assert list(library.root.iterdir()) == []


@pytest.mark.parametrize(
    "path", ["", "/etc/x", "../x", "a/../x", "a/./x", "a//x", "a/", "x\x00", "half\ud800", "x" * 256, "a/" * 40 + "x"]
)
def test_no_path_leaves_the_library(library: Library, store: ObjectStore, path: str) -> None:
    """To link or to unlink, or to rebuild."""
    stored = put(store, b"x")

    with pytest.raises(BadPath):
        library.link(path, stored.sha256, "asset")
    with pytest.raises(BadPath):
        library.unlink(path)
    with pytest.raises(BadPath):
        library.rebuild([(path, stored.sha256, "asset")])
    with pytest.raises(BadDigest):
        library.link("x", "../x", "asset")


def test_a_link_that_leads_out_is_never_followed(library: Library, store: ObjectStore, tmp_path: Path) -> None:
    """A folder of the tree that was replaced by a link to elsewhere: nothing is made or removed there."""
    stored = put(store, b"x")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").symlink_to(store.path(stored.sha256))
    (library.root / "a").symlink_to(outside)

    used = library.link("a/x", stored.sha256, "one")
    removed = library.unlink("a/victim")

    assert (used, removed) == ("a~/x", False)
    assert [path.name for path in outside.iterdir()] == ["victim"]


def test_many_link_and_unlink_at_once(library: Library, store: ObjectStore) -> None:
    """Threads in the same folders: each asset has a link to its own bytes in the end."""
    digests = [put(store, b"%d" % number).sha256 for number in range(40)]

    def work(number: int) -> str:
        for _ in range(5):
            library.unlink(library.link(f"shared/{number % 3}/own/{number}", digests[number], f"own {number}"))
            used = library.link("shared/name.txt", digests[number], f"asset {number}")
        return used

    with ThreadPoolExecutor(8) as pool:
        used = list(pool.map(work, range(40)))

    assert len(set(used)) == 40
    assert tree(library) == {path: b"%d" % number for number, path in enumerate(used)}


# Rebuild


def test_rebuild_makes_the_tree_anew(library: Library, store: ObjectStore) -> None:
    """What was used before is used again, what is not known any more goes, conflicts are told."""
    one, two = put(store, b"1"), put(store, b"2")
    used = library.link("x.txt", one.sha256, "one"), library.link("x.txt", two.sha256, "two")
    library.link("old/gone", one.sha256, "gone")

    again = library.rebuild([(used[0], one.sha256, "one"), (used[1], two.sha256, "two")])
    same = tree(library)
    conflict = library.rebuild(iter([("x.txt", one.sha256, "one"), ("x.txt", two.sha256, "two")]))

    assert (again.links, again.moved) == (2, {})
    assert same == {used[0]: b"1", used[1]: b"2"}
    assert (conflict.links, conflict.moved) == (2, {"two": used[1]})
    assert tree(library) == same
    assert {path.name for path in library.root.parent.iterdir()} == {"library", "store", ".library.lock"}


def test_a_rebuild_that_fails_leaves_the_tree(library: Library, store: ObjectStore) -> None:
    """A wrong entry, or an error of whoever gives the entries."""
    stored = put(store, b"x")
    library.link("x", stored.sha256, "one")

    with pytest.raises(BadPath):
        library.rebuild([("y", stored.sha256, "one"), ("../z", stored.sha256, "two")])
    with pytest.raises(ZeroDivisionError):
        library.rebuild(("y", stored.sha256, str(1 // number)) for number in (1, 0))

    assert tree(library) == {"x": b"x"}
    assert not library.root.with_name(".library.new").exists()


@pytest.mark.parametrize("opened_before", [True, False])
def test_a_rebuild_that_was_killed_between_its_renames_is_finished(
    library: Library, store: ObjectStore, opened_before: bool
) -> None:
    """Whoever uses the library next puts the complete new tree in place, also one that had it open already."""
    stored = put(store, b"x")
    library.link("x", stored.sha256, "one")
    library.root.rename(library.root.with_name(".library.old"))
    new = library.root.with_name(".library.new")
    new.mkdir()
    (new / "y").symlink_to(os.path.relpath(store.path(stored.sha256), new))

    opened = library if opened_before else Library(library.root, store)
    opened.link("z", stored.sha256, "one")
    finished = set(tree(opened))
    opened.rebuild([("z", stored.sha256, "one")])

    assert finished == {"y", "z"}
    assert tree(opened) == {"z": b"x"}
    assert {path.name for path in library.root.parent.iterdir()} == {"library", "store", ".library.lock"}


KILLED = """
import sys
from pathlib import Path
from allocator.ingest import Library, ObjectStore
home = Path(sys.argv[1])
store = ObjectStore(home / "store")
library = Library(home / "library", store)
print("begun", flush=True)
while True:
    library.rebuild((f"{n % 7}/{n}", sys.argv[2], str(n)) for n in range(200))
"""


def test_a_rebuild_that_is_killed_leaves_a_whole_tree(library: Library, store: ObjectStore) -> None:
    """After kill -9 at any moment, the library opens with all of its links."""
    stored = put(store, b"x")
    library.rebuild((f"{n % 7}/{n}", stored.sha256, str(n)) for n in range(200))
    counts = []
    for _ in range(6):
        program = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(library.root.parent), stored.sha256],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert program.stdout is not None
        assert program.stdout.readline() == "begun\n"
        program.kill()
        program.communicate()
        counts.append(len(tree(Library(library.root, store))))

    assert counts == [200] * 6


def test_a_root_that_cannot_be_made_says_what_to_check(tmp_path: Path, store: ObjectStore) -> None:
    """A file has its place."""
    (tmp_path / "file").touch()

    with pytest.raises(LibraryUnavailable, match="symbolic links"):
        Library(tmp_path / "file", store)
