"""`allocator lab` as a process of its own, as someone types it."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit

import httpx
import psutil
from jupyter_client import BlockingKernelClient

from tests.faults.running import LONG_S

ROOT = Path(__file__).parents[2]


class LabCommand:
    """
    A context manager: it is there once it has printed its address, and ended afterwards.

    Args:
        folder: Where it is started; settings of JupyterLab are kept there, and not for this account.
        arguments: As typed.
        environment: Of it, besides this process's.
    Attributes:
        said: The lines that it printed, up to the address.
        url: The address that it printed.
        client: Asks the server, with the token.
    """

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._arguments = arguments
        self._environment = {"PYTHONPATH": str(ROOT), "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings")} | environment
        self.said: list[str] = []
        self.url = ""

    def __enter__(self) -> Self:
        with (self._folder / "complaints").open("wb") as complaints:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "allocator.cli", "lab", *self._arguments],
                cwd=self._folder,
                env={**os.environ, **self._environment},
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
            )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line.rstrip("\n"))
            if line.startswith("http"):
                self.url = self.said[-1]
                break
        else:
            raise AssertionError(f"it ended with {self.process.wait()}: {self.complaints}")
        parts = urlsplit(self.url)
        token = parse_qs(parts.query)["token"][0]
        self.client = httpx.Client(
            base_url=f"http://{parts.netloc}", headers={"Authorization": f"token {token}"}, trust_env=False, timeout=30
        )
        return self

    def __exit__(self, *error: object) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.end(signal.SIGTERM)
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def complaints(self) -> str:
        """What it wrote to standard error."""
        return (self._folder / "complaints").read_text()

    def family(self) -> list[psutil.Process]:
        """The processes that it started, and those that they did."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def kernels(self) -> list[psutil.Process]:
        """The kernels that run."""
        found = []
        for each in self.family():
            # One may end while it is looked at.
            with suppress(psutil.NoSuchProcess):
                if "ipykernel_launcher" in each.cmdline():
                    found.append(each)
        return found

    def end(self, number: signal.Signals) -> int:
        """Send it a signal; gives its exit status, once everything that it started has gone too."""
        family = self.family()
        self.process.send_signal(number)
        try:
            status = self.process.wait(LONG_S)
            _, alive = psutil.wait_procs(family, timeout=LONG_S)
            assert alive == []
        finally:
            self.process.kill()
        return status

    def start_kernel(self) -> psutil.Process:
        """A kernel, as opening a notebook starts one; returns once it answers."""
        id = self.client.post("/api/kernels", json={"name": "python3"}).raise_for_status().json()["id"]
        (process,) = (each for each in self.kernels() if id in each.cmdline()[-1])
        kernel = BlockingKernelClient(connection_file=process.cmdline()[-1])
        kernel.load_connection_file()
        # Without heartbeats: a kernel that is slow to start is taken for dead by them.
        kernel.start_channels(hb=False)
        kernel.wait_for_ready(timeout=LONG_S)
        kernel.stop_channels()
        return process
