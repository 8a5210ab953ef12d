"""What the files of the checkout promise: a lock that holds, no hosts, a complete wheel, rooms kept apart."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]


def lock_entries() -> list[str]:
    """The requirements of the lock file, each with its hashes, as one line."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", "")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def project_requirements() -> Iterator[Requirement]:
    """Everything that pyproject.toml asks for: to run, to build, to develop."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = content["project"]
    groups = [*project["optional-dependencies"].values(), *content["dependency-groups"].values()]
    for group in [project["dependencies"], content["build-system"]["requires"], *groups]:
        yield from map(Requirement, group)


def committed_files() -> list[Path]:
    """The files that are tracked, or would be by `git add`."""
    # The checkout may belong to someone else (a container's mount), which git distrusts unless told.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout, or no git")
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_every_locked_requirement_has_a_hash_and_none_names_a_place() -> None:
    """The lock file decides what is installed, never from where."""
    entries = lock_entries()

    assert len(entries) > 50
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert [entry for entry in entries if "://" in entry or "-index" in entry.split(" --hash")[0]] == []


def test_the_lock_satisfies_pyproject() -> None:
    """Whoever changes a dependency refreshes the lock with `scripts/python lock`."""
    pinned = {}
    for entry in lock_entries():
        requirement = Requirement(entry.split(" --hash")[0].strip())
        pinned.setdefault(requirement.name, []).append(requirement)

    unmet = [
        str(wanted)
        for wanted in project_requirements()
        # One extra names another of its own.
        if wanted.name != "allocator"
        for locked in pinned.get(wanted.name, [None])
        if locked is None or not wanted.specifier.contains(str(locked.specifier).removeprefix("=="))
    ]

    assert unmet == []


def test_no_file_names_a_package_index_or_this_folder() -> None:
    """Where packages come from and where a checkout lies is each machine's own business."""
    index = re.compile(r"https?://[^\s\"']*/(simple|packages)\b")

    named = [
        str(path.relative_to(ROOT))
        for path in committed_files()
        for text in [path.read_text(encoding="utf-8", errors="replace")]
        if index.search(text) or f"{ROOT}/" in text
    ]

    assert named == []


def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    """Lua, SQL and TOML files are read from the installed package, so they must be in it."""
    wanted = {str(path.relative_to(ROOT)) for path in committed_files() if path.is_relative_to(ROOT / "allocator")}

    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )

    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert wanted - set(archive.namelist()) == set()


@pytest.mark.parametrize(("room", "besides"), [("domain", {"msgspec"}), ("services", set())])
def test_a_room_imports_only_the_standard_library(room: str, besides: set[str]) -> None:
    """import-linter knows packages it is told; this knows that nothing else was added."""
    allowed = sys.stdlib_module_names | besides

    foreign = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / "allocator" / room).rglob("*.py")
        for name in imported(path)
        if name.partition(".")[0] not in allowed and not f"{name}.".startswith(f"allocator.{room}.")
    }

    assert foreign == set()


def imported(path: Path) -> Iterator[str]:
    """The absolute names of the modules that a file imports; relative imports stay within its room."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
