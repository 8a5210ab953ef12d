"""Which files of a folder are sent: all that no pattern ignores, and nothing that lies outside of it."""

import codecs
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pathspec

IGNORE_FILE = ".gitignore"
MAX_IGNORE_BYTES = 1024 * 1024

Patterns = tuple[tuple[int, pathspec.GitIgnoreSpec], ...]
"""Those that hold in a folder, the nearest last: how much of a path leads to where they were found, and they."""


class Found(NamedTuple):
    """
    A file to send.

    Args:
        path: Where it is, without links.
        name: As it is sent: the last part of the PATH given, and the way from there, with / between.
        size_bytes: When it was found.
    """

    path: str
    name: str
    size_bytes: int


class Skipped(NamedTuple):
    """What is not sent, and why; `is_lost` where it should have been."""

    path: str
    reason: str
    is_lost: bool = False


@dataclass
class Survey:
    """
    What is below the paths given, in order of names.

    Attributes:
        ignored_count: Files and folders that a pattern ignores; what is in such a folder is not looked at.
    """

    files: list[Found] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    ignored_count: int = 0

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(found.size_bytes for found in self.files)


def survey(paths: Iterable[Path], excludes: Sequence[str] = (), with_gitignore: bool = True) -> Survey:
    """
    Look for files, folders recursively.

    A path given may be a link; below it no link is followed, as what one leads to is either in the tree already or
    outside of it. Each is told, as are special files and what cannot be read. A file that is itself given is always
    taken.

    Args:
        excludes: Patterns as in .gitignore, from each path given on; they come before those of .gitignore files.
        with_gitignore: Follow the .gitignore files in the tree, as git does, and leave out .git.
    Raises:
        FileNotFoundError: There is nothing at a path.
        ValueError: One of `excludes` is no pattern.
    """
    excluded = pathspec.GitIgnoreSpec.from_lines(excludes)
    found = Survey()
    seen: set[str] = set()
    for path in paths:
        real = os.path.realpath(path, strict=True)
        name = os.path.basename(os.path.abspath(path))
        if os.path.isdir(real):
            _Walk(found, seen, real, name, excluded, with_gitignore).run()
        else:
            _take(found, seen, real, name, os.stat(real))
    return found


class _Walk:
    def __init__(
        self, into: Survey, seen: set[str], root: str, name: str, excluded: pathspec.GitIgnoreSpec, with_gitignore: bool
    ) -> None:
        self._into = into
        self._seen = seen
        self._root = root
        self._name = name
        self._excluded = excluded
        self._with_gitignore = with_gitignore

    def run(self) -> None:
        # A stack of our own: a tree may be deeper than Python calls.
        waiting: list[tuple[str, Patterns]] = [("", ())]
        while waiting:
            folder, patterns = waiting.pop()
            path = os.path.join(self._root, folder)
            try:
                with os.scandir(path) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
            except OSError as error:
                self._into.skipped.append(Skipped(path, f"cannot be read: {error.strerror}", is_lost=True))
                continue
            if self._with_gitignore:
                patterns += tuple((len(folder), spec) for spec in self._ignore_file(path))
            below = [entry for entry in entries if self._look(entry, folder, patterns)]
            waiting += [(f"{folder}{entry.name}/", patterns) for entry in reversed(below)]

    def _look(self, entry: "os.DirEntry[str]", folder: str, patterns: Patterns) -> bool:
        """Take it, or say why not; whether it is a folder to go into."""
        is_folder = entry.is_dir(follow_symlinks=False)
        if self._is_ignored(f"{folder}{entry.name}{'/' if is_folder else ''}", patterns):
            self._into.ignored_count += 1
            return False
        if is_folder:
            return True
        try:
            _take(
                self._into,
                self._seen,
                entry.path,
                f"{self._name}/{folder}{entry.name}".lstrip("/"),
                entry.stat(follow_symlinks=False),
            )
        except OSError as error:
            self._into.skipped.append(Skipped(entry.path, f"cannot be read: {error.strerror}", is_lost=True))
        return False

    def _is_ignored(self, path: str, patterns: Patterns) -> bool:
        if self._with_gitignore and (path == ".git/" or path.endswith("/.git/")):
            return True
        # What was found nearest to it decides; of one file, its last pattern.
        for length, spec in ((0, self._excluded), *reversed(patterns)):
            verdict = spec.check_file(path[length:]).include
            if verdict is not None:
                return verdict
        return False

    def _ignore_file(self, folder: str) -> Iterator[pathspec.GitIgnoreSpec]:
        path = os.path.join(folder, IGNORE_FILE)
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                content = file.read(MAX_IGNORE_BYTES).removeprefix(codecs.BOM_UTF8)
        except OSError:
            # None there, or a link or a folder, which git passes over as well.
            return
        # Nothing else ends a line: a form feed may be part of a name.
        lines = [line.removesuffix("\r") for line in os.fsdecode(content).split("\n")]
        lines = [line for line in lines if self._is_pattern(line, path)]
        yield pathspec.GitIgnoreSpec.from_lines(lines)

    def _is_pattern(self, line: str, path: str) -> bool:
        try:
            pathspec.GitIgnoreSpec.from_lines([line])
        except ValueError:
            self._into.skipped.append(Skipped(path, f"its line {line[:80]!r} is no pattern"))
            return False
        return True


def _take(into: Survey, seen: set[str], path: str, name: str, found: os.stat_result) -> None:
    if stat.S_ISLNK(found.st_mode):
        into.skipped.append(Skipped(path, "a symbolic link, which is not followed"))
    elif not stat.S_ISREG(found.st_mode):
        into.skipped.append(Skipped(path, f"a special file ({_KINDS.get(stat.S_IFMT(found.st_mode), 'unknown')})"))
    elif path not in seen:
        seen.add(path)
        # A name may be bytes that are no text; what cannot be said in UTF-8 is sent as U+FFFD.
        into.files.append(Found(path, os.fsencode(name).decode("utf-8", "replace"), found.st_size))


_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
