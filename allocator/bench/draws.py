"""
The jobs of a run: every draw, made before it from the seed.

Each column is drawn from a stream of its own, and value number n of a column is the same however many follow. So a
change of one model changes its own column alone, and a longer run begins with the jobs of the shorter one.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from allocator.bench.arrivals import MAX_JOBS, Closed
from allocator.bench.errors import InvalidWorkload
from allocator.bench.models import MAX_PADDING_BYTES, Numbers, draw_weighted
from allocator.bench.workload import Workload
from allocator.domain.job import MAX_DELAY_S

STREAMS = ("arrival", "type", "priority", "payload_bytes", "delay", "delayed", "service", "fates")
"""Their order is part of what a seed means: new ones go to the end."""


def draw_jobs(workload: Workload) -> pd.DataFrame:
    """
    A row a job, in the order of arrival.

    Columns: `intended_at` (seconds from the start of the schedule; NaN in a closed loop, where the clients decide),
    `type` (category), `priority`, `payload_bytes`, `delay_s`, `service_s`, `fates` (a letter for each attempt that goes
    wrong, see `allocator.bench.failures`; attempts beyond them succeed), `warmup` (in a closed loop False: decided by
    when a job is enqueued).

    Raises:
        InvalidWorkload: The trace cannot be read, no job or too many would arrive, or a draw is more than a queue
            takes.
    """
    seeds = dict(zip(STREAMS, np.random.SeedSequence(workload.seed).spawn(len(STREAMS)), strict=True))
    streams = {name: np.random.default_rng(seed) for name, seed in seeds.items() if name != "fates"}
    intended_at = _intended(workload, streams["arrival"])
    count = len(intended_at)
    delayed = streams["delayed"].random(count) < workload.delayed_share
    jobs = pd.DataFrame(
        {
            "intended_at": intended_at,
            "type": pd.Categorical.from_codes(
                draw_weighted(workload.types, streams["type"], count), pd.Index(sorted(workload.types))
            ),
            "priority": np.array(sorted(workload.priorities), dtype=np.int64)[
                draw_weighted(workload.priorities, streams["priority"], count)
            ],
            "payload_bytes": workload.payload_bytes.draw(streams["payload_bytes"], count),
            "delay_s": np.where(delayed, workload.delay.draw(streams["delay"], count), 0.0),
            "service_s": workload.service.draw(streams["service"], count),
            "fates": _words(workload.failure.draw(seeds["fates"], count, workload.retry.max_retries + 1)),
            "warmup": intended_at < workload.warmup_s,
        }
    )
    _refuse_over(jobs, "intended_at", "arrival", MAX_DELAY_S)
    _refuse_over(jobs, "payload_bytes", "payload_bytes", MAX_PADDING_BYTES)
    _refuse_over(jobs, "delay_s", "delay", MAX_DELAY_S)
    return jobs


def _intended(workload: Workload, stream: np.random.Generator) -> Numbers:
    if workload.jobs is not None and workload.jobs > MAX_JOBS:
        raise InvalidWorkload("jobs", f"{workload.jobs:,} is more than {MAX_JOBS:,}, the most in one run")
    if isinstance(workload.arrival, Closed):
        assert workload.jobs is not None
        return np.full(workload.jobs, np.nan)
    at = workload.arrival.instants(stream, workload.duration_s, workload.jobs)
    if not len(at):
        raise InvalidWorkload("duration_s", f"no job arrives within {workload.duration_s:g} s; raise it, or the rate")
    if workload.jobs is not None and len(at) < workload.jobs:
        raise InvalidWorkload("jobs", f"the trace holds {len(at):,} arrivals, fewer than {workload.jobs:,}")
    if workload.warmup_s > at[-1]:
        raise InvalidWorkload("warmup_s", f"{workload.warmup_s:g} is after the last arrival, at {at[-1]:.3f}")
    return at


def _words(fates: NDArray[np.bytes_]) -> "pd.Series[str]":
    # Most jobs have none, and only the others are worth decoding.
    words = np.full(len(fates), "", dtype=object)
    wrong = fates != b""
    words[wrong] = fates[wrong].astype(str)
    return pd.Series(words, dtype="str")


def _refuse_over(jobs: pd.DataFrame, column: str, field: str, most: float) -> None:
    over = int((jobs[column] > most).sum())
    if over:
        raise InvalidWorkload(
            field,
            f"{over:,} of {len(jobs):,} jobs draw more than {most:,.0f}, up to {jobs[column].max():,.0f}; lower it",
        )
