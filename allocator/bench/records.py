"""Records read back: one frame of everything that the processes of a run have recorded, and what was torn."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]

from allocator.bench.recorder import (
    HEADER,
    MAGIC,
    MAX_TOKEN_BYTES,
    RECORD,
    SUFFIX,
    TEXTS_SUFFIX,
    VERSION,
    Event,
    RecordingFailed,
)

RECORD_DTYPE = np.dtype(
    [
        ("at_ns", "<i8"),
        ("due_at", "<f8"),
        ("leased_at", "<f8"),
        ("delay_s", "<f8"),
        ("job", "<u4"),
        ("attempt", "<u4"),
        ("worker", "<u4"),
        ("error", "<u4"),
        ("token", f"S{MAX_TOKEN_BYTES}"),
        ("event", "u1"),
        ("outcome", "u1"),
        ("unused", "<u2"),
        ("mark", "<u4"),
    ]
)
"""`RECORD`, for numpy. The recorder itself does without, which would cost each worker process its start."""

assert RECORD_DTYPE.itemsize == RECORD.size

CHUNK = 262_144
"""Records read at a time: 27 MB, whatever the size of the run."""

Array = npt.NDArray[np.void]


_PLAIN = ("at_ns", "event", "job", "attempt", "outcome", "due_at", "leased_at", "delay_s")
COLUMNS = (*_PLAIN, "token", "worker", "error", "process")


@dataclass(frozen=True)
class _File:
    path: Path
    count: int
    texts: Sequence[str]
    process: int

    def chunks(self) -> Iterator[Array]:
        """What is whole in it, CHUNK records at a time."""
        for start in range(0, self.count, CHUNK):
            chunk = _read(self.path, start, min(CHUNK, self.count - start))
            whole = _is_whole(chunk, start)
            yield chunk if whole.all() else chunk[whole]


@dataclass(frozen=True)
class Records:
    """
    What was recorded; it stays in its files until it is asked for.

    Attributes:
        torn: Records that were being written when their process was killed: at most one for each of its threads.
        boot_id: Of the machine.
    """

    torn: int
    boot_id: str
    _files: Sequence[_File]

    def frame(self, event: Event | None = None, columns: Sequence[str] = COLUMNS) -> pd.DataFrame:
        """
        A row a record, in the order of each file, files by their name.

        Args:
            event: Only of this kind.
            columns: Of COLUMNS: the fields of `RECORD` but for the mark; `token` as text (empty where there is none),
                `worker` and `error` too (missing where there is none); and `process`, that wrote it.
        """
        # An empty one, so that the columns have their types whatever there is.
        parts = [_frame(np.zeros(0, RECORD_DTYPE), [], 0, columns)]
        for file in self._files:
            for chunk in file.chunks():
                chosen = chunk if event is None else chunk[chunk["event"] == event]
                parts.append(_frame(chosen, file.texts, file.process, columns))
        return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)


def read_records(folder: Path) -> Records:
    """
    Read every file of records in a folder; a file that is still written to gives what it has.

    Raises:
        RecordingFailed: A process could not record everything, a file is not one of ours, or two were written in
            different boots of the machine.
    """
    files: list[_File] = []
    boots: dict[str, Path] = {}
    torn = 0
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        header = _header(path)
        if header is None:
            continue
        boots[header.boot_id] = path
        count, file_torn = _count(path)
        torn += file_torn
        files.append(_File(path, count, _texts(path), header.process))
    if len(boots) > 1:
        raise RecordingFailed(f"records {folder}: written in different boots ({', '.join(boots)}); keep runs apart")
    return Records(torn, next(iter(boots), ""), files)


def has_failed(folder: Path) -> Path | None:
    """The file of a process that could not record everything, or None; cheap, for a run to ask now and then."""
    for path in folder.glob(f"*{SUFFIX}"):
        try:
            _header(path)
        except RecordingFailed:
            return path
    return None


@dataclass(frozen=True)
class _Header:
    boot_id: str
    process: int


def _header(path: Path) -> _Header | None:
    """None where the process was killed before there was one."""
    with path.open("rb") as file:
        start = file.read(HEADER.size)
    if len(start) < HEADER.size or not any(start):
        return None
    magic, version, record_bytes, boot, process, _, _, failed = HEADER.unpack(start)
    if (magic, version, record_bytes) != (MAGIC, VERSION, RECORD.size):
        raise RecordingFailed(f"records {path}: not a file of records, or one of another version")
    if failed:
        raise RecordingFailed(
            f"records {path}: process {process} could not record everything (see its log; most likely the disk was "
            "full). The run cannot be believed: make room, and run it again"
        )
    return _Header(boot.rstrip(b"\0").decode(), process)


def _read(path: Path, start: int, count: int) -> Array:
    records: Array = np.fromfile(path, RECORD_DTYPE, count, offset=HEADER.size + start * RECORD.size)
    return records


def _is_whole(chunk: Array, start: int) -> npt.NDArray[np.bool_]:
    whole: npt.NDArray[np.bool_] = chunk["mark"] == np.arange(start + 1, start + 1 + len(chunk), dtype=np.uint32)
    return whole


def _count(path: Path) -> tuple[int, int]:
    """Places up to the last that was written to, and how many of them are torn."""
    places = torn = 0
    start, torn_since = 0, 0
    while len(chunk := _read(path, start, CHUNK)):
        whole = _is_whole(chunk, start)
        # Room that was claimed and not written to is zero; the instant is what is written first.
        (touched,) = np.nonzero(chunk["at_ns"])
        if len(touched):
            last = int(touched[-1]) + 1
            torn += torn_since + last - int(np.count_nonzero(whole[:last]))
            places, torn_since = start + last, len(chunk) - last
        else:
            torn_since += len(chunk)
        start += len(chunk)
    return places, torn


def _texts(path: Path) -> list[str]:
    lines = path.with_suffix(TEXTS_SUFFIX).read_bytes().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def _frame(records: Array, texts: Sequence[str], process: int, columns: Sequence[str]) -> pd.DataFrame:
    out: dict[str, object] = {}
    for name in columns:
        if name == "token":
            out[name] = _tokens(records["token"])
        elif name == "process":
            out[name] = np.full(len(records), process, np.int64)
        elif name in ("worker", "error"):
            table = pa.array([None, *texts], pa.string())
            out[name] = table.take(pa.array(records[name])).to_pandas()
        else:
            out[name] = records[name]
    return pd.DataFrame(out)


def _tokens(padded: npt.NDArray[np.bytes_]) -> "pd.Series[str]":
    """Texts of padded bytes, all at once: one by one took most of the reading."""
    characters = np.ascontiguousarray(padded).view(np.uint8).reshape(len(padded), padded.dtype.itemsize)
    filled = characters != 0
    offsets = np.zeros(len(padded) + 1, np.int32)
    np.cumsum(filled.sum(axis=1), out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(characters[filled])]
    tokens: pd.Series[str] = pa.Array.from_buffers(pa.string(), len(padded), buffers).to_pandas()
    return tokens
