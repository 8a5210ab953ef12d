"""
From records to the frames of a run.

Instants are float64 seconds of CLOCK_MONOTONIC minus the run's origin; what never happened, or is not known, is NaN.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]

from allocator.bench.recorder import Event, Outcome
from allocator.bench.records import Records
from allocator.bench.serverclock import ServerClock

_KEY = ["job", "attempt", "lease"]


def enqueues_frame(records: Records, origin_ns: int, schedule: npt.NDArray[np.float64]) -> pd.DataFrame:
    """
    What the producers did: a row a job, in the order of the schedule, those never sent included.

    Columns: `intended_at`; `enqueue_started_at`; `enqueued_at` (NaN: never acknowledged); `enqueue` (accepted, refused,
    unknown where no reply came or its producer was killed meanwhile, missing where it was not sent); `enqueue_error`;
    `producer`, the process (missing where not sent).

    Args:
        schedule: Seconds from the origin; of a closed loop, NaN: a job is intended when its client sends it.
    """
    started = records.frame(Event.ENQUEUE_STARTED, ["job", "at_ns", "process"]).set_index("job")
    replied = records.frame(Event.ENQUEUED, ["job", "at_ns", "outcome", "error"]).set_index("job")
    jobs = pd.RangeIndex(len(schedule), name="number")
    out = pd.DataFrame({"intended_at": schedule}, index=jobs)
    out["enqueue_started_at"] = _since(started["at_ns"], origin_ns).reindex(jobs)
    out["intended_at"] = out["intended_at"].fillna(out["enqueue_started_at"])
    accepted = replied["outcome"] == Outcome.ACCEPTED
    out["enqueued_at"] = _since(replied["at_ns"], origin_ns)[accepted].reindex(jobs)
    # A job that was sent and has no reply is unknown, whether its producer could say so or not.
    outcome = replied["outcome"].reindex(started.index.union(replied.index)).fillna(Outcome.UNKNOWN)
    out["enqueue"] = outcome.map({kind: kind.name.lower() for kind in Outcome}).astype("str").reindex(jobs)
    out["enqueue_error"] = replied["error"].reindex(jobs)
    out["producer"] = started["process"].reindex(jobs).astype("Int64")
    return out


def attempts_frame(records: Records, origin_ns: int, server: ServerClock, prefix: str) -> pd.DataFrame:
    """
    A row an attempt, as in `allocator.bench`: by job, attempt, and the lease's instant.

    An attempt of which only a later one tells (its supervisor was killed while it held the lease, unstarted) has its
    numbers and the outcome lost. One that was started and never settled is lost where a later one follows, else
    running. `process` is missing where no body was started.

    Args:
        prefix: Of the run's job ids.
    """
    parts = [
        records.frame(Event.STARTED, ["job", "attempt", "token", "at_ns", "due_at", "leased_at", "worker", "process"]),
        records.frame(Event.FINISHED, ["job", "attempt", "token", "at_ns", "error"]),
        records.frame(
            Event.SETTLED,
            ["job", "attempt", "token", "at_ns", "due_at", "leased_at", "delay_s", "error", "outcome"],
        ),
    ]
    tokens = _number_tokens(parts)
    out = parts[0].merge(parts[1], on=_KEY, how="outer", suffixes=("", "_finished"))
    out = out.merge(parts[2], on=_KEY, how="outer", suffixes=("", "_settled"))
    del parts
    out = _with_gaps(out)
    due_at, leased_at = (
        pd.Series(server.to_monotonic(out[name].fillna(out[f"{name}_settled"]).to_numpy(np.float64))) - origin_ns / 1e9
        for name in ("due_at", "leased_at")
    )
    out = out.assign(due_at=due_at, leased_at=leased_at)
    out = out.sort_values(["job", "attempt", "leased_at"], kind="stable", ignore_index=True)
    has_later = out["job"].eq(out["job"].shift(-1))
    names = out["outcome"].map({kind: kind.name.lower() for kind in Outcome}).astype("str")
    outcome = names.fillna(has_later.map({True: "lost", False: "running"}).astype("str"))
    settled_at = _since(out["at_ns_settled"], origin_ns)
    next_due_at = out["due_at"].shift(-1).where(has_later)
    return pd.DataFrame(
        {
            "job": prefix + out["job"].astype("str"),
            "number": out["job"],
            "attempt": out["attempt"],
            "token": tokens.take(pa.array(out["lease"], from_pandas=True).cast(pa.int64())).to_pandas(),
            "worker": out["worker"],
            "process": out["process"].astype("Int64"),
            "due_at": out["due_at"],
            "leased_at": out["leased_at"],
            "started_at": _since(out["at_ns"], origin_ns),
            "finished_at": _since(out["at_ns_finished"], origin_ns),
            "settled_at": settled_at,
            "outcome": outcome,
            "error": out["error_settled"].fillna(out["error"]),
            "next_due_at": next_due_at.fillna(settled_at + out["delay_s"]),
        }
    )


def _number_tokens(parts: list[pd.DataFrame]) -> pa.Array:
    """Replace `token` by `lease`, its place in what is returned: a million of them are merged far sooner as numbers."""
    encoded = pa.chunked_array([pa.array(part.pop("token"), pa.string()) for part in parts]).dictionary_encode()
    encoded = encoded.combine_chunks()
    start = 0
    for part in parts:
        part["lease"] = encoded.indices[start : start + len(part)].to_numpy(zero_copy_only=False)
        start += len(part)
    # The texts of all three parts, of a million jobs 300 MB.
    pa.default_memory_pool().release_unused()
    return encoded.dictionary


def _since(at_ns: "pd.Series[int]", origin_ns: int) -> "pd.Series[float]":
    return (at_ns - origin_ns) / 1e9


def _with_gaps(attempts: pd.DataFrame) -> pd.DataFrame:
    """Add the attempts that only a later one tells of."""
    seen = attempts.groupby("job")["attempt"].agg(["max", "nunique"])
    short = seen[seen["max"] > seen["nunique"]]
    known = set(zip(attempts["job"], attempts["attempt"], strict=True)) if len(short) else set()
    gaps = [
        (job, attempt)
        for job, last in short["max"].items()
        for attempt in range(1, int(last))
        if (job, attempt) not in known
    ]
    if not gaps:
        return attempts
    return pd.concat([attempts, pd.DataFrame(gaps, columns=["job", "attempt"])], ignore_index=True)
