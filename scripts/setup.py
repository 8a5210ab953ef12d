"""
Sets this checkout up: `.venv` with all that `requirements.lock` names, and the package itself, editable.

    scripts/python                      set up, if anything changed
    scripts/python test [ARGUMENT...]   set up, then every check and every test; arguments go to pytest
    scripts/python run MODULE [...]     set up, then run a module in the environment
    scripts/python lock [--upgrade]     resolve pyproject.toml into requirements.lock, then set up;
                                        what is pinned stays pinned, except with --upgrade

Standard library only, since it runs before anything is installed. Nothing is written outside the checkout and
the user's cache. A change removes the stamp first and writes it last, so a set-up that was cut short is seen
and done anew; a file lock lets one set-up work at a time. Heavy imports wait until something has to be done.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
VENV_UV = VENV / "bin" / "uv"
STAMP = VENV / "setup.stamp"
LOCK = ROOT / "requirements.lock"
PROJECT = ROOT / "pyproject.toml"

# Raise it when this file begins to build environments differently, so that existing ones are built anew.
STAMP_VERSION = "1"

# Settings of the user's shell that would send packages elsewhere than into the environment.
MISLEADING = (
    "CONDA_PREFIX",
    "PIP_PREFIX",
    "PIP_REQUIRE_HASHES",
    "PIP_TARGET",
    "PIP_USER",
    "PYTHONHOME",
    "PYTHONPATH",
    "UV_REQUIRE_HASHES",
    "UV_SYSTEM_PYTHON",
    "UV_TARGET",
    "VIRTUAL_ENV",
)


class SetupError(Exception):
    """The set-up cannot go on. The text says what to do about it."""


class StepFailed(SetupError):
    """A command of the set-up failed. The text is its output."""


def main(arguments: list[str]) -> int:
    """Sets up, then does what the first argument says. Returns the exit status: 2 if the set-up failed."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if command not in ("", "test", "run", "lock") or (command == "run" and not rest):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        set_up()
        if command == "lock":
            resolve(upgrade="--upgrade" in rest)
            set_up()
    except SetupError as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 2
    except PermissionError as error:
        print(
            f"set-up: {error.filename} may not be written by this user: "
            "run the set-up as the checkout's owner, or in a checkout of your own.",
            file=sys.stderr,
        )
        return 2
    if command == "test":
        replace_by([str(ROOT / "scripts" / "checks.py"), *rest])
    if command == "run":
        replace_by(["-m", *rest])
    return 0


def replace_by(arguments: list[str]) -> NoReturn:
    """The environment's Python with these arguments, in the place of this process."""
    sys.stdout.flush()
    os.execv(VENV_PYTHON, [str(VENV_PYTHON), *arguments])


# --- what is there ----------------------------------------------------------------------------------------


def stamp_wanted() -> tuple[str, str]:
    """
    What the environment must have been made from: the interpreter and place, and the contents.

    Scripts in an environment name their interpreter by its full path, so a moved checkout needs a new one.
    """
    version = ".".join(map(str, sys.version_info[:3]))
    contents = hashlib.sha256(LOCK.read_bytes() + b"\0" + PROJECT.read_bytes()).hexdigest()
    return f"{STAMP_VERSION} Python {version} of {sys.base_prefix} in {VENV}", contents


def stamp_found() -> tuple[str, str] | None:
    """The stamp of the last set-up that came to its end, if its environment still has a Python."""
    try:
        made, contents = STAMP.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    return (made, contents) if python_works() else None


def python_works() -> bool:
    """Whether the environment's Python starts; it does not once the one that it was made from is gone."""
    if os.path.samefile(sys.prefix, VENV):
        return True
    if not os.access(VENV_PYTHON, os.X_OK):
        return False
    import subprocess

    return subprocess.run([VENV_PYTHON, "-I", "-c", ""], capture_output=True, check=False).returncode == 0


# --- set-up -----------------------------------------------------------------------------------------------


def set_up() -> None:
    """Brings the environment to what the lock file and pyproject.toml say; does nothing if it is there."""
    wanted = stamp_wanted()
    if stamp_found() == wanted:
        return
    with one_at_a_time():
        began = time.perf_counter()
        # Another set-up may have done the work while this one waited for its turn.
        found = stamp_found()
        if found == wanted:
            return
        # Behind a link it is another checkout's; the link itself goes when the environment is made.
        if not VENV.is_symlink():
            STAMP.unlink(missing_ok=True)
        if found is None or found[0] != wanted[0]:
            make_environment()
        install()
        unfinished = STAMP.with_suffix(".new")
        unfinished.write_text("\n".join(wanted) + "\n", encoding="utf-8")
        unfinished.replace(STAMP)
        print(f"set-up: done in {time.perf_counter() - began:.1f} s", flush=True)


