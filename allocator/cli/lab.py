"""`allocator lab`."""

import importlib.util
import os
import signal
import sys
import time
import webbrowser
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from allocator.cli.failing import fail

if TYPE_CHECKING:
    from allocator.lab.serving import Notebooks

NEEDED = ("IPython", "ipywidgets", "jupyterlab", "matplotlib", "numpy", "pandas", "pyarrow", "scipy", "yaml")


def lab(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR",
            help="For copies of the notebooks; what is there is left alone. "
            "Without it: a checkout's own, else copies in allocator-lab/.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, metavar="N", help="Port to listen on; a free one if not given.")
    ] = None,
    browser: Annotated[bool, typer.Option(help="Whether to open a browser.")] = True,
) -> None:
    """
    Open JupyterLab on the notebooks, to work the system by hand; Ctrl-C or SIGTERM ends it and its kernels.

    It listens on loopback only, asks for the token in the address that is printed, and sends nothing outside.
    `lab.ipynb` starts a server of its own, which may be harmed; other notebooks use those of REDIS_URL and
    DATABASE_URL, or start what they need. What a notebook started ends with its kernel.

    Examples: `allocator lab`, `allocator lab ~/allocator-lab`, `allocator lab --port 8888 --no-browser`
    """
    missing = next((name for name in NEEDED if importlib.util.find_spec(name) is None), None)
    if missing is not None:
        fail(f"{missing} is not installed; the lab needs it: pip install 'allocator[notebooks]'")
    from allocator.lab.serving import find_notebooks, open_lab
    from allocator.services import ServiceUnavailable

    # Both signals raise, so that they end the command at whatever point it is, a start included.
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        notebooks = find_notebooks(folder)
        _tell(notebooks)
        _tell_servers()
        with open_lab(notebooks, port) as server:
            print(server.url, "Ctrl-C ends it and its kernels.", sep="\n", flush=True)
            if browser and _has_screen():
                webbrowser.open(server.url)
            while server.pid is not None:
                time.sleep(0.5)
        print("JupyterLab was shut down.")
    except KeyboardInterrupt:
        return
    except (ServiceUnavailable, OSError) as error:
        fail(str(error))


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    # Once is enough: another Ctrl-C must not cut short the end of kernels and their servers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _tell(notebooks: "Notebooks") -> None:
    print(f"notebooks: {notebooks.folder}", flush=True)
    if notebooks.copied:
        print(f"copied: {', '.join(notebooks.copied)}", flush=True)
    if notebooks.kept:
        print(
            f"kept as they were, unlike those of this version: {', '.join(notebooks.kept)}. "
            "Delete or rename one to have it copied anew",
            flush=True,
        )


def _tell_servers() -> None:
    from allocator.services import installed_postgres, installed_redis

    redis, postgres = [source for *_, source in installed_redis()], [source for _, source in installed_postgres()]
    for name, variable, sources in (("redis", "REDIS_URL", redis), ("postgres", "DATABASE_URL", postgres)):
        if os.environ.get(variable):
            print(f"{name}: that of {variable}", flush=True)
        elif sources:
            print(f"{name}: started by a notebook that needs it ({sources[0]})", flush=True)
        else:
            print(f"{name}: there is none; a notebook that needs it says how to get it", flush=True)


def _has_screen() -> bool:
    # Elsewhere a browser in text mode may be found, which would take over the terminal.
    return sys.platform == "darwin" or any(map(os.environ.get, ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")))
