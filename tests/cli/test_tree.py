"""Which files of a folder are sent, and what is said of the others."""

import os
import sysconfig
from pathlib import Path

import pytest

from allocator.cli.tree import survey


def made(root: Path, *files: str, **contents: str) -> Path:
    """A folder with these files, and with .gitignore files by the folder they are in (with _ for the root)."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(file)
    for folder, lines in contents.items():
        (root / folder.strip("_") / ".gitignore").write_text(lines)
    return root


def names(*arguments: object, **more: object) -> list[str]:
    """What would be sent, without the name of the folder."""
    return [found.name.partition("/")[2] for found in survey(*arguments, **more).files]  # type: ignore[arg-type]


def test_a_folder_is_taken_with_all_below(tmp_path: Path) -> None:
    """In order of names, each under the folder's own name, with its size."""
    root = made(tmp_path / "photos", "b.txt", "a/deep/er/x.txt", "a/y.txt")

    found = survey([root])

    assert [one.name for one in found.files] == ["photos/b.txt", "photos/a/y.txt", "photos/a/deep/er/x.txt"]
    assert found.size_bytes == sum(one.size_bytes for one in found.files) == len("b.txta/y.txta/deep/er/x.txt")


def test_gitignore_files_hold_in_their_folder(tmp_path: Path) -> None:
    """The nearest decides, a later line over an earlier one; an ignored folder is not entered; .git is left out."""
    root = made(
        tmp_path / "r",
        "keep.txt",
        "a.log",
        "sub/a.log",
        "sub/b.log",
        "build/out.txt",
        "sub/build/x",
        ".git/config",
        _="*.log\n/build/\n# words\n",
        sub="!a.log\n",
    )

    found = survey([root])

    assert [one.name for one in found.files] == [
        "r/.gitignore",
        "r/keep.txt",
        "r/sub/.gitignore",
        "r/sub/a.log",
        "r/sub/build/x",
    ]
    # .git, a.log, build, sub/b.log
    assert found.ignored_count == 4
    assert len(names([root], (), False)) == 9


def test_gitignore_files_are_read_as_git_reads_them(tmp_path: Path) -> None:
    """With a byte order mark and carriage returns, as some editors write them; a form feed ends no line."""
    root = made(tmp_path / "r", "secret.txt", "kept.txt", "ff.one", _="\ufeffsecret.txt\r\nff.one\x0cxx\r\n")

    assert sorted(names([root])) == [".gitignore", "ff.one", "kept.txt"]


def test_patterns_given_come_before_those_found(tmp_path: Path) -> None:
    """They leave out, and with ! they take in."""
    root = made(tmp_path / "r", "a.log", "b.txt", "sub/b.txt", _="*.log\n")

    assert names([root], ["b.txt", "!a.log", ".gitignore"]) == ["a.log"]
    assert names([root], ["/b.txt", ".gitignore"]) == ["sub/b.txt"]
    with pytest.raises(ValueError, match="'!'"):
        survey([root], ["!"])


def test_a_line_that_is_no_pattern_is_told(tmp_path: Path) -> None:
    """The others hold."""
    root = made(tmp_path / "r", "a.log", _="!\n*.log\n.gitignore\n")

    found = survey([root])

    assert found.files == []
    assert [(one.path, one.reason) for one in found.skipped] == [
        (str(root / ".gitignore"), "its line '!' is no pattern")
    ]


def test_no_link_is_followed(tmp_path: Path) -> None:
    """To a file, to a folder, out of the tree or in it, or round in a circle: each is told. One that is given is."""
    root = made(tmp_path / "r", "in.txt", "sub/x.txt")
    secret = made(tmp_path / "elsewhere", "secret.txt")
    targets = {
        "out": secret,
        "file": secret / "secret.txt",
        "circle": root,
        "inner": root / "in.txt",
        "gone": root / "no",
    }
    for name, target in targets.items():
        (root / "sub" / name).symlink_to(target)
    (root / "sub" / ".gitignore").symlink_to(root / "in.txt")
    (tmp_path / "door").symlink_to(root)

    found = survey([tmp_path / "door"])

    assert [one.name for one in found.files] == ["door/in.txt", "door/sub/x.txt"]
    assert {Path(one.path).name for one in found.skipped} == {*targets, ".gitignore"}
    assert all("symbolic link" in one.reason and not one.is_lost for one in found.skipped)


def test_special_files_are_told(tmp_path: Path) -> None:
    """None is opened: a pipe would wait for ever."""
    root = made(tmp_path / "r", "x.txt")
    os.mkfifo(root / "pipe")

    found = survey([root, root / "pipe"])

    assert [one.name for one in found.files] == ["r/x.txt"]
    assert [one.reason for one in found.skipped] == ["a special file (a pipe)"] * 2


def test_what_is_given_twice_is_sent_once(tmp_path: Path) -> None:
    """Also where one path lies in the other, and where a pattern would ignore what is given itself."""
    root = made(tmp_path / "r", "a.log", "b.txt", _="*.log\n")

    found = survey([root / "a.log", root, root / "b.txt", root])

    assert sorted(one.name for one in found.files) == ["a.log", "r/.gitignore", "r/b.txt"]


def test_a_name_that_is_no_text_is_sent_as_far_as_it_is(tmp_path: Path) -> None:
    """File names are bytes."""
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("x")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")

    assert names([tmp_path]) == ["caf\ufffd.txt"]


def test_nothing_there_is_an_error(tmp_path: Path) -> None:
    """Naming the path."""
    with pytest.raises(FileNotFoundError, match="nowhere"):
        survey([tmp_path / "nowhere"])


def test_a_real_tree_is_taken_whole() -> None:
    """The package of JSON in the standard library: all its files, but what Python has compiled."""
    root = Path(sysconfig.get_path("stdlib")) / "json"

    assert set(names([root], ["__pycache__/"])) == {path.name for path in root.iterdir() if path.is_file()}
