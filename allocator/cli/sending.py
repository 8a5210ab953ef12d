"""
Sends files to a server, several at a time, none of them twice.

What a server has it knows best: for each file it is asked by the idempotency key that the file would be sent under,
which is made of the file's own SHA-256, its name, owner and comments. So a second run sends what is new or changed and
nothing else, from whatever machine, after whatever went wrong, and also after an object was deleted there; a journal on
this side could be lost, or be true of another server. The price is that files are read again, not that they are sent.

Under the same key a request whose answer was lost is made again: the server takes it once.
"""

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import anyio
import httpx
import msgspec
from anyio import to_thread

from allocator.cli.remote import INGEST, told, unreachable
from allocator.cli.tree import Found
from allocator.domain.errors import AllocatorError

LOST_TRIES = 7
"""Times that a request is made whose connection is lost, with pauses of 0.5 s, 1 s and so on: half a minute."""

BUSY_S = 600.0
"""How long a server may put a request off."""

CHANGED_TRIES = 3
READ_BYTES = 1024 * 1024
POLL_S = (0.05, 1.0)
"""Between two looks at an upload that has not ended: the first ones, and the longest."""


class ServerGone(AllocatorError):
    """No request gets through any more, or none is allowed; what was sent before stays."""


class _NotSent(Exception):
    """Why this file cannot be sent."""


class _Changed(Exception):
    """The file is not what it was when its SHA-256 was made."""


@dataclass
class Outcome:
    """
    What became of a file.

    Args:
        state: "sent", "already there" or "failed".
        sha256: Of its bytes, where they could be read.
        job_id: Of its upload.
        error: Why it failed, here or where it is processed.
        kind: By content, and
        processed: the state of its object, "done" or "failed"; both once it was followed.
    """

    found: Found
    state: str
    sha256: str | None = None
    job_id: str | None = None
    error: str | None = None
    kind: str | None = None
    processed: str | None = None


