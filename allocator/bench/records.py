"""Records read back: one frame of everything that the processes of a run have recorded, and what was torn."""

import json
from collections.abc import Sequence
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

Array = npt.NDArray[np.void]


@dataclass(frozen=True)
class Records:
    """
    What was recorded.

    Attributes:
        frame: A row a record: the fields of `RECORD` but for the mark; `token` as text (empty where there
            is none), `worker` and `error` too (missing where there is none); and `process`, that wrote it. In the
            order of each file, files by their name.
        torn: Records that were being written when their process was killed: at most one for each of its threads.
        boot_id: Of the machine.
    """

    frame: pd.DataFrame
    torn: int
    boot_id: str


def read_records(folder: Path) -> Records:
    """
    Read every file of records in a folder; a file that is still written to gives what it has.

    Raises:
        RecordingFailed: A process could not record everything, a file is not one of ours, or two were written in
            different boots of the machine.
    """
    parts: list[pd.DataFrame] = []
    boots: dict[str, Path] = {}
    torn = 0
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        header = _header(path)
        if header is None:
            continue
        boots[header.boot_id] = path
        records, file_torn = _complete(path)
        torn += file_torn
        parts.append(_frame(records, _texts(path), header.process))
    if len(boots) > 1:
        raise RecordingFailed(f"records {folder}: written in different boots ({', '.join(boots)}); keep runs apart")
    if not parts:
        parts.append(_frame(np.zeros(0, RECORD_DTYPE), [], 0))
    return Records(pd.concat(parts, ignore_index=True), torn, next(iter(boots), ""))


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


def _complete(path: Path) -> tuple[Array, int]:
    records: Array = np.fromfile(path, RECORD_DTYPE, offset=HEADER.size)
    # Room that was claimed and not written to is zero; the instant is what is written first.
    (touched,) = np.nonzero(records["at_ns"])
    end = int(touched[-1]) + 1 if len(touched) else 0
    records = records[:end]
    complete = records["mark"] == np.arange(1, end + 1)
    kept = int(np.count_nonzero(complete))
    return (records if kept == end else records[complete]), end - kept


def _texts(path: Path) -> list[str]:
    lines = path.with_suffix(TEXTS_SUFFIX).read_bytes().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def _frame(records: Array, texts: Sequence[str], process: int) -> pd.DataFrame:
    plain = ("at_ns", "event", "job", "attempt", "outcome", "due_at", "leased_at", "delay_s")
    columns: dict[str, object] = {name: records[name] for name in plain}
    columns["token"] = _tokens(records["token"])
    table = pa.array([None, *texts], pa.string())
    for name in ("worker", "error"):
        columns[name] = table.take(pa.array(records[name])).to_pandas()
    columns["process"] = np.full(len(records), process, np.int64)
    return pd.DataFrame(columns)


def _tokens(padded: npt.NDArray[np.bytes_]) -> "pd.Series[str]":
    """Texts of padded bytes, all at once: one by one took most of the reading."""
    characters = np.ascontiguousarray(padded).view(np.uint8).reshape(len(padded), padded.dtype.itemsize)
    filled = characters != 0
    offsets = np.zeros(len(padded) + 1, np.int32)
    np.cumsum(filled.sum(axis=1), out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(characters[filled])]
    tokens: pd.Series[str] = pa.Array.from_buffers(pa.string(), len(padded), buffers).to_pandas()
    return tokens
