"""Recorded arrivals, read from a CSV file."""

from importlib.resources import files
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd

from allocator.bench.errors import InvalidWorkload
from allocator.bench.models import Numbers

FIELD = "arrival.file"


def read_trace(file: str) -> Numbers:
    """
    The instants of a recorded trace, in seconds after its first.

    The first column has an instant a line: seconds as a number, or a date and time as in ISO 8601 (without an offset:
    UTC). The first line names the columns; the others are passed over.

    Args:
        file: A bare name is looked for among the traces that come with the package, then in the working directory.
    Raises:
        InvalidWorkload: There is no such file, it is empty, or a line holds no instant or an earlier one than the line
            before; names the line, counted from 1.
    """
    path = _find(file)
    try:
        first = pd.read_csv(path, usecols=[0], dtype=str, skip_blank_lines=False, encoding="utf-8").iloc[:, 0]
    except (OSError, ValueError) as error:
        raise InvalidWorkload(FIELD, f"{file} cannot be read as CSV: {error}") from None
    if not np.isnan(_instants(pd.Series([str(first.name)]))[0]):
        _refuse(file, 1, f"must name the columns, but begins with the instant {first.name}")
    if first.empty:
        raise InvalidWorkload(FIELD, f"{file} holds no arrival; one is needed at least")
    at = _instants(first)
    if (wrong := np.flatnonzero(np.isnan(at))).size:
        value = first.iloc[wrong[0]]
        said = "nothing" if pd.isna(value) else repr(value)
        _refuse(file, wrong[0] + 2, f"holds {said} where an instant is needed (seconds, or 2023-11-16 18:17:03.98)")
    if (early := np.flatnonzero(np.diff(at) < 0)).size:
        line = early[0] + 3
        before, value = first.iloc[early[0]], first.iloc[early[0] + 1]
        _refuse(file, line, f"({value}) is earlier than line {line - 1} ({before}); sort the trace by its first column")
    after_first: Numbers = at - at[0]
    return after_first


def _find(file: str) -> Path:
    shipped = files("allocator.bench.workloads").joinpath(file)
    try:
        path = Path(str(shipped)) if Path(file).name == file and shipped.is_file() else Path(file)
        is_there = path.is_file()
    except OSError as error:
        raise InvalidWorkload(FIELD, f"{file:.200} cannot be looked for: {error.strerror}") from None
    if not is_there:
        raise InvalidWorkload(
            FIELD, f"there is no file {file} (looked for in {Path.cwd()}); give the path of a CSV file"
        )
    return path


def _instants(values: "pd.Series[str]") -> Numbers:
    """Seconds after the first; NaN where there is no instant."""
    numbers = pd.to_numeric(values, errors="coerce")
    # All of one kind, or one line of the other kind would be an instant of another era.
    if numbers.notna().any():
        at = numbers.to_numpy().astype(np.float64)
        at[np.isinf(at)] = np.nan
        return at
    times = pd.to_datetime(values, format="ISO8601", utc=True, errors="coerce")
    seconds: Numbers = ((times - times.min()) / pd.Timedelta(seconds=1)).to_numpy().astype(np.float64)
    return seconds


def _refuse(file: str, line: int, problem: str) -> NoReturn:
    raise InvalidWorkload(FIELD, f"{file}, line {line}: {problem}")