lock_fd: int | None = None


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """
    Entered while no other set-up of this checkout is at work.

    The commands of the set-up inherit the lock: if this process is killed, the next set-up still waits for
    the command that it left behind, rather than take the environment away under it.
    """
    import fcntl

    global lock_fd
    lock_fd = os.open(ROOT / ".setup.lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("set-up: waiting for another set-up of this checkout", flush=True)
            fcntl.flock(lock_fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock_fd)
        lock_fd = None


def make_environment() -> None:
    """A new `.venv` with uv in it, and with pip where this Python can put it there."""
    import importlib.util
    import shutil

    if VENV.is_symlink():
        # What it points to lies outside the checkout and is not ours to clear.
        VENV.unlink()
    elif VENV.exists():
        shutil.rmtree(VENV)
    # Inside an environment this is the Python that it was made from: the environment itself is gone by now.
    base = getattr(sys, "_base_executable", None) or sys.executable
    # Debian keeps ensurepip in a package of its own; a pip or uv that is already there serves as well.
    without_pip = [] if importlib.util.find_spec("ensurepip") else ["--without-pip"]
    step(f"new .venv on Python {sys.version.split()[0]}", [base, "-m", "venv", *without_pip, str(VENV)])
    if not without_pip:
        installer = [str(VENV_PYTHON), "-m", "pip", "install"]
    elif runs([base, "-m", "pip", "--python", str(VENV_PYTHON), "--version"]):
        installer = [base, "-m", "pip", "--python", str(VENV_PYTHON), "install"]
    elif runs(["uv", "--version"]):
        installer = ["uv", "pip", "install", "--python", str(VENV_PYTHON)]
    else:
        raise SetupError(
            f"{base} can put no pip into an environment, and there is neither pip nor uv beside it: "
            "install one of them (Debian, Ubuntu: apt-get install python3-venv)."
        )
    try:
        with part_of_lock(lambda name: name == "uv") as part:
            step("uv", [*installer, "--require-hashes", "-r", part])
    except StepFailed as error:
        go_on_with_pip(error)


def install() -> None:
    """
    Everything in the lock file, then this package, editable.

    The package is built with what the lock file brought, so this step fetches nothing. Nothing is looked for beyond the
    lock file either, since it leaves out what pyproject.toml overrides.
    """
    locked = ["--require-hashes", "--no-deps", "-r"]
    package = ["--no-index", "--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
    if runs([str(VENV_UV), "--version"]):
        uv = [str(VENV_UV), "pip", "install", "--python", str(VENV_PYTHON)]
        try:
            step("packages, with uv", [*uv, *locked, str(LOCK)])
            step("allocator, editable", [*uv, "--reinstall-package", "allocator", *package])
            return
        except StepFailed as error:
            # pip knows settings that uv ignores: pip.conf, and a certificate authority of one's own.
            go_on_with_pip(error)
    # As uv does: modules are compiled when first imported; all of them at once would take most of a minute.
    pip = [str(VENV_PYTHON), "-m", "pip", "install", "--no-compile"]
    with part_of_lock(lambda name: name != "uv") as part:
        step("packages, with pip", [*pip, *locked, part])
    step("allocator, editable", [*pip, "--force-reinstall", *package])


def go_on_with_pip(error: StepFailed) -> None:
    """Says that pip takes over from uv; where the environment has no pip, the failure stands."""
    if not (VENV / "bin" / "pip").exists():
        raise error
    print(f"set-up: {error}\nset-up: going on with pip alone", flush=True)


@contextmanager
def part_of_lock(wanted: Callable[[str], bool]) -> Iterator[str]:
    """The path of a temporary requirements file with those entries of the lock file, hashes included."""
    import tempfile

    lines: list[str] = []
    keep = False
    for line in LOCK.read_text(encoding="utf-8").splitlines(keepends=True):
        # An entry begins at the margin with its name; its hashes follow, indented.
        if line[0].isalnum():
            keep = wanted(line.partition("==")[0])
        if keep:
            lines.append(line)
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.writelines(lines)
        file.flush()
        yield file.name


def resolve(*, upgrade: bool) -> None:
    """Writes requirements.lock: every extra and the dev group, for every supported Python and platform."""
    everywhere = ["--universal", "--python-version", "3.11", "--generate-hashes"]
    everything = ["--all-extras", "--group", "dev", "pyproject.toml", "--output-file", LOCK.name]
    # The header would otherwise repeat the whole command line.
    looks = ["--no-annotate", "--custom-compile-command", "scripts/python lock"]
    newer = ["--upgrade"] if upgrade else []
    step("resolve", [str(VENV_UV), "pip", "compile", *everywhere, *everything, *looks, *newer])


# --- commands ---------------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    """The process environment for the set-up's commands, without what would lead them astray."""
    found = {name: value for name, value in os.environ.items() if name not in MISLEADING}
    cache = Path(found.get("UV_CACHE_DIR") or found.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    # os.path.exists, since Path.exists raises where a folder above may not be read.
    existing = next(place for place in (cache, *cache.absolute().parents) if os.path.exists(place))
    if not os.access(existing, os.W_OK | os.X_OK):
        # A user without a home of their own; uv would refuse to work, where pip only warns.
        found["UV_NO_CACHE"] = "1"
    return found


def runs(command: list[str]) -> bool:
    """Whether this command starts and succeeds, quietly."""
    import subprocess

    try:
        return subprocess.run(command, capture_output=True, env=environment(), check=False).returncode == 0
    except OSError:
        return False


def step(label: str, command: list[str]) -> None:
    """Runs one command of the set-up, in a line with its time; its output is shown only if it fails."""
    import subprocess

    print(f"set-up: {label} ", end="", flush=True)
    began = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
        pass_fds=() if lock_fd is None else (lock_fd,),
    )
    seconds = time.perf_counter() - began
    print(f"{'.' * max(2, 40 - len(label))} {seconds:5.1f} s", flush=True)
    if done.returncode != 0:
        raise StepFailed(f"{label} failed with exit status {done.returncode}:\n{done.stdout.rstrip()}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
