"""The commands that look after the files: rules are tried, damage is told, garbage goes, the tree is made anew."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from allocator.cli import app
from allocator.ingest.intake import Intake
from allocator.ingest.processors import Archive, _facts
from allocator.ingest.sweeping import FolderShared
from allocator.persistence import open_store
from tests.api.test_intake import AnAttempt
from tests.ingest.samples import SAMPLE_DATA, files_below, put
from tests.persistence.builders import FakeQueue, a_lease, an_ending

NAMES = ("Stocks.csv", "grace_hopper.jpg", "eeg.dat")
DAY_S = 86_400


def run(*arguments: object) -> Result:
    """The command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="allocator")


@pytest.fixture
def where(tmp_path: Path) -> list[object]:
    """The options that name an archive of real files, all of them placed."""
    where: list[object] = ["--data", tmp_path / "data", "--store", f"sqlite:///{tmp_path / 'store.db'}"]
    archive = Archive.open(tmp_path / "data", f"sqlite:///{tmp_path / 'store.db'}")
    queue = FakeQueue()
    intake = Intake(archive.objects, archive.assets, queue)
    intake.accept([intake.put(name, (SAMPLE_DATA / name).read_bytes()) for name in NAMES])
    for job in queue.enqueued:
        lease = a_lease(job)
        archive.store.begin([lease], queue)
        assert archive.process(AnAttempt(job, lease.token), _facts)
        archive.store.settle([an_ending(lease)])
    archive.close()
    return where


def links(tmp_path: Path) -> dict[str, str]:
    """The library: each path, and where it leads."""
    root = tmp_path / "data" / "library"
    return {str(path.relative_to(root)): os.readlink(path) for path in files_below(root)}


def age(*paths: Path, seconds: float = DAY_S) -> None:
    """Let files and links be as old as this."""
    for path in paths:
        at = path.lstat().st_mtime - seconds
        os.utime(path, (at, at), follow_symlinks=False)


def damages(where: list[object]) -> list[tuple[str, str]]:
    """What `verify` tells: path and problem; its exit status must agree."""
    done = run("objects", "verify", "--json", *where)
    found = json.loads(done.stdout)["damages"]
    assert done.exit_code == int(bool(found))
    return sorted((one["path"], one["problem"]) for one in found)


def test_all_is_well_where_nothing_happened(where: list[object]) -> None:
    """Every byte was read, and `gc` finds nothing."""
    done, collected = run("objects", "verify", *where), run("objects", "gc", "--older-than", "0s", *where)

    assert done.exit_code == 0
    assert "all is as it was sent" in done.stdout
    assert "removed 0 objects (0 bytes), 0 unfinished uploads, 0 links" in collected.stdout


def test_each_damage_is_told(where: list[object], tmp_path: Path) -> None:
    """Bytes that have changed, bytes and links that have gone, and what nobody of ours has put there."""
    data = tmp_path / "data"
    changed, gone, _ = sorted(files_below(data / "objects"))
    changed.chmod(0o600)
    changed.write_bytes(b"turned")
    gone.unlink()
    unlinked = next(path for path in links(tmp_path) if path.endswith(".jpg"))
    (data / "library" / unlinked).unlink()
    (data / "library" / "notes.txt").write_text("not ours")

    found = damages(where)
    told = run("objects", "verify", *where)

    assert found == sorted(
        [
            (str(changed.relative_to(data)), "wrong content"),
            (str(gone.relative_to(data)), "missing"),
            (f"library/{unlinked}", "wrong link"),
            ("library/notes.txt", "foreign file"),
        ]
    )
    assert "4 things are wrong" in told.stdout
    assert "wrong content" in told.stderr


def test_garbage_goes_when_it_is_old(where: list[object], tmp_path: Path) -> None:
    """Bytes, a half-written upload, a link: young ones stay, a dry run takes nothing, and what is recorded stays."""
    data = tmp_path / "data"
    archive = Archive.open(data, f"sqlite:///{tmp_path / 'store.db'}")
    stored = put(archive.objects, b"nobody's")
    archive.library.link("lost/found.txt", stored.sha256, "nobody")
    archive.close()
    half = data / "incoming" / "half"
    half.write_bytes(b"hal")
    before = links(tmp_path)

    young = json.loads(run("objects", "gc", "--json", *where).stdout)
    age(half, *(path for folder in ("objects", "library") for path in files_below(data / folder)))
    dry = json.loads(run("objects", "gc", "--dry-run", "--json", *where).stdout)
    untouched = links(tmp_path)
    told = damages(where)
    done = json.loads(run("objects", "gc", "--json", *where).stdout)

    assert young == {"objects": 0, "bytes": 0, "incoming": 0, "links": 0, "dry_run": False}
    assert dry == {"objects": 1, "bytes": len(b"nobody's"), "incoming": 1, "links": 1, "dry_run": True}
    assert untouched == before
    assert told == [("library/lost/found.txt", "unrecorded link")]
    assert done == {**dry, "dry_run": False}
    assert not half.exists()
    assert len(links(tmp_path)) == len(NAMES)
    assert damages(where) == []


@pytest.mark.parametrize("command", [["objects", "gc"], ["library", "rebuild"]])
def test_nothing_goes_by_the_word_of_another_database(where: list[object], tmp_path: Path, command: list[str]) -> None:
    """An empty one, or one whose own files are elsewhere, would call all of this garbage."""
    Archive.open(tmp_path / "other", f"sqlite:///{tmp_path / 'other.db'}").close()
    shutil.copytree(tmp_path / "data" / "objects", tmp_path / "other" / "objects", dirs_exist_ok=True)
    for path in files_below(tmp_path / "other" / "objects")[:1]:
        path.unlink()
    before = links(tmp_path)

    empty = run(*command, "--data", tmp_path / "data", "--store", f"sqlite:///{tmp_path / 'other.db'}")
    others = run(*command, "--data", tmp_path / "other", "--store", f"sqlite:///{tmp_path / 'store.db'}")

    assert (empty.exit_code, others.exit_code) == (2, 2)
    assert "It has no asset at all" in empty.stderr
    assert "which is not there" in others.stderr
    assert links(tmp_path) == before


