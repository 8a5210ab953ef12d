"""A server of the API in processes of its own, on a folder and a database of its own, and clients that cost little."""

import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import msgspec
import psutil

from allocator.services.ports import free_port

START_S = 60.0
LOOK_S = 0.02
"""Between two looks at the memory."""

BOUNDARY = "allocator-bench"
FORM_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
INGEST = "/api/v1/ingest"


class BrokenServer(RuntimeError):
    """The server did not start, or did not answer as it must: the harness is broken, not the server slow."""


class Server:
    """
    As `allocator serve` runs it, with records in SQLite.

    Args:
        folder: Of its own; files are in data/, records in store.db.
        processes: Of its workers.
        queue_url, queue_name: Of its queue, by default one in process.
    """

    def __init__(self, folder: Path, processes: int, queue_url: str = "memory://", queue_name: str = "default") -> None:
        self.folder = folder
        self.port = free_port()
        self._log = folder / "log"
        environment = os.environ | {
            "ALLOCATOR_QUEUE_URL": queue_url,
            "ALLOCATOR_QUEUE_NAME": queue_name,
            "ALLOCATOR_DATA": str(folder / "data"),
            "ALLOCATOR_STORE_URL": f"sqlite:///{folder / 'store.db'}",
            "ALLOCATOR_PORT": str(self.port),
            "ALLOCATOR_HOST": "127.0.0.1",
            "ALLOCATOR_PROCESSES": str(processes),
            "ALLOCATOR_GRACE_S": "5",
            "ALLOCATOR_LOG_LEVEL": "WARNING",
        }
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "allocator.cli", "serve"]
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with client_of(self.port) as client:
                    client.get("/live")
                return
            except (OSError, HTTPException):
                time.sleep(0.05)
        raise BrokenServer(
            f"the server did not start within {START_S:g} s: …{self._log.read_text(errors='replace')[-800:]}"
        )

    def stop(self) -> None:
        """End it, by force if it takes long."""
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @contextmanager
    def peak_rss(self) -> Iterator[list[int]]:
        """Gives a list of two: resident bytes of the server itself before, and at most until the block ends."""
        server = psutil.Process(self._process.pid)
        before = server.memory_info().rss
        seen = [before, before]
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(LOOK_S):
                seen[1] = max(seen[1], server.memory_info().rss)

        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        try:
            yield seen
        finally:
            ended.set()
            looking.join()


@contextmanager
def running(processes: int, folder: Path | None = None, **options: str) -> Iterator[Server]:
    """
    A server, and its folder with all in it, until the block ends; a folder that is given stays.

    Args:
        options: As of Server.
    """
    with tempfile.TemporaryDirectory(prefix="allocator-bench-") as made:
        server = Server(folder or Path(made), processes, **options)
        try:
            yield server
        finally:
            server.stop()


class Client:
    """One connection, that stays open; the standard library's, as it takes less of the cores that the server needs."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=120)

    def get(self, path: str) -> bytes:
        """The body of a 200. Raises BrokenServer for any other status."""
        return self._ask("GET", path, None, {}, 200)

    def post(self, body: bytes | Iterator[bytes], length: int | None = None) -> bytes:
        """Send a form; the body of its 202. Raises BrokenServer for any other status."""
        headers = {"Content-Type": FORM_TYPE} | ({} if length is None else {"Content-Length": str(length)})
        return self._ask("POST", INGEST, body, headers, 202)

    def _ask(
        self, method: str, path: str, body: bytes | Iterator[bytes] | None, headers: dict[str, str], status: int
    ) -> bytes:
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        content = response.read()
        if response.status != status:
            raise BrokenServer(f"{method} {path[:80]}: {response.status} {content[:300]!r}")
        return content

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


@contextmanager
def client_of(port: int) -> Iterator[Client]:
    """A client, until the block ends."""
    client = Client(port)
    try:
        yield client
    finally:
        client.close()


def form_of(files: Mapping[str, bytes]) -> bytes:
    """A form with these files, by name."""
    return b"\r\n".join(form_head(name) + content for name, content in files.items()) + FORM_END


def form_head(name: str) -> bytes:
    """What comes before the bytes of a file in a form; FORM_END comes after those of the last."""
    disposition = f'Content-Disposition: form-data; name="files[]"; filename="{name}"'
    return f"--{BOUNDARY}\r\n{disposition}\r\n\r\n".encode()


FORM_END = f"\r\n--{BOUNDARY}--\r\n".encode()


def payload_form(size: int) -> bytes:
    """A form whose payload is an object of its own, of so many bytes."""
    document = msgspec.json.encode({"text": ""})
    text = secrets.token_hex(size)[: size - len(document)]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="payload"\r\n\r\n'
    return head.encode() + msgspec.json.encode({"text": text}) + FORM_END