@dataclass
class Sender:
    """
    Sends files, and follows them; for one run.

    Args:
        client: Made with the options of `http_options`.
        owner, comments: Of all files.
        jobs: Files at a time.
        on_bytes: Is told how many bytes were read to be sent; fewer than none where they are to be sent again.
        on_outcome: Is told of each file; with a failed one, why.
    Attributes:
        outcomes: Of the files so far, in the order in which they ended.
        sent_bytes: Of the files that were sent.
    """

    client: httpx.AsyncClient
    owner: str
    comments: str | None
    jobs: int
    on_bytes: Callable[[int], None] = lambda count: None
    on_outcome: Callable[[Outcome], None] = lambda outcome: None
    outcomes: list[Outcome] = field(default_factory=list)
    sent_bytes: int = 0
    _stopping: threading.Event = field(default_factory=threading.Event)
    _answers: int = 0

    async def send(self, files: Iterable[Found]) -> None:
        """
        Send what the server does not have. When this is cancelled, uploads that have not ended leave nothing.

        Raises:
            ServerGone: The rest was not tried.
        """

        async def send_one(found: Found) -> None:
            outcome = await self._send(found)
            self.outcomes.append(outcome)
            self.on_outcome(outcome)

        try:
            await self._each(files, send_one)
        finally:
            # A thread that reads a large file ends soon.
            self._stopping.set()

    async def follow(self, on_ended: Callable[[Outcome], None] = lambda outcome: None) -> None:
        """Wait until all that is on the server was processed. Raises ServerGone."""

        async def follow_one(outcome: Outcome) -> None:
            await self._follow(outcome)
            on_ended(outcome)

        await self._each([one for one in self.outcomes if one.job_id is not None], follow_one)

    async def _each(self, items: Iterable[Any], do: Callable[[Any], Any]) -> None:
        waiting = iter(items)

        async def work() -> None:
            for item in waiting:
                await do(item)

        try:
            async with anyio.create_task_group() as group:
                for _ in range(self.jobs):
                    group.start_soon(work)
        except BaseExceptionGroup as errors:
            if others := errors.split(ServerGone)[1]:
                raise others from None
            # One is enough: they all say the same.
            raise ServerGone(str(errors.exceptions[0])) from None

    # One file

    async def _send(self, found: Found) -> Outcome:
        outcome = Outcome(found, "failed")
        try:
            for _ in range(CHANGED_TRIES):
                try:
                    await self._send_as_it_is(found, outcome)
                    return outcome
                except _Changed:
                    continue
            outcome.error = "changes while it is being read"
        except _NotSent as problem:
            outcome.error = str(problem)
        except OSError as error:
            outcome.error = f"cannot be read: {error.strerror or error}"
        return outcome

    async def _send_as_it_is(self, found: Found, outcome: Outcome) -> None:
        sha256, size = await to_thread.run_sync(self._hash, found, abandon_on_cancel=True)
        outcome.sha256 = sha256
        key = _key(self.owner, found.name, sha256, self.comments)
        known = await self._request("GET", params={"owner": self.owner, "key": key})
        if known.is_success:
            outcome.state = "already there"
        else:
            if known.status_code != 404:
                raise _NotSent(told(known))
            known = await self._request("POST", (found, sha256, size), headers={"Idempotency-Key": key})
            if not known.is_success:
                raise _NotSent(told(known))
            outcome.state = "sent"
            self.sent_bytes += size
        outcome.job_id = _answer(known)["job_id"]

    def _hash(self, found: Found) -> tuple[str, int]:
        """SHA-256 and size, of a whole file."""
        hashed, size = hashlib.sha256(), 0
        with _opened(found.path) as file:
            while (chunk := file.read(READ_BYTES)) and not self._stopping.is_set():
                hashed.update(chunk)
                size += len(chunk)
        return hashed.hexdigest(), size

    async def _follow(self, outcome: Outcome) -> None:
        pause_s, longest_s = POLL_S
        while True:
            response = await self._request("GET", path=f"{INGEST}/{outcome.job_id}/status")
            if not response.is_success:
                outcome.processed, outcome.error = "failed", told(response)
                return
            (found,) = _answer(response)["objects"]
            if found["state"] in ("done", "failed"):
                outcome.kind, outcome.processed, outcome.error = found["kind"], found["state"], found["error"]
                return
            await anyio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, longest_s)

    # One request

    async def _request(
        self, method: str, file: tuple[Found, str, int] | None = None, path: str = INGEST, **given: Any
    ) -> httpx.Response:
        """The answer, after as many tries as it takes within bounds."""
        answers, losses, put_off_s = self._answers, 0, 0.0
        while True:
            try:
                response = await self._try(method, path, file, given)
            except httpx.TransportError as error:
                losses += 1
                is_nowhere = isinstance(error, httpx.ConnectError) and not self._answers
                if losses >= LOST_TRIES or is_nowhere:
                    problem = unreachable(str(self.client.base_url), error)
                    # Where others get through meanwhile, it is this file's trouble.
                    raise (ServerGone(problem) if answers == self._answers else _NotSent(problem)) from None
                await anyio.sleep(0.25 * 2**losses)
                continue
            self._answers += 1
            if response.status_code in (401, 403, 421):
                raise ServerGone(told(response))
            pause_s = _retry_after_s(response)
            if pause_s is None or put_off_s + pause_s > BUSY_S:
                return response
            put_off_s += pause_s
            await anyio.sleep(pause_s)

    async def _try(
        self, method: str, path: str, file: tuple[Found, str, int] | None, given: dict[str, Any]
    ) -> httpx.Response:
        if file is None:
            return await self.client.request(method, path, **given)
        found, sha256, size = file
        texts = {"owner": self.owner} | ({} if self.comments is None else {"comments": self.comments})
        with _opened(found.path) as opened:
            reader = _Reader(opened, sha256, size, self.on_bytes)
            # As much of a file as httpx asks of one.
            sent: Any = (found.name, reader, "application/octet-stream")
            try:
                response = await self.client.request(method, path, data=texts, files={"files[]": sent}, **given)
            except BaseException:
                self.on_bytes(-reader.read_bytes)
                raise
        if not response.is_success:
            self.on_bytes(-reader.read_bytes)
        return response


class _Reader:
    """
    A file on its way out, hashed once more. Its end is held back where it is not what was promised: then the form is
    cut off, and the server keeps nothing under a key that belongs to other bytes.
    """

    def __init__(self, file: BinaryIO, sha256: str, size: int, on_bytes: Callable[[int], None]) -> None:
        self._file = file
        self._sha256 = sha256
        self._size = size
        self._on_bytes = on_bytes
        self._hash = hashlib.sha256()
        self.read_bytes = 0
        if os.fstat(file.fileno()).st_size != size:
            raise _Changed

    def fileno(self) -> int:
        """By which the length is told."""
        return self._file.fileno()

    def read(self, size: int) -> bytes:
        """The next bytes."""
        chunk = self._file.read(size)
        self._hash.update(chunk)
        self.read_bytes += len(chunk)
        self._on_bytes(len(chunk))
        if self.read_bytes >= self._size and (self.read_bytes, self._hash.hexdigest()) != (self._size, self._sha256):
            raise _Changed
        if not chunk and self.read_bytes < self._size:
            raise _Changed
        return chunk


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    # What was a file a moment ago may be a link or a pipe by now.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _NotSent("is no regular file any more")
        yield file


def _key(owner: str, name: str, sha256: str, comments: str | None) -> str:
    """The same for the same file of the same owner, and for no other: all that the server tells uploads apart by."""
    return hashlib.sha256(msgspec.json.encode(["file", owner, name, sha256, comments])).hexdigest()


def _answer(response: httpx.Response) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = response.json()
    except ValueError:
        raise ServerGone(told(response)) from None
    return answer


def _retry_after_s(response: httpx.Response) -> float | None:
    """How long to wait before the request is made again; None where that is of no use."""
    if response.status_code not in (429, 503):
        return None
    given = response.headers.get("retry-after", "")
    return min(float(given), 60.0) if given.isdecimal() else 5.0
