"""The set-up: which Python it takes, when it works, when it leaves things alone. Nothing is fetched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import setup

ROOT = Path(__file__).resolve().parents[2]


# --- the finder: scripts/python ---------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the finder, a set-up file that tells how it was started, and a PATH without Python."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy(ROOT / "scripts" / "python", tmp_path / "scripts")
    (tmp_path / "scripts" / "setup.py").write_text(
        "import json, os, sys\n"
        "print(json.dumps([sys.argv[1:], os.getcwd(), 'PYTHONDONTWRITEBYTECODE' in os.environ]))\n"
    )
    dirname = shutil.which("dirname")
    assert dirname is not None
    (tmp_path / "bin" / "dirname").symlink_to(dirname)
    return tmp_path


def put_on_path(checkout: Path, name: str, body: str) -> Path:
    """An executable shell script on the checkout's PATH."""
    path = checkout / "bin" / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def find(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the finder from elsewhere, with the checkout's PATH."""
    return subprocess.run(
        ["/bin/sh", str(checkout / "scripts" / "python"), *arguments],
        cwd="/",
        env={"PATH": str(checkout / "bin"), **environment},
        capture_output=True,
        check=False,
        text=True,
    )


def test_without_a_fitting_python_one_sentence_says_how_to_get_one(checkout: Path) -> None:
    """A shim that fails, and a Python that is too old, are no fitting Python."""
    put_on_path(checkout, "python3", "echo 'command not found' >&2; exit 127")
    put_on_path(checkout, "python", "exit 1")

    done = find(checkout)

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "Python 3.11 or newer" in done.stderr
    assert "apt-get install python3-venv" in done.stderr


def test_a_shim_that_fails_is_passed_over(checkout: Path) -> None:
    """The next Python that runs is taken, and gets the arguments as they were, in the checkout's folder."""
    put_on_path(checkout, "python3", "exit 127")
    put_on_path(checkout, "python3.12", f'exec "{sys.executable}" "$@"')

    done = find(checkout, "test", "-k", "two words", PYTHONDONTWRITEBYTECODE="1")

    assert json.loads(done.stdout) == [["test", "-k", "two words"], str(checkout), False]


def test_a_chosen_python_is_taken_or_refused_but_never_replaced(checkout: Path) -> None:
    """PYTHON is an order: if it does not fit, another one is no substitute."""
    put_on_path(checkout, "python3", f'exec "{sys.executable}" "$@"')
    old = put_on_path(checkout, "old", "exit 1")

    assert find(checkout, PYTHON=sys.executable).returncode == 0
    refused = find(checkout, PYTHON=str(old))
    assert refused.returncode == 2
    assert f"{old} is not one" in refused.stderr


# --- the set-up file: scripts/setup.py --------------------------------------------------------------------


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The labels of the steps that the set-up of an empty checkout takes; the steps themselves are faked."""
    places = {
        "ROOT": tmp_path,
        "VENV": tmp_path / ".venv",
        "VENV_PYTHON": tmp_path / ".venv" / "bin" / "python",
        "STAMP": tmp_path / ".venv" / "setup.stamp",
        "LOCK": tmp_path / "requirements.lock",
        "PROJECT": tmp_path / "pyproject.toml",
    }
    for name, path in places.items():
        monkeypatch.setattr(setup, name, path)
    (tmp_path / "requirements.lock").write_text("one==1 \\\n    --hash=sha256:00\n")
    (tmp_path / "pyproject.toml").write_text("")
    taken: list[str] = []

    def step(label: str, command: list[str]) -> None:
        taken.append(label.partition(" on ")[0].partition(",")[0])
        if taken[-1] == "new .venv":
            (tmp_path / ".venv" / "bin").mkdir(parents=True)
            (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)

    monkeypatch.setattr(setup, "step", step)
    monkeypatch.setattr(setup, "runs", lambda command: True)
    return taken


EVERYTHING = ["new .venv", "uv", "packages", "allocator"]


def test_a_set_up_that_finds_nothing_changed_does_nothing(steps: list[str]) -> None:
    """The stamp of the last set-up tells."""
    setup.set_up()
    first = list(steps)
    setup.set_up()

    assert first == EVERYTHING
    assert steps == EVERYTHING


def test_a_new_lock_is_installed_into_the_same_environment(steps: list[str]) -> None:
    """A change of contents does not cost a new environment."""
    setup.set_up()
    steps.clear()
    setup.LOCK.write_text("two==2 \\\n    --hash=sha256:00\n")

    setup.set_up()

    assert steps == ["packages", "allocator"]


def test_a_set_up_cut_short_is_done_anew(steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What an interrupted installation left behind is not trusted."""
    whole = setup.step

    def broken(label: str, command: list[str]) -> None:
        if label.startswith("packages"):
            raise KeyboardInterrupt
        whole(label, command)

    monkeypatch.setattr(setup, "step", broken)
    with pytest.raises(KeyboardInterrupt):
        setup.set_up()
    steps.clear()
    monkeypatch.setattr(setup, "step", whole)

    setup.set_up()

    assert steps == EVERYTHING


def test_an_environment_whose_python_is_gone_is_built_anew(steps: list[str]) -> None:
    """A Python that was upgraded or removed takes its environments with it."""
    setup.set_up()
    steps.clear()
    setup.VENV_PYTHON.unlink()
    setup.VENV_PYTHON.symlink_to("/nowhere/python3")

    setup.set_up()

    assert steps == EVERYTHING


def test_a_moved_checkout_gets_a_new_environment(
    steps: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scripts of an environment name their interpreter by its full path."""
    setup.set_up()
    steps.clear()
    setup.STAMP.write_text(setup.STAMP.read_text().replace(str(tmp_path), "/elsewhere"))

    setup.set_up()

    assert steps == EVERYTHING


def test_an_environment_behind_a_link_stays_as_it_is(steps: list[str], tmp_path: Path) -> None:
    """It is another checkout's: this one gets its own."""
    other = tmp_path / "other"
    (other / "bin").mkdir(parents=True)
    stamp = other / "setup.stamp"
    stamp.write_text("1 of another\ncontents\n")
    setup.VENV.symlink_to(other)

    setup.set_up()

    assert steps == EVERYTHING
    assert stamp.read_text() == "1 of another\ncontents\n"
    assert not setup.VENV.is_symlink()


def test_a_part_of_the_lock_keeps_its_hashes(steps: list[str]) -> None:
    """uv is installed by pip from the same lock file as everything else."""
    setup.LOCK.write_text("# by hand\na==1 \\\n    --hash=sha256:aa\nuv==2 \\\n    --hash=sha256:bb\n")

    with setup.part_of_lock(lambda name: name == "uv") as part:
        assert Path(part).read_text() == "uv==2 \\\n    --hash=sha256:bb\n"


# --- the tally that scripts/test prints -------------------------------------------------------------------


def test_the_tally_tells_what_did_not_run_and_why(tmp_path: Path) -> None:
    """Skipped tests and slow proofs are counted by reason, since a silent gap reads like a pass."""
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "def test_passes(): pass\n"
        "def test_fails(): assert False\n"
        "@pytest.mark.parametrize('n', [1, 2])\n"
        "def test_skips(n): pytest.skip('no server here')\n"
        "@pytest.mark.full\n"
        "def test_slow(): pass\n"
    )
    tally = tmp_path / "tally.json"

    subprocess.run(
        [sys.executable, "-m", "pytest", "-c", "pyproject.toml", "-p", "scripts.tally", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"ALLOCATOR_TALLY_FILE": str(tally)},
        capture_output=True,
        check=False,
    )

    assert json.loads(tally.read_text()) == {
        "outcomes": {"left out": 1, "passed": 1, "failed": 1, "skipped": 2},
        "reasons": {"slow proof, run by: scripts/test -m full": 1, "no server here": 2},
    }
