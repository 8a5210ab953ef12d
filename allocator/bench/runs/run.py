"""A run that was made: its rows as frames, its figures, and whether they may be believed."""

import hashlib
import json
import math
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import msgspec
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow.parquet import ParquetFile  # type: ignore[import-untyped]

from allocator.bench.checker import Fault, Judgement, Stop, check_parts
from allocator.bench.checker.frames import from_frames, in_parts
from allocator.bench.errors import InvalidWorkload
from allocator.bench.statistics.frames import ATTEMPT_COLUMNS, JOB_COLUMNS
from allocator.bench.statistics.gates import Clocks, Gate, Status, gates
from allocator.bench.statistics.summary import Summary, summary
from allocator.bench.workload import Workload
from allocator.domain.errors import AllocatorError

FRAMES = ("jobs", "attempts", "backlog")
STORED = "stored"
"""The frame that only a run with a store has."""

JUDGED = {"jobs": (*JOB_COLUMNS, "priority", "enqueue"), "attempts": (*ATTEMPT_COLUMNS, "token")}
"""What figures and verdicts follow from: two thirds of the memory that all columns take."""

FIGURES, ABOUT, WORKLOAD = "figures.json", "run.json", "workload.yaml"


class NoRun(AllocatorError):
    """A folder holds no run, or one that is damaged."""


class About(msgspec.Struct, kw_only=True):
    """
    What is kept of a run beside its rows.

    Args:
        backend: memory, redis or postgres.
        store: none, sqlite or postgres.
        started_at: Seconds since the epoch.
        slots: Attempts that could run at a time.
        plan_hash, workload_hash: Equal for runs that replayed the same.
        interrupted: Whether it was stopped before its schedule ended.
        drained: Whether everything had ended when it was over.
        orderly: Whether all workers ended in order when they were asked to.
        generator_cpu_share: Cores that the load generator kept busy, on average.
        torn: Records that were being written when their process was killed.
        offset_start_s, offset_end_s: The server's clock less CLOCK_MONOTONIC; None: no server.
        clock_error_s: To within so much.
        fingerprint: Label -> value: versions, machine, load before and after.
        sha256: File -> hash of the raw rows.
    """

    id: str
    name: str
    backend: str
    store: str = "none"
    durability: str
    server: str
    started_at: float
    took_s: float
    slots: int
    lease_s: float
    workload_hash: str
    plan_hash: str
    interrupted: bool
    drained: bool
    orderly: bool
    problem: str | None
    generator_cpu_share: float
    torn: int
    boot_id: str
    offset_start_s: float | None
    offset_end_s: float | None
    clock_error_s: float
    faults: list[Fault]
    stops: list[Stop]
    fingerprint: dict[str, str]
    sha256: dict[str, str] = {}


