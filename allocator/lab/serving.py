"""JupyterLab on the notebooks: on loopback only, behind a token, and set up to ask nobody outside for anything."""

import json
import os
import secrets
import shutil
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from allocator.report.places import notebooks_folder
from allocator.services import Server, free_port
from allocator.services.folder import DataFolder
from allocator.services.server import Launch, ensure_port, started

FIRST = "lab.ipynb"
"""The notebook that is opened."""

LONGEST_SOCKET = 103
"""Bytes in the path of a Unix socket, of macOS; Linux takes a few more."""

_PROBE_LIMIT_S = 2.0
# A proxy that the environment names is for the outside.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Notebooks:
    """
    What JupyterLab shows.

    Args:
        root: The topmost folder that it shows.
        folder: Where the notebooks are, at or below `root`.
        copied: Notebooks that were put there now, by name.
        kept: Notebooks that were there and are not as they come with the package; they were left alone.
    """

    root: Path
    folder: Path
    copied: Sequence[str] = ()
    kept: Sequence[str] = ()


def find_notebooks(folder: Path | None) -> Notebooks:
    """
    Those of the checkout that this package runs from; else, or where a folder is given, copies in that folder.

    Args:
        folder: Made where it is not there. None: the checkout's, or `allocator-lab` in the current folder.
    Raises:
        OSError: The folder is a file, or cannot be made or written.
    """
    source = notebooks_folder()
    checkout = source.parent
    if folder is None and (checkout / "pyproject.toml").is_file():
        return Notebooks(root=checkout, folder=source)
    root = (folder or Path("allocator-lab")).resolve()
    if root.is_file():
        raise NotADirectoryError(f"{root} is a file; name a folder for copies of the notebooks")
    root.mkdir(parents=True, exist_ok=True)
    copied, kept = [], []
    for notebook in sorted(source.glob("*.ipynb")):
        copy = root / notebook.name
        if not copy.exists():
            shutil.copyfile(notebook, copy)
            copied.append(notebook.name)
        elif copy.read_bytes() != notebook.read_bytes():
            kept.append(notebook.name)
    return Notebooks(root=root, folder=root, copied=copied, kept=kept)


def open_lab(notebooks: Notebooks, port: int | None = None) -> Server:
    """
    Start JupyterLab; returns once it answers. Its `url` opens the lab's notebook, and holds the token.

    It and its kernels end with the process that called this, however that ends.

    Args:
        port: None is a free one.
    Raises:
        ServiceUnavailable: It did not start, or the port is taken.
    """
    ensure_port("jupyterlab", port)
    port = port or free_port()
    address, token = f"http://127.0.0.1:{port}", secrets.token_hex(24)
    folder = DataFolder(None, "lab")
    _configure(folder.path, notebooks.root, port, token)
    launch = Launch(
        command=[sys.executable, "-m", "jupyterlab"],
        port=port,
        answers=lambda _pid: _identity(address, token),
        # It gives a kernel five seconds, and never ends by itself when asked to while it restarts one.
        stop_limit_s=10.0,
        env=_environment(folder.path, notebooks.root),
    )
    path = quote((notebooks.folder / FIRST).relative_to(notebooks.root).as_posix())
    url = f"{address}/lab/tree/{path}?token={token}"
    return started(Server(name="jupyterlab", url=url, source="package jupyterlab", launch=launch, folder=folder))


def _configure(private: Path, root: Path, port: int, token: str) -> None:
    # In files, since a command line can be read by everybody on the machine.
    settings: dict[str, dict[str, Any]] = {
        "ServerApp": {
            "ip": "127.0.0.1",
            "port": port,
            "port_retries": 0,
            "root_dir": str(root),
            "open_browser": False,
            # In a container everybody is root, and a token is asked for in any case.
            "allow_root": True,
        },
        "IdentityProvider": {"token": token},
        "LabApp": {
            "news_url": None,
            "check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
            # The other manager asks the package index what there is.
            "extension_manager": "readonly",
        },
    }
    socket = _runtime(private) / f"kernel-{'0' * 36}-ipc-12345"
    if len(os.fsencode(socket)) <= LONGEST_SOCKET:
        # No port is taken then, and no other account of the machine can listen.
        settings["KernelManager"] = {"transport": "ipc"}
    # Without this the first visit begins with the question whether news may be fetched.
    quiet = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}
    (private / "labconfig").mkdir()
    (private / "labconfig" / "default_setting_overrides.json").write_text(json.dumps(quiet), "utf-8")
    (private / "jupyter_server_config.json").write_text(json.dumps(settings), "utf-8")


def _environment(private: Path, root: Path) -> dict[str, str]:
    from jupyter_core.paths import jupyter_config_dir

    # What a person has set there, such as the dark theme, holds here too.
    own_settings = Path(jupyter_config_dir()) / "lab" / "user-settings"
    return {
        "JUPYTER_CONFIG_DIR": str(private),
        # Kernels and extensions of the account stay out: a kernel must be the Python that has this package.
        "JUPYTER_DATA_DIR": str(private / "data"),
        "JUPYTER_RUNTIME_DIR": str(_runtime(private)),
        "JUPYTERLAB_SETTINGS_DIR": os.environ.get("JUPYTERLAB_SETTINGS_DIR", str(own_settings)),
        "JUPYTERLAB_WORKSPACES_DIR": str(private / "workspaces"),
        # Where JupyterLab can show what notebooks leave.
        "ALLOCATOR_REPORTS": os.environ.get("ALLOCATOR_REPORTS", str(root / "reports")),
    }


def _runtime(private: Path) -> Path:
    return private / "run"


def _identity(address: str, token: str) -> tuple[str, str]:
    # Only the server that was given the token answers this; another one on the port refuses it.
    request = urllib.request.Request(f"{address}/api/status", headers={"Authorization": f"token {token}"})
    with _direct.open(request, timeout=_PROBE_LIMIT_S):
        pass
    return "JupyterLab", ""
