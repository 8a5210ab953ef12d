"""
The recorder: fixed-size binary records in a file of each process, which survives a kill -9 of who writes it.

A file is a HEADER and then one RECORD after another. It is mapped into memory, so that what was written belongs to the
operating system from then on. The last field of a record is its mark, one more than its place: a record without it was
being written when its process ended. Room is claimed from the disk before it is written to, so that a full disk is an
error of the one who records, and not a signal that ends the process. Instants are CLOCK_MONOTONIC, which all
processes of a machine share between two boots.
"""

import itertools
import json
import math
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import NoReturn

from allocator.domain.errors import AllocatorError

FOLDER = "ALLOCATOR_BENCH_RECORDS"
"""The variable of the environment that names the folder of records; where it is not set, nothing is recorded."""

SUFFIX, TEXTS_SUFFIX = ".records", ".texts"
MAX_TOKEN_BYTES = 48
MAX_TEXT_CHARS = 500
GROW = 16_384
"""Records by which a file grows: 1.7 MB."""


class Event(IntEnum):
    """What is recorded."""

    ENQUEUE_STARTED = 1
    """A producer is about to send a job."""
    ENQUEUED = 2
    """The queue's reply has come, or none will."""
    STARTED = 3
    """A body begins."""
    FINISHED = 4
    """A body came to its end."""
    SETTLED = 5
    """Queue and store know how an attempt ended, or have refused to hear it."""


class Outcome(IntEnum):
    """How what is recorded ended."""

    NONE = 0
    ACCEPTED = 1
    """ENQUEUED: the queue has the job."""
    REFUSED = 2
    """ENQUEUED: the queue does not have the job."""
    UNKNOWN = 3
    """ENQUEUED: no reply came; the queue may or may not have the job."""
    DONE = 4
    FAILED = 5
    """Another attempt follows, or the job is a dead letter."""
    RELEASED = 6
    LOST = 7
    CANCELLED = 8


RECORD = struct.Struct(f"<qdddIIII{MAX_TOKEN_BYTES}sBBxxI")
"""
A record: at_ns, due_at, leased_at, delay_s, job, attempt, worker, error, token, event, outcome, mark.

at_ns: CLOCK_MONOTONIC. due_at, leased_at: seconds since the epoch on the queue's clock; of ENQUEUE_STARTED, due_at is
the intended instant, in seconds of CLOCK_MONOTONIC. delay_s: until the next attempt is due. job: its number in the run.
worker, error: lines of the file of texts, from 1; 0: none. What is not known is NaN, 0 or empty.
"""

HEADER = struct.Struct("<8sII40sIIqB55x")
"""Magic, version, bytes of a record, boot id, process, parent, opened_ns (CLOCK_MONOTONIC), failed."""

MAGIC, VERSION = b"ALLOCREC", 1
_FAILED_AT = HEADER.size - 56


class RecordingFailed(AllocatorError):
    """Something could not be recorded, so the run cannot be believed and must end."""


