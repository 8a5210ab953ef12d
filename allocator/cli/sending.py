"""
Sends files to a server, several at a time, none of them twice.

What a server has it knows best: it is asked for each file by the file's own SHA-256, its name, owner and comments. So a
second run sends what is new or changed and nothing else, from whatever machine, after whatever went wrong, and also
after an object was deleted there; a journal on this side could be lost, or be true of another server. The price is that
files are read again, not that they are sent.

Small files go together, since a request costs more than they do. JSON goes alone: the documents of one upload are
looked at as one set, and which files happen to go together must decide nothing.

Under the same key a request whose answer was lost is made again: the server takes it once.
"""

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote

import anyio
import httpx
import msgspec
from anyio import to_thread

from allocator.cli.remote import INGEST, OBJECTS, told, unreachable
from allocator.cli.tree import Found
from allocator.domain.errors import AllocatorError
from allocator.ingest.identify import HEAD_BYTES, may_be_json

LOST_TRIES = 7
"""Times that a request is made whose connection is lost, with pauses of 0.5 s, 1 s and so on: half a minute."""

BUSY_S = 600.0
"""How long a server may put a request off."""

TOGETHER, TOGETHER_BYTES = 32, 4 * 1024 * 1024
"""Most files of one request, and most bytes of them; a larger one goes alone, and is not held in memory."""