def test_who_only_looks_is_not_taken_for_an_owner(where: list[object], tmp_path: Path) -> None:
    """A wrong database that looks, or is refused, keeps nothing from being deleted later by the right one."""
    data = tmp_path / "data"
    wrong = ["--data", data, "--store", f"sqlite:///{tmp_path / 'wrong.db'}"]
    open_store(f"sqlite:///{tmp_path / 'wrong.db'}").close()
    before = (data / "databases").read_bytes()

    looked = run("objects", "verify", *wrong)
    refused = run("objects", "gc", *wrong)
    dry = run("objects", "gc", "--dry-run", "--force", *wrong)
    forced = run("objects", "gc", "--force", *wrong)

    assert (looked.exit_code, refused.exit_code) == (0, 2)
    # What a dry run tells is what would be.
    assert [type(done.exception) for done in (dry, forced)] == [FolderShared, FolderShared]
    assert (data / "databases").read_bytes() == before
    assert run("objects", "gc", *where).exit_code == 0


def test_the_library_is_made_anew(where: list[object], tmp_path: Path) -> None:
    """From the database alone, as it was; what else lies in it is told first, and goes by --force."""
    library = tmp_path / "data" / "library"
    before = links(tmp_path)
    shutil.rmtree(library)
    gone = damages(where)

    rebuilt = run("library", "rebuild", *where)
    after = links(tmp_path)
    (library / "notes.txt").write_text("mine")
    refused, forced = run("library", "rebuild", *where), run("library", "rebuild", "--force", *where)

    assert len(gone) == len(NAMES)
    assert (rebuilt.exit_code, rebuilt.stdout) == (0, "the library has 3 links\n")
    assert after == before
    assert refused.exit_code == 2
    assert "library/notes.txt" in refused.stderr
    assert forced.exit_code == 0
    assert links(tmp_path) == before


def test_two_records_of_one_path_are_told_apart(where: list[object], tmp_path: Path) -> None:
    """As a database from elsewhere may have them: one gets a mark in its name, and its record says so."""
    archive = Archive.open(tmp_path / "data", f"sqlite:///{tmp_path / 'store.db'}")
    first, second, _ = archive.assets.placed()
    assert archive.assets.move(second, first.path)
    archive.close()

    before = damages(where)
    rebuilt = run("library", "rebuild", *where)

    assert (f"library/{first.path}", "wrong link") in before
    assert rebuilt.exit_code == 0
    assert len(links(tmp_path)) == len(NAMES)
    assert damages(where) == []


def test_what_is_not_there_is_not_made(tmp_path: Path, where: list[object]) -> None:
    """A folder or a database that was mistyped is told, and nothing appears."""
    no_folder = run("objects", "verify", "--data", tmp_path / "dta")
    no_database = run("objects", "verify", "--data", tmp_path / "data", "--store", f"sqlite:///{tmp_path / 'stroe.db'}")

    assert (no_folder.exit_code, no_database.exit_code) == (2, 2)
    assert "there is no archive in" in no_folder.stderr
    assert "there is no database" in no_database.stderr
    assert not (tmp_path / "dta").exists()
    assert not (tmp_path / "stroe.db").exists()


def test_rules_are_tried_without_a_server(tmp_path: Path) -> None:
    """What each real file is, which rule decides, why, and what would end as a dead letter."""
    broken = tmp_path / "broken.png"
    broken.write_bytes((SAMPLE_DATA / "logo2.png").read_bytes()[:60])
    files = [SAMPLE_DATA / "grace_hopper.jpg", SAMPLE_DATA / "Stocks.csv", broken, tmp_path / "nowhere"]
    arguments = ["rules", "test", "--data", tmp_path, "--owner", "ada", *files]

    done, table = run(*arguments, "--json"), run(*arguments)
    found: list[dict[str, Any]] = json.loads(done.stdout)["files"]

    assert (done.exit_code, table.exit_code) == (1, 1)
    assert [one["type"] for one in found] == ["image/jpeg", "text/csv", "image/png", None]
    assert [one["rule"] for one in found] == ["pictures", "tables", None, None]
    assert found[0]["facts"]["width"] > 0
    assert found[1]["path"].startswith("tables/ada/")
    assert [one["rule"] for one in found[1]["passed"]] == ["pictures", "sound", "video", "json"]
    assert found[1]["passed"][3]["missed"] == {"field": "kind", "value": "json", "holds": False}
    assert "no image/png that can be read" in found[2]["problem"]
    assert "cannot be read" in found[3]["problem"]
    assert "kind = media and type = image/*" in table.stdout
    assert list(tmp_path.iterdir()) == [broken]


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ('[[rule]]\nname = "a\n', "at line 2"),
        ('[[rule]]\nname = "a"\npath = "x/{nme}"', "rule 'a', path"),
        ('[[rule]]\nname = "a"\npath = "x"\nmatch = { size_min = -1 }', "rule 'a', match.size_min"),
    ],
)
def test_a_bad_rule_is_named(tmp_path: Path, content: str, place: str) -> None:
    """With its file, and its line, or its name and field; no file is looked at."""
    rules = tmp_path / "rules.toml"
    rules.write_text(content)

    done = run("rules", "test", __file__, "--rules", rules)

    assert done.exit_code == 2
    assert str(rules) in done.stderr
    assert place in done.stderr
