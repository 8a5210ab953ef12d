"""The API as a process of its own, and what tests ask of it."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from allocator.persistence import Assets, open_store
from allocator.services.ports import free_port
from tests.faults.running import until

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
INGEST = "/api/v1/ingest"
OBJECTS = "/api/v1/objects"
LETTERS = "/api/v1/dead-letters"


class ApiServer:
    """
    A server on loopback with a folder and a database of its own; a context manager.

    Args:
        root: For everything it writes.
        launcher: A command before the server's own, which becomes the server.
        settings: As `ApiSettings` names them.
    Attributes:
        client: Speaks to it.
    """

    def __init__(self, root: Path, launcher: Sequence[str] = (), **settings: object) -> None:
        self.root = root
        self._launcher = launcher
        self.data = root / "data"
        self.store_url = str(settings.get("store_url", f"sqlite:///{root / 'store.db'}"))
        self.port = free_port()
        self.log = root / "log"
        self._settings = {
            "queue_url": "memory://",
            "data": self.data,
            "store_url": self.store_url,
            "port": self.port,
            "grace_s": 5,
            **settings,
        }
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30, trust_env=False)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it, and wait until it answers."""
        named = {f"ALLOCATOR_{name.upper()}": str(value) for name, value in self._settings.items()}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._launcher, sys.executable, "-m", "allocator.cli", "serve"],
                cwd=ROOT,
                env={**os.environ, **named},
                stderr=log,
            )
        until(self._answers, f"the server answers; its log: {self.log}")
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.client.get("/live").status_code == 200
        except httpx.TransportError:
            time.sleep(0.05)
            return False

    def stop(self) -> int:
        """End it by SIGTERM; gives its exit status."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()

    def restart(self, **settings: object) -> Self:
        """Start it again after it has ended, where it was, with some settings changed."""
        self._settings |= settings
        return self.start()

    def kill(self) -> None:
        """End it by SIGKILL, and with it its worker processes."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        status = self.stop()
        self.client.close()
        assert status in (0, -signal.SIGTERM), self.log.read_text()
        # Whatever clients send, the server meets with no error of its own.
        assert "Traceback" not in self.log.read_text(), self.log.read_text()

    # What tests ask

    def send(self, *files: tuple[str, bytes], **more: Any) -> dict[str, Any]:
        """Upload files, which must be accepted; gives the answer."""
        response = self.post(*files, **more)
        assert response.status_code == 202, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def post(self, *files: tuple[str, bytes], data: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        """Upload files and fields, in a form of parts even where there is no file."""
        fields: list[Any] = [(name, (None, text)) for name, text in (data or {}).items()]
        return self.client.post(INGEST, files=fields + [("files[]", file) for file in files], **more)

    def finished(self, job_id: str) -> dict[str, Any]:
        """The status of an upload, once everything in it has ended."""
        found: list[dict[str, Any]] = []

        def has_ended() -> bool:
            found[:] = [self.status(job_id)]
            return found[0]["status"] in ("done", "failed")

        until(has_ended, f"upload {job_id} has ended")
        return found[0]

    def status(self, job_id: str) -> dict[str, Any]:
        """The status of an upload."""
        response = self.client.get(f"{INGEST}/{job_id}/status")
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def object(self, object_id: str) -> dict[str, Any]:
        """All that is known of an object."""
        response = self.client.get(f"{OBJECTS}/{object_id}")
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def incoming(self) -> list[str]:
        """The names of files that are being written."""
        return os.listdir(self.data / "incoming")

    def with_assets(self, ask: Any) -> Any:
        """What `ask` returns for the assets in the database."""
        store = open_store(self.store_url)
        try:
            return ask(Assets(store))
        finally:
            store.close()


BOUNDARY = "part-of-the-form"
FORM_TYPE = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def form(name: bytes, content: bytes, field: bytes = b"files[]", end: bool = True) -> bytes:
    """A form of one file, byte by byte: a client that means well would not send such names."""
    lead = f"--{BOUNDARY}\r\nContent-Disposition: form-data; ".encode()
    body = lead + b'name="' + field + b'"; filename="' + name + b'"\r\n\r\n' + content
    return body + f"\r\n--{BOUNDARY}--\r\n".encode() if end else body


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The problem that a response must be."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return body


def run_apart(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in a thread of its own: in this one Playwright may have left a loop that runs."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()