def boot_id() -> str:
    """Of this boot of this machine: instants of two processes compare only where it is the same."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unavailable"


def number_of(job_id: str) -> int:
    """The number of a job in its run; ids of a run are a prefix that ends in a dash, and the number."""
    return int(job_id.rsplit("-", 1)[1])


class Recorder:
    """
    Writes records into a new file in `folder`. Thread-safe; not to be used after a fork.

    Raises:
        RecordingFailed: There is no room for the file.
    """

    def __init__(self, folder: Path) -> None:
        opened_ns = time.monotonic_ns()
        self.path = folder / f"{os.getpid()}-{opened_ns}{SUFFIX}"
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self._texts_file = os.open(self.path.with_suffix(TEXTS_SUFFIX), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._lock = threading.Lock()
        self._texts: dict[str, int] = {"": 0}
        self._workers = threading.local()
        # One step of the interpreter: threads share it without a lock.
        self._next = itertools.count().__next__
        self._capacity = 0
        self._closed = False
        self._map = self._claim(GROW)
        boot, process, parent = boot_id().encode(), os.getpid(), os.getppid()
        HEADER.pack_into(self._map, 0, MAGIC, VERSION, RECORD.size, boot, process, parent, opened_ns, 0)

    def record(
        self,
        event: int,
        job: int,
        attempt: int = 0,
        token: str = "",
        outcome: int = 0,
        due_at: float = math.nan,
        leased_at: float = math.nan,
        delay_s: float = math.nan,
        worker: int = 0,
        error: int = 0,
        *,
        # Bound once: look-ups show here.
        pack: Callable[..., None] = RECORD.pack_into,
        now_ns: Callable[[], int] = time.monotonic_ns,
        head: int = HEADER.size,
        size: int = RECORD.size,
    ) -> None:
        """
        Write down that something happens now; see RECORD.

        Where there are many, give places, not names, and plain integers: both are a good tenth faster.

        Args:
            worker, error: From `text`.
        Raises:
            RecordingFailed: The disk is full, or the recorder closed. The file says that it is not whole.
        """
        at_ns = now_ns()
        place = self._next()
        if place >= self._capacity:
            self._grow(place)
        label = token.encode()
        if len(label) > MAX_TOKEN_BYTES:
            self._fail(f"the token {token!r} has more than {MAX_TOKEN_BYTES} bytes")
        pack(
            self._map,
            head + place * size,
            at_ns,
            due_at,
            leased_at,
            delay_s,
            job,
            attempt,
            worker,
            error,
            label,
            event,
            outcome,
            place + 1,
        )

    def text(self, text: str) -> int:
        """The number by which records refer to a text: written down when it is new, and cut at MAX_TEXT_CHARS."""
        number = self._texts.get(text)
        return self._add_text(text[:MAX_TEXT_CHARS]) if number is None else number

    def worker(self) -> int:
        """The text that names the worker of this thread: the process of its supervisor, and its name there."""
        try:
            number: int = self._workers.number
        except AttributeError:
            thread = threading.current_thread()
            # A worker process runs its jobs in the main thread.
            owner = os.getppid() if thread is threading.main_thread() else os.getpid()
            number = self._workers.number = self.text(f"{owner}/{thread.name}")
        return number

    def close(self) -> None:
        """Record nothing more; idempotent."""
        with self._lock:
            if not self._closed:
                self._closed = True
                # The mapping stays: another thread may be writing its last record.
                self._capacity = 0
                os.close(self._file)
                os.close(self._texts_file)

    def _add_text(self, text: str) -> int:
        with self._lock:
            number = self._texts.get(text)
            if number is None:
                line = json.dumps(text).encode() + b"\n"
                self._check_open()
                try:
                    written = os.write(self._texts_file, line)
                except OSError as error:
                    self._fail(str(error))
                if written < len(line):
                    self._fail("a text could not be written to its end: the disk is full")
                number = self._texts[text] = len(self._texts)
        return number

    def _check_open(self) -> None:
        if self._closed:
            raise RecordingFailed(f"records {self.path}: the recorder was closed; nothing is recorded any more")

    def _grow(self, place: int) -> None:
        with self._lock:
            self._check_open()
            if place >= self._capacity:
                self._map = self._claim(max(place + 1, self._capacity + GROW))

    def _claim(self, records: int) -> mmap.mmap:
        """Claim room on the disk, and map it; who still writes into the map before does so into the same file."""
        start, end = HEADER.size + self._capacity * RECORD.size, HEADER.size + records * RECORD.size
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file, 0, end)
            else:
                os.pwrite(self._file, bytes(end - start), start)
            mapped = mmap.mmap(self._file, end)
        except OSError as error:
            self._fail(str(error))
        self._capacity = records
        return mapped

    def _fail(self, problem: str) -> NoReturn:
        if self._capacity:
            self._map[_FAILED_AT] = 1
        raise RecordingFailed(
            f"records {self.path}: {problem}. Records are missing from here on: end the run, make room, and run again"
        )


class _Process:
    """What is recorded in this process: looked up once, for the environment is slow to ask."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.lock = threading.Lock()
        self.recorder: Recorder | None = None
        self.is_known = False


_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.reset)


def process_recorder() -> Recorder | None:
    """
    The recorder of this process, for the folder that FOLDER named when this was first asked; None where it named none.

    Raises:
        RecordingFailed: There is no room for its file.
    """
    if not _process.is_known:
        with _process.lock:
            if not _process.is_known:
                folder = os.environ.get(FOLDER)
                _process.recorder = Recorder(Path(folder)) if folder else None
                _process.is_known = True
    return _process.recorder


@contextmanager
def record_to(folder: Path | None) -> Iterator[Recorder | None]:
    """
    Meanwhile this process, and those that it starts, record into a folder, or nowhere at all.

    Bodies that still run at the end find the recorder closed.
    """
    before = os.environ.pop(FOLDER, None), _process.recorder, _process.is_known
    if folder is not None:
        os.environ[FOLDER] = str(folder)
    _process.recorder, _process.is_known = None, False
    try:
        yield process_recorder()
    finally:
        if _process.recorder is not None:
            _process.recorder.close()
        os.environ.pop(FOLDER, None)
        if before[0] is not None:
            os.environ[FOLDER] = before[0]
        _, _process.recorder, _process.is_known = before
