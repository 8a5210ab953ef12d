"""
A commit of this checkout, installed apart, so that it can be measured beside the tree as it is.

Its files go to `allocator/baselines/<commit>` in the user's cache. Where that commit locks the same packages as this
tree, both run on those of this environment, and nothing differs but the code; else its own set-up makes it an
environment there. A run of either is made by its own command line, in a program of its own: all of it, from the load
generator to the checker, is that commit's.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from allocator.bench.runs.execution import Progress
from allocator.bench.runs.run import WORKLOAD, NoRun, Run
from allocator.bench.workload import Workload
from allocator.domain.errors import AllocatorError

CHECKOUT = Path(__file__).resolve().parents[2]
LOCK = "requirements.lock"
MADE = (0, 1, 3)
"""Exit statuses of `allocator bench run` with which there is a run, whatever came of it."""
SAID = 600

TRIAL = Workload.model_validate(
    {
        "name": "trial",
        "arrival": {"model": "closed", "clients": 2},
        "jobs": 10,
        "service": {"model": "constant", "seconds": 0.0},
    }
)
"""What shows that a commit understands what it will be asked."""


class NoRevision(AllocatorError):
    """A commit cannot be measured beside this tree; the text says why, and what to do."""


@dataclass(frozen=True)
class Revision:
    """
    Code that runs can be made with.

    Args:
        name: For a reader.
        commit: Its hash; empty where it is none.
        folder: That holds its package.
        python: The interpreter that it runs on.
    """

    name: str
    commit: str
    folder: Path
    python: Path

    def run(
        self,
        workload: Workload,
        say: Callable[[Progress], None] = lambda progress: None,
        *,
        backend: str,
        folder: Path,
    ) -> Run:
        """
        Make a run of the workload with this code, in a program of its own.

        Its rows are this code's; the figures that are kept of them are computed by the code that calls this, so that
        what is compared was computed alike.

        Args:
            say: Told when it begins, and when it is over.
            backend: memory, redis or postgres; a server is started for the run.
            folder: Where runs are kept.

        Raises:
            NoRevision: It could not be made, or is not of the form that is known here.
        """
        say(Progress("preparing"))
        with tempfile.TemporaryDirectory(prefix="allocator-") as own:
            # Away from any checkout: `python -m` looks for the package where it is started first.
            document = Path(own) / f"{workload.name}.yaml"
            document.write_text(workload.to_yaml(defaults=False), "utf-8")
            order = ["bench", "run", str(document), "--backend", backend, "--runs", str(folder.resolve()), "--json"]
            made = self._python(["-m", "allocator.cli", *order], Path(own))
        try:
            if made.returncode not in MADE:
                raise ValueError(f"exit status {made.returncode}: {_end_of(made.stderr)}")
            run = Run(Path(json.loads(made.stdout)["folder"]))
            if run.workload != workload:
                raise ValueError(f"it made it another one, {run.folder / WORKLOAD}: its defaults are others")
            run.adopt()
        except (NoRun, ValueError, LookupError, TypeError) as error:
            raise NoRevision(f"{self.name} could not run the workload {workload.name} on {backend}: {error}") from error
        say(Progress("judging", len(run.jobs), run.summary.states.get("done", 0), len(run.jobs)))
        return run

    def check(self) -> None:
        """
        See that it is this code that runs, and that it understands what it will be asked; takes a few seconds.

        Raises:
            NoRevision: It is not, or does not.
        """
        with tempfile.TemporaryDirectory(prefix="allocator-") as own:
            found = self._python(["-c", "import allocator; print(allocator.__file__)"], Path(own))
            if found.returncode or not Path(found.stdout.strip()).is_relative_to(self.folder):
                said = found.stdout.strip() or _end_of(found.stderr)
                raise NoRevision(f"{self.name}: its package in {self.folder} is not the one that Python finds: {said}")
            try:
                self.run(TRIAL, backend="memory", folder=Path(own))
            except NoRevision as error:
                raise NoRevision(
                    f"{error}. It may be too old to be measured beside this tree: name a later commit"
                ) from error

    def _python(self, arguments: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
        # A run of a comparison is not one that a user's store should know of.
        environment = {name: value for name, value in os.environ.items() if name != "ALLOCATOR_STORE_URL"}
        paths = filter(None, [str(self.folder), environment.get("PYTHONPATH", "")])
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        return subprocess.run(
            [str(self.python), *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


def this_tree() -> Revision:
    """The code that calls this, with all that is not committed yet."""
    return Revision("this tree", "", CHECKOUT, Path(sys.executable))


def install(ref: str, checkout: Path = CHECKOUT, cache: Path | None = None) -> Revision:
    """
    A commit, ready to run; what was installed before is used again.

    Args:
        ref: A commit by any name that git knows: main, HEAD~2, v0.1, a hash.
        checkout: The root of the repository that has it.
        cache: Where commits are installed; None: the user's cache.

    Raises:
        NoRevision: It is no commit of a git checkout, cannot be installed, or is too old to be run by this tree.
    """
    commit = _commit(ref, checkout)
    name = commit[:12] if commit.startswith(ref) else f"{ref} ({commit[:12]})"
    folder = (cache or _cache()).absolute() / commit
    if not folder.is_dir():
        _unpack(commit, checkout, folder)
    python = Path(sys.executable) if _locks_the_same(folder, checkout) else _set_up(folder, name)
    revision = Revision(name, commit, folder, python)
    revision.check()
    return revision


def _commit(ref: str, checkout: Path) -> str:
    try:
        root = _git(checkout, "rev-parse", "--show-toplevel").decode().strip()
    except NoRevision as error:
        raise NoRevision(
            f"{checkout} is no git checkout ({error}); a baseline is a commit of one: clone the repository, and run "
            "the report there"
        ) from error
    if not os.path.samefile(root, checkout):
        # What is installed somewhere below another project's checkout has none of its own.
        raise NoRevision(f"{checkout} is no git checkout of its own; clone the repository, and run the report there")
    try:
        found = _git(checkout, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    except NoRevision as error:
        raise NoRevision(
            f"{ref!r} names no commit in {checkout}; `git log --all` shows those there are, and `git fetch` gets "
            "those of a shallow clone (git fetch --unshallow) or of another branch"
        ) from error
    return found.decode().strip()


def _unpack(commit: str, checkout: Path, folder: Path) -> None:
    """All files of the commit; the folder is there with all of them or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    archive = _git(checkout, "archive", "--format=tar", commit)
    part = Path(tempfile.mkdtemp(prefix=f"{commit[:12]}.", dir=folder.parent))
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(part, filter="data")
        if not folder.is_dir():
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _locks_the_same(folder: Path, checkout: Path) -> bool:
    try:
        return (folder / LOCK).read_bytes() == (checkout / LOCK).read_bytes()
    except OSError:
        return False


def _set_up(folder: Path, name: str) -> Path:
    """The interpreter of the environment that the commit's own set-up makes."""
    script = folder / "scripts" / "python"
    if not script.is_file():
        raise NoRevision(f"{name} cannot be installed: it locks other packages and has no set-up; name a later commit")
    done = subprocess.run(
        ["sh", str(script)],
        env=os.environ | {"PYTHON": sys.executable},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise NoRevision(
            f"{name} cannot be installed; its set-up in {folder} ended with status {done.returncode}: "
            f"{_end_of(done.stderr or done.stdout)}. Name another commit, or mend what it says and try again"
        )
    return folder / ".venv" / "bin" / "python"


def _git(checkout: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", *arguments], cwd=checkout, capture_output=True, check=False)
    except OSError as error:
        raise NoRevision(f"git cannot be run: {error}") from error
    if done.returncode:
        raise NoRevision(_end_of(done.stderr.decode(errors="replace")) or f"git ended with {done.returncode}")
    return done.stdout


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "allocator" / "baselines"


def _end_of(text: str) -> str:
    """The end of what a program said, in one line."""
    said = " ".join(text.split())
    return said if len(said) <= SAID else f"…{said[-SAID:]}"
