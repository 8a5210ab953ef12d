"""Every figure of one run, from its raw rows and nothing else: analysed twice, they give the same."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from allocator.bench.statistics.frames import (
    checked,
    cold_starts,
    durations_of_attempts,
    durations_of_jobs,
    first_starts,
    flags,
    rows_of_jobs,
    seconds,
)
from allocator.bench.statistics.percentiles import Latency, latency
from allocator.bench.statistics.retries import Retries, retries
from allocator.bench.statistics.steadiness import Steadiness, steadiness, utilisation

ENDS = ("done", "dead", "cancelled")


@dataclass(frozen=True)
class Summary:
    """
    The figures of a run. Durations in seconds, rates in jobs a second; None: not to be had from these rows.

    Args:
        jobs, warmup_jobs: Scheduled, and how many of them belong to the warm-up.
        accepted: Whose enqueue was acknowledged.
        unsettled: Accepted, and never done, dead or cancelled.
        states, outcomes: Of jobs and attempts -> how many.
        begin_s, end_s: The measured part: first to last intended arrival after the warm-up.
        offered_per_s: Jobs intended in the measured part over its length.
        throughput_per_s: Jobs done in the measured part over its length.
        drain_per_s: Measured jobs that were done, over the time from the first intended arrival to the last end. The
            figure of a closed loop or of a filled queue, where there is no schedule to measure within.
        utilisation: Share of the workers' time in the measured part that went into running jobs.
        service_mean_s: Of measured attempts.
        tables: lateness, enqueue, wait (first due until first started), service and settle (every attempt), sojourn (of
            jobs done; for dead ones see retries.time_to_dead), cold_start (the wait of the first attempt that each
            worker process started, whenever it was). Warm-up is in none but the last. A job that a cold start began is
            in neither wait nor sojourn, and the attempt in neither service nor settle.
        cold_starts: How many those are.
        retries: Of all jobs, warm-up included.
    """

    jobs: int
    warmup_jobs: int
    accepted: int
    unsettled: int
    states: dict[str, int]
    outcomes: dict[str, int]
    begin_s: float | None
    end_s: float | None
    offered_per_s: float | None
    throughput_per_s: float | None
    drain_per_s: float | None
    workers: int
    utilisation: float | None
    service_mean_s: float | None
    steadiness: Steadiness
    tables: dict[str, Latency]
    cold_starts: int
    retries: Retries

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; numbers that key a table become strings, as JSON would have it."""
        plain: dict[str, Any] = _with_text_keys(asdict(self))
        return plain


def summary(jobs: pd.DataFrame, attempts: pd.DataFrame, backlog: pd.DataFrame, workers: int | None = None) -> Summary:
    """
    Analyse a run. 1,000,000 jobs take seconds.

    Args:
        workers: That could run at a time; None: as many as are named in the attempts, replaced ones included.

    Raises:
        ValueError: The frames are not those of a run; it names what is missing.
    """
    checked(jobs, attempts, backlog)
    of_job = rows_of_jobs(jobs, attempts)
    if workers is None:
        named = [column for column in ("process", "worker") if column in attempts.columns]
        workers = len(attempts[named].drop_duplicates())

    warmup = jobs["warmup"].to_numpy(dtype=bool)
    done, ended = flags(jobs, "state", ["done"]), flags(jobs, "state", ENDS)
    accepted = ~np.isnan(seconds(jobs, "enqueued_at"))
    intended, settled = seconds(jobs, "intended_at"), seconds(jobs, "settled_at")
    arrivals = intended[~warmup & ~np.isnan(intended)]
    begin_s, end_s = (float(arrivals.min()), float(arrivals.max())) if len(arrivals) else (None, None)
    length_s = end_s - begin_s if begin_s is not None and end_s is not None else 0.0
    ends = settled[done & ~warmup & ~np.isnan(settled)]
    drained_s = float(ends.max()) - begin_s if len(ends) and begin_s is not None else 0.0
    within = done & (settled >= (begin_s or 0.0)) & (settled <= (end_s or 0.0))
    offered = len(arrivals) / length_s if length_s else None

    of_jobs, of_attempts = durations_of_jobs(jobs), durations_of_attempts(attempts)
    due, started = first_starts(jobs, attempts, of_job)
    cold = cold_starts(attempts)
    began_cold = np.zeros(len(jobs), dtype=bool)
    began_cold[of_job[cold & (seconds(attempts, "started_at") == started[of_job])]] = True
    attempt_measured = ~warmup[of_job] & ~cold
    tables = {
        "lateness": latency(of_jobs["lateness_s"][~warmup]),
        "enqueue": latency(of_jobs["enqueue_s"][~warmup]),
        "wait": latency((started - due)[~warmup & ~began_cold]),
        "service": latency(of_attempts["service_s"][attempt_measured]),
        "settle": latency(of_attempts["settle_s"][attempt_measured]),
        "sojourn": latency(of_jobs["sojourn_s"][done & ~warmup & ~began_cold]),
        "cold_start": latency(of_attempts["wait_s"][cold]),
    }
    return Summary(
        jobs=len(jobs),
        warmup_jobs=int(warmup.sum()),
        accepted=int(accepted.sum()),
        unsettled=int((accepted & ~ended).sum()),
        states=_counts(jobs["state"]),
        outcomes=_counts(attempts["outcome"]),
        begin_s=begin_s,
        end_s=end_s,
        offered_per_s=offered,
        throughput_per_s=float(within.sum()) / length_s if length_s else None,
        drain_per_s=len(ends) / drained_s if drained_s > 0 else None,
        workers=workers,
        utilisation=utilisation(attempts, begin_s or 0.0, end_s or 0.0, workers),
        service_mean_s=tables["service"].mean_s,
        steadiness=steadiness(backlog, begin_s or 0.0, end_s or 0.0, offered or 0.0),
        tables=tables,
        cold_starts=int(cold.sum()),
        retries=retries(jobs, attempts, of_job),
    )


def _counts(column: "pd.Series[Any]") -> dict[str, int]:
    return {str(name): int(count) for name, count in sorted(column.value_counts().items())}


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _with_text_keys(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_with_text_keys(item) for item in value]
    return value