ASKED_CHARS = 16 * 1024
"""Of an address that asks for files; a server takes 64 KiB of a request's head."""

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
        object_id: Of what it is on the server.
        error: Why it failed, here or where it is processed.
        kind: By content, and
        processed: the state of its object, "done" or "failed"; both once it was followed.
    """

    found: Found
    state: str
    sha256: str | None = None
    job_id: str | None = None
    object_id: str | None = None
    error: str | None = None
    kind: str | None = None
    processed: str | None = None


class _Read(NamedTuple):
    """
    A file as it was when it was read.

    Args:
        content: Of a small one, so that it is sent as it was read.
    """

    outcome: Outcome
    sha256: str
    size_bytes: int
    is_json: bool
    content: bytes | None


@dataclass
class Sender:
    """
    Sends files, and follows them; for one run.

    Args:
        client: Made with the options of `http_options`.
        owner, comments: Of all files.
        jobs: Requests at a time.
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
    _begun: set[tuple[str, str]] = field(default_factory=set)
    _twins: list[Found] = field(default_factory=list)

    async def send(self, files: Iterable[Found]) -> None:
        """
        Send what the server does not have. When this is cancelled, uploads that have not ended leave nothing.

        Raises:
            ServerGone: The rest was not tried.
        """

        async def send_batch(batch: list[Found]) -> None:
            for outcome in await self._send(batch):
                self.outcomes.append(outcome)
                self.on_outcome(outcome)

        try:
            await self._each(_batches(files), send_batch)
            # By now the server has those that they are the same as.
            while self._twins:
                twins, self._twins = self._twins, []
                self._begun.clear()
                await self._each(_batches(twins), send_batch)
        finally:
            # A thread that reads a large file ends soon.
            self._stopping.set()

    async def follow(self, on_ended: Callable[[Outcome], None] = lambda outcome: None) -> None:
        """Wait until all that is on the server was processed. Raises ServerGone."""

        async def follow_one(outcome: Outcome) -> None:
            await self._follow(outcome)
            on_ended(outcome)

        await self._each([one for one in self.outcomes if one.object_id is not None], follow_one)

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

    # One batch

    async def _send(self, batch: list[Found]) -> list[Outcome]:
        """What became of them, but for those that are the same as one that is under way; they are kept for later."""
        outcomes = [Outcome(found, "failed") for found in batch]
        if batch[0].size_bytes > TOGETHER_BYTES:
            await self._send_alone(outcomes[0])
            return outcomes
        reads = await to_thread.run_sync(self._read_all, outcomes, abandon_on_cancel=True)
        reads, twins = self._without_twins(reads)
        asked = False
        try:
            await self._ask(reads)
            asked = True
            new = [read for read in reads if read.outcome.object_id is None]
            together = [read for read in new if not read.is_json and read.content is not None]
            if len(together) > 1:
                await self._post(together)
        except _NotSent:
            # One of them is to blame, or some may have come through: each is asked for, and told about, alone.
            asked = False
        for read in reads:
            if read.outcome.object_id is None:
                await self._send_alone(read.outcome, read if asked else None)
        return [outcome for outcome in outcomes if outcome not in twins]

    def _read_all(self, outcomes: list[Outcome]) -> list[_Read]:
        reads: list[_Read] = []
        for outcome in outcomes:
            with self._failing(outcome):
                reads.append(self._read(outcome))
        return reads

    def _without_twins(self, reads: list[_Read]) -> tuple[list[_Read], list[Outcome]]:
        """Files of the same name and bytes would both be new to the server, were they sent at one time."""
        first: list[_Read] = []
        twins: list[Outcome] = []
        for read in reads:
            found = read.outcome.found
            if (found.name, read.sha256) in self._begun:
                self._twins.append(found)
                twins.append(read.outcome)
            else:
                self._begun.add((found.name, read.sha256))
                first.append(read)
        return first, twins

    async def _send_alone(self, outcome: Outcome, read: _Read | None = None) -> None:
        """
        Send one file, if the server does not have it.

        Args:
            read: Which the server is known not to have.
        """
        with self._failing(outcome):
            for _ in range(CHANGED_TRIES):
                try:
                    if read is None:
                        read = await to_thread.run_sync(self._read, outcome, abandon_on_cancel=True)
                        await self._ask([read])
                    if outcome.object_id is None:
                        await self._post([read])
                    return
                except _Changed:
                    read = None
            outcome.error = "changes while it is being read"

    @contextmanager
    def _failing(self, outcome: Outcome) -> Iterator[None]:
        """What keeps this file from being sent is told with it."""
        try:
            yield
        except _NotSent as problem:
            outcome.error = str(problem)
        except OSError as error:
            outcome.error = f"cannot be read: {error.strerror or error}"

    def _read(self, outcome: Outcome) -> _Read:
        """A whole file."""
        hashed, size = hashlib.sha256(), 0
        chunks: list[bytes] = []
        with _opened(outcome.found.path) as file:
            while (chunk := file.read(READ_BYTES)) and not self._stopping.is_set():
                hashed.update(chunk)
                size += len(chunk)
                if size <= TOGETHER_BYTES:
                    chunks.append(chunk)
                else:
                    del chunks[1:]
        outcome.sha256 = hashed.hexdigest()
        content = b"".join(chunks) if size <= TOGETHER_BYTES else None
        is_json = bool(chunks) and may_be_json(chunks[0][:HEAD_BYTES], False)
        return _Read(outcome, outcome.sha256, size, is_json, content)

    async def _ask(self, reads: Sequence[_Read]) -> None:
        """Mark those that the server has. Raises _NotSent where it cannot be asked."""
        common = {"owner": self.owner} | ({} if self.comments is None else {"comments": self.comments})
        for asked in _askable(reads):
            files = [f"{read.sha256}:{read.outcome.found.name}" for read in asked]
            response = await self._request("GET", path=f"{INGEST}/known", params={**common, "file": files})
            if not response.is_success:
                raise _NotSent(told(response))
            for read, known in zip(asked, _answer(response)["objects"], strict=True):
                if known is not None:
                    outcome = read.outcome
                    outcome.state, outcome.object_id, outcome.job_id = "already there", known["id"], known["upload_id"]

    async def _post(self, reads: Sequence[_Read]) -> None:
        """Send what the server does not have. Raises _NotSent, and _Changed of one that is too large to be kept."""
        keys = [_key(self.owner, read.outcome.found.name, read.sha256, self.comments) for read in reads]
        key = keys[0] if len(keys) == 1 else hashlib.sha256("".join(keys).encode()).hexdigest()
        response = await self._request("POST", reads, headers={"Idempotency-Key": key})
        if not response.is_success:
            raise _NotSent(told(response))
        answer = _answer(response)
        for read, object_id in zip(reads, answer["system_ids"], strict=True):
            outcome = read.outcome
            outcome.state, outcome.object_id, outcome.job_id = "sent", object_id, answer["job_id"]
            self.sent_bytes += read.size_bytes

    async def _follow(self, outcome: Outcome) -> None:
        pause_s, longest_s = POLL_S
        while True:
            response = await self._request("GET", path=f"{OBJECTS}/{outcome.object_id}")
            if not response.is_success:
                outcome.processed, outcome.error = "failed", told(response)
                return
            found = _answer(response)
            if found["state"] in ("done", "failed"):
                outcome.kind, outcome.processed, outcome.error = found["kind"], found["state"], found["error"]
                return
            await anyio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, longest_s)

    # One request

    async def _request(
        self, method: str, reads: Sequence[_Read] = (), path: str = INGEST, **given: Any
    ) -> httpx.Response:
        """The answer, after as many tries as it takes within bounds."""
        answers, losses, put_off_s = self._answers, 0, 0.0
        while True:
            try:
                response = await self._try(method, path, reads, given)
            except httpx.TransportError as error:
                losses += 1
                is_nowhere = isinstance(error, httpx.ConnectError) and not self._answers
                if losses >= LOST_TRIES or is_nowhere:
                    problem = unreachable(str(self.client.base_url), error)
                    # Where others get through meanwhile, it is these files' trouble.
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

    async def _try(self, method: str, path: str, reads: Sequence[_Read], given: dict[str, Any]) -> httpx.Response:
        if not reads:
            return await self.client.request(method, path, **given)
        texts = {"owner": self.owner} | ({} if self.comments is None else {"comments": self.comments})
        with ExitStack() as stack:
            files: list[Any] = []
            readers: list[_Reader] = []
            for read in reads:
                found = read.outcome.found
                content: bytes | _Reader | None = read.content
                if content is None:
                    opened = stack.enter_context(_opened(found.path))
                    # As much of a file as httpx asks of one.
                    readers.append(_Reader(opened, read.sha256, read.size_bytes, self.on_bytes))
                    content = readers[-1]
                files.append(("files[]", (found.name, content, "application/octet-stream")))
            try:
                response = await self.client.request(method, path, data=texts, files=files, **given)
            except BaseException:
                self._take_back(readers)
                raise
        if response.is_success:
            self.on_bytes(sum(len(read.content) for read in reads if read.content is not None))
        else:
            self._take_back(readers)
        return response

    def _take_back(self, readers: Sequence["_Reader"]) -> None:
        """What was read is to be read again."""
        for reader in readers:
            self.on_bytes(-reader.read_bytes)


def _batches(files: Iterable[Found]) -> Iterator[list[Found]]:
    """Files that go together, in their order; a large one alone."""
    batch: list[Found] = []
    size_bytes = 0
    for found in files:
        if found.size_bytes > TOGETHER_BYTES:
            yield [found]
            continue
        if len(batch) == TOGETHER or size_bytes + found.size_bytes > TOGETHER_BYTES:
            yield batch
            batch, size_bytes = [], 0
        batch.append(found)
        size_bytes += found.size_bytes
    if batch:
        yield batch


def _askable(reads: Sequence[_Read]) -> Iterator[list[_Read]]:
    """As many as an address has room for."""
    asked: list[_Read] = []
    chars = 0
    for read in reads:
        more = len(read.sha256) + len(quote(read.outcome.found.name)) + len("&file=:")
        if asked and chars + more > ASKED_CHARS:
            yield asked
            asked, chars = [], 0
        asked.append(read)
        chars += more
    if asked:
        yield asked


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
