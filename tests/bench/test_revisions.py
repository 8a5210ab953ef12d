"""Commits that are installed apart and measured, for real: in a repository made of this package as it is."""

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from allocator.bench.revisions import NoRevision, install
from allocator.bench.runs import run
from allocator.bench.runs.comparing import BASELINE, CANDIDATE, Make, interleave
from allocator.bench.workload import Workload
from allocator.report.results import Results, read_results

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("allocator", "notebooks", "pyproject.toml", "requirements.lock")

PAUSE_S = 0.0001
SLOW = f"""

def _slowly(self, job, **options):
    time.sleep({PAUSE_S})
    return _enqueue(self, job, **options)


import time

_enqueue, InProcessQueue.enqueue = InProcessQueue.enqueue, _slowly
"""
"""Makes the enqueue of the queue in process take several times as long."""

FLOOD = {
    "name": "flood", "arrival": {"model": "closed", "clients": 8}, "jobs": 200,
    "service": {"model": "constant", "seconds": 0.0},
}  # fmt: skip


def git(folder: Path, *arguments: str) -> None:
    """As somebody, whoever runs the tests."""
    who = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    Its commits, tagged: `sound`, this package as it is; `slow`; `other`, which locks other packages and has no set-up;
    `old`, which has no such command.
    """
    if shutil.which("git") is None:
        pytest.skip("no git")
    folder = tmp_path_factory.mktemp("repository")
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copyfile
        copy(ROOT / part, folder / part)
    git(folder, "init", "--quiet")
    (folder / ".gitignore").write_text("__pycache__/\n", "utf-8")
    changes = {
        "sound": ("README.md", "sound"),
        "slow": ("allocator/queue/inprocess/__init__.py", SLOW),
        "old": ("allocator/cli/__init__.py", "\nraise SystemExit('No such command run')\n"),
        "other": ("requirements.lock", "# another"),
    }
    for name, (path, text) in changes.items():
        with (folder / path).open("a", encoding="utf-8") as file:
            file.write(text)
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--message", name)
        git(folder, "tag", name)
    git(folder, "checkout", "--quiet", "sound")
    return folder


def test_a_slow_commit_is_seen_beside_a_sound_one(repository: Path, tmp_path: Path) -> None:
    """Its run is made by its own code, on the same schedule as that of this very process."""
    slow = install("slow", repository, tmp_path / "cache")
    arms: dict[str, Make] = {
        BASELINE: lambda workload, say: run(workload, "memory", folder=tmp_path / BASELINE),
        CANDIDATE: partial(slow.run, backend="memory", folder=tmp_path / CANDIDATE),
    }

    made = interleave(Workload.model_validate(FLOOD), arms, 1, lambda arm, progress: None)

    (before,), (after,) = made[BASELINE], made[CANDIDATE]
    assert (before.about.plan_hash, before.holds, after.holds) == (after.about.plan_hash, True, True)
    assert before.jobs["enqueue_s"].min() < PAUSE_S <= after.jobs["enqueue_s"].min()
    assert (after.folder.parent.name, after.verify()) == (CANDIDATE, [])
    assert [slow.folder] == list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("nowhere", "'nowhere' names no commit in"),
        ("--all", "'--all' names no commit in"),
        ("other", r"other \(.*\) cannot be installed: it locks other packages and has no set-up"),
        ("old", r"old \(.*\) could not run the workload trial.*too old.*: name a later commit"),
    ],
)
def test_a_commit_that_cannot_be_measured_is_told_with_what_to_do(
    repository: Path, tmp_path: Path, ref: str, said: str
) -> None:
    """Before anything is measured."""
    with pytest.raises(NoRevision, match=said):
        install(ref, repository, tmp_path)


def test_a_folder_that_is_no_checkout_has_no_baseline(repository: Path, tmp_path: Path) -> None:
    """Nor has one that only lies in somebody else's."""
    with pytest.raises(NoRevision, match=r"is no git checkout \(.*clone the repository"):
        install("HEAD", tmp_path, tmp_path)
    with pytest.raises(NoRevision, match="is no git checkout of its own"):
        install("HEAD", repository / "allocator", tmp_path)


def a_report(repository: Path, folder: Path, commit: str, baseline: str) -> tuple[int, Results]:
    """Exit status and results of `allocator report` in a clone of which this commit is checked out."""
    clone = folder / "clone"
    git(folder, "clone", "--quiet", str(repository), str(clone))
    git(clone, "checkout", "--quiet", commit)
    made = subprocess.run(
        [sys.executable, "-m", "allocator.cli", "report", "--backends", "memory", "--baseline", baseline],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(clone), "XDG_CACHE_HOME": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    (report,) = (each for each in (clone / "reports").iterdir() if each.is_dir())
    return made.returncode, read_results(report)


@pytest.mark.full
@pytest.mark.parametrize(("commit", "fails"), [("slow", True), ("sound", False)])
def test_a_report_fails_where_its_tree_is_slower(repository: Path, tmp_path: Path, commit: str, fails: bool) -> None:
    """With exit status 1, by the claim that says so; the same commit beside itself fails nothing."""
    status, found = a_report(repository, tmp_path, commit, "sound")

    failed = [claim.id for claim in found.claims if claim.status == "FAIL" and claim.gates]
    assert found.problems == []
    assert (status, failed) == ((1, ["memory-no-fewer"]) if fails else (0, []))