class Run:
    """
    A run's folder, read.

    Attributes:
        jobs, attempts: See `allocator.bench.runs.rows.Rows`.
        backlog: A row a sample: at, ready, scheduled, leased, dead.
        stored: See `allocator.bench.runs.stored.Stored`; None without a store.

    Raises:
        NoRun: The folder holds none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.about = msgspec.json.decode((folder / ABOUT).read_bytes(), type=About)
            self.workload = Workload.from_yaml(folder / WORKLOAD)
        except (OSError, msgspec.MsgspecError, InvalidWorkload) as error:
            raise NoRun(f"{folder} holds no run that can be read: {error}") from error

    @classmethod
    def keep(cls, folder: Path, about: About, frames: dict[str, pd.DataFrame]) -> Self:
        """
        Write a run's rows, judge them, and write what came of it. The folder holds its workload already.

        Args:
            frames: Emptied: rows that are on disk need not be in memory while they are judged.
        """
        for name in list(frames):
            frames.pop(name).to_parquet(folder / f"{name}.parquet", index=False)
            about.sha256[f"{name}.parquet"] = _sha256(folder / f"{name}.parquet")
        (folder / ABOUT).write_bytes(msgspec.json.format(msgspec.json.encode(about)))
        run = cls(folder)
        run._write_figures()
        return run

    def adopt(self) -> None:
        """Write what another version of this code has written as this one does, all but the rows."""
        self.about.workload_hash = self.workload.hash
        (self.folder / WORKLOAD).write_text(self.workload.to_yaml(), "utf-8")
        (self.folder / ABOUT).write_bytes(msgspec.json.format(msgspec.json.encode(self.about)))
        self._write_figures()

    def _write_figures(self) -> None:
        (self.folder / FIGURES).write_text(json.dumps(self.computed(), indent=1, allow_nan=False) + "\n", "utf-8")

    @cached_property
    def jobs(self) -> pd.DataFrame:
        return self._frame("jobs")

    @cached_property
    def attempts(self) -> pd.DataFrame:
        return self._frame("attempts")

    @cached_property
    def backlog(self) -> pd.DataFrame:
        return self._frame("backlog")

    @cached_property
    def stored(self) -> pd.DataFrame | None:
        return self._frame(STORED) if f"{STORED}.parquet" in self.about.sha256 else None

    @cached_property
    def summary(self) -> Summary:
        """Every figure, from the rows."""
        return summary(*self._judged_rows(), self.backlog, self.about.slots)

    @cached_property
    def gates(self) -> list[Gate]:
        """Whether the generator, the recorder and the clocks were up to it."""
        about = self.about
        clocks = Clocks(frozenset([about.boot_id]), about.offset_start_s, about.offset_end_s)
        return gates(
            *self._judged_rows(),
            self.backlog,
            self.summary,
            clocks,
            about.clock_error_s,
            disturbed=bool(about.faults),
        )

    @cached_property
    def judgement(self) -> Judgement:
        """What the checker says of the twelve promises."""
        retry = self.workload.retry
        jobs, attempts = self._judged_rows()
        unknown_dequeues = self._unknown_dequeues(attempts)
        return check_parts(
            from_frames(
                jobs_of_part[jobs_of_part["enqueue"].isin(["accepted", "unknown"])],
                self._seen(attempts_of_part),
                faults=self.about.faults,
                stops=self.about.stops,
                lease_s=self.about.lease_s,
                max_retries=retry.max_retries,
                backoff=None if retry.jitter else retry.backoff(self.workload.seed),
                is_drained=not self.about.interrupted,
                stored=stored_of_part,
                unknown_dequeues=unknown_dequeues,
            )
            for jobs_of_part, attempts_of_part, stored_of_part in in_parts(jobs, attempts, self.stored)
        )

    def _judged_rows(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Jobs and attempts as they were read already, or else with no more columns than are judged."""
        jobs, attempts = (self.__dict__.get(name) for name in JUDGED)
        return self._narrow[0] if jobs is None else jobs, self._narrow[1] if attempts is None else attempts

    @cached_property
    def _narrow(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        jobs, attempts = (self._frame(name, list(columns)) for name, columns in JUDGED.items())
        return jobs, attempts

    def _unknown_dequeues(self, attempts: pd.DataFrame) -> list[tuple[float, float]]:
        """
        When calls may have leased jobs of which no reply told: while there was a fault, if a later attempt shows it.

        Without any fault a number that was passed over is a broken promise.
        """
        has_gaps = not _is_seen(attempts).all()
        return [(fault.began_at, fault.ended_at) for fault in self.about.faults] if has_gaps else []

    def _seen(self, attempts: pd.DataFrame) -> pd.DataFrame:
        """
        Those that were seen, with the instants of the calls that leased them, where these bear witness to the order.

        Servers look at the clock, and then at who waits: who waited before that was seen by the call. That of a job's
        later attempts says nothing: a supervisor that was killed may have held a lease of which nothing is known.
        """
        seen = attempts[_is_seen(attempts)]
        asked_at = seen["leased_at"] - self.about.clock_error_s
        return seen.assign(asked_at=asked_at.where(seen["attempt"] == 1))

    @property
    def failed_gates(self) -> list[str]:
        """Names of the gates that the run did not pass: its figures decide nothing."""
        return [gate.name for gate in self.gates if gate.status is Status.FAILED]

    @property
    def holds(self) -> bool:
        """Whether every promise that could be judged was kept; where not, the figures are struck through."""
        return self.judgement.holds and self.about.problem is None

    @property
    def verdict(self) -> str:
        """holds, broken, or inconclusive: a gate failed, or the run was cut short."""
        if not self.holds:
            return "broken"
        return "inconclusive" if self.failed_gates or self.about.interrupted else "holds"

    def computed(self) -> dict[str, Any]:
        """All that follows from the rows, in plain values: figures, gates, verdicts."""
        computed: dict[str, Any] = _plain(
            {
                "figures": self.summary.to_dict(),
                "gates": [asdict(gate) for gate in self.gates],
                "verdicts": [
                    {
                        "promise": verdict.name,
                        "status": verdict.status,
                        "checked": verdict.checked,
                        "broken": verdict.count,
                        "witness": verdict.witness,
                        "reason": verdict.reason,
                    }
                    for verdict in self.judgement.verdicts.values()
                ],
                "verdict": self.verdict,
            }
        )
        return computed

    def verify(self) -> list[str]:
        """What does not agree with the raw rows, a sentence each; none where all figures follow from them."""
        problems = [
            f"{name}: its SHA-256 is not the one that was written down; it was changed after the run"
            for name, digest in self.about.sha256.items()
            if not (self.folder / name).exists() or _sha256(self.folder / name) != digest
        ]
        if self.workload.hash != self.about.workload_hash:
            problems.append(f"{WORKLOAD}: is not the workload that was run; it was changed after the run")
        if problems:
            return problems
        try:
            kept = json.loads((self.folder / FIGURES).read_text("utf-8"))
        except (OSError, ValueError) as error:
            return [f"{FIGURES}: cannot be read: {error}"]
        return [
            f"{FIGURES}: {difference}" for difference in _differences(kept, json.loads(json.dumps(self.computed())))
        ]

    def _frame(self, name: str, columns: list[str] | None = None) -> pd.DataFrame:
        path = self.folder / f"{name}.parquet"
        try:
            # Not `pd.read_parquet`, whose texts are in pieces: parts of them are taken far more slowly.
            with ParquetFile(path) as file:
                frame: pd.DataFrame = file.read(columns).to_pandas()
        except (OSError, ValueError) as error:
            raise NoRun(f"{path}: the rows of the run cannot be read: {error}") from error
        # What was decompressed on the way; with a million jobs, as much as the frame.
        pa.default_memory_pool().release_unused()
        return frame


def _is_seen(attempts: pd.DataFrame) -> "pd.Series[bool]":
    """Which were not only told of by a later one."""
    return attempts["token"].notna() & (attempts["token"] != "")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(value: Any) -> Any:
    """For JSON, which has no NaN and no infinity: None says that there is no such number."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _differences(kept: Any, found: Any, where: str = "") -> list[str]:
    if isinstance(kept, dict) and isinstance(found, dict):
        names = sorted(kept.keys() | found.keys())
        return [text for name in names for text in _differences(kept.get(name), found.get(name), f"{where}.{name}")]
    if isinstance(kept, list) and isinstance(found, list) and len(kept) == len(found):
        pairs = enumerate(zip(kept, found, strict=True))
        return [text for place, (one, other) in pairs for text in _differences(one, other, f"{where}[{place}]")]
    return [] if kept == found else [f"{where.removeprefix('.')} is {kept!r}, and {found!r} by the rows"]
