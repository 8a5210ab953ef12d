"""What became of jobs that failed, of faults, and of files: frames for figures, and measures for the report."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from allocator.bench.checker import Promise
from allocator.bench.runs import Run
from allocator.bench.statistics.percentiles import percentile
from allocator.bench.statistics.retries import backoff_errors
from allocator.domain.deadletter import DeadLetter
from allocator.report.artefacts import Artefacts
from allocator.report.measuring import Runs

FAULT_COLUMNS = (
    "durability",
    "accepted",
    "lost",
    "invented",
    "unexplained",
    "stale",
    "repeats",
    "recovery_s",
    "verdict",
)


def retries_of(runs: Runs) -> pd.DataFrame:
    """
    Retries and dead letters of runs, held against what was promised and drawn.

    Returns:
        A row a run, by backend and run: backoff_error_max_s (the furthest that a delay was from the one promised,
        either way), pickup_error_p50_s, pickup_error_p90_s (start minus due), dead, had_to_die (jobs), dead_share (of
        those that had to die, how many did), success_share (of all others, how many are done).
    """
    rows = []
    for made in runs.values():
        workload, jobs = made.workload, made.jobs
        fates = pd.read_parquet(made.folder / "plan.parquet")["fates"]
        had_to_die = (fates.str.len() > workload.retry.max_retries).to_numpy()
        dead, done = (jobs["state"] == "dead").to_numpy(), (jobs["state"] == "done").to_numpy()
        errors = np.abs(backoff_errors(jobs, made.attempts, workload.retry.backoff(workload.seed)))
        pickup = made.summary.retries.pickup_error.percentiles_s
        rows.append(
            {
                "backoff_error_max_s": errors.max() if len(errors) else np.nan,
                "pickup_error_p50_s": pickup["p50"],
                "pickup_error_p90_s": pickup["p90"],
                "dead": dead.sum(),
                "had_to_die": had_to_die.sum(),
                "dead_share": dead[had_to_die].mean() if had_to_die.any() else np.nan,
                "success_share": done[~had_to_die].mean() if not had_to_die.all() else np.nan,
            }
        )
    return pd.DataFrame(rows, index=pd.MultiIndex.from_tuples(list(runs), names=["backend", "run"]), dtype="float64")


def letters_of(letters: Iterable[DeadLetter]) -> pd.DataFrame:
    """A row a dead letter: job, type, reason, attempts, first_error, last_error, worker (the last), dead_at (UTC)."""
    columns = ["job", "type", "reason", "attempts", "first_error", "last_error", "worker", "dead_at"]
    rows = [
        {
            "job": letter.job.id,
            "type": letter.job.type,
            "reason": letter.error,
            "attempts": letter.attempt_count,
            "first_error": letter.attempts[0].error if letter.attempts else "",
            "last_error": letter.attempts[-1].error if letter.attempts else letter.error,
            "worker": letter.attempts[-1].worker if letter.attempts else "",
            "dead_at": letter.dead_at,
        }
        for letter in letters
    ]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(dead_at=pd.to_datetime(frame["dead_at"], unit="s", utc=True))


def faults_of(runs: Mapping[tuple[str, str], Run]) -> pd.DataFrame:
    """
    What came of faults.

    Args:
        runs: Backend and fault -> run.

    Returns:
        A row a run, by backend and fault: durability; accepted (jobs), lost (missing: it could not be told), invented,
        unexplained (repeats without a fault that explains them), stale (late words that were taken); repeats (explained
        ones); recovery_s (from the end of the last fault until the next job was done that was taken after it); verdict.
    """
    rows = []
    for made in runs.values():
        judgement, attempts = made.judgement, made.attempts
        over_at = max((fault.ended_at for fault in made.about.faults), default=np.nan)
        after = attempts[(attempts["leased_at"] >= over_at) & (attempts["outcome"] == "done")]
        rows.append(
            {
                "durability": made.about.durability,
                "accepted": made.summary.accepted,
                "lost": np.nan if Promise.LOST in judgement.not_judged() else judgement[Promise.LOST].count,
                "invented": judgement[Promise.INVENTED].count,
                "unexplained": judgement[Promise.EXPLAINED].count,
                "stale": judgement[Promise.STALE].count,
                "repeats": sum(judgement.repeats.values()),
                "recovery_s": after["settled_at"].min() - over_at,
                "verdict": made.verdict,
            }
        )
    index = pd.MultiIndex.from_tuples(list(runs), names=["backend", "fault"])
    return pd.DataFrame(rows, index=index, columns=list(FAULT_COLUMNS))


def measure_faults(artefacts: Artefacts, found: pd.DataFrame) -> None:
    """
    Keep jobs lost over all faults of a backend, and the longest recovery after its server was killed or restarted.

    Both are counted from records, and stand whether or not the runs passed their gates: those judge the sender's
    schedule, which nobody keeps while the server is away.

    Args:
        found: Of `faults_of`.
    """
    for backend, group in found.groupby(level="backend", sort=False):
        faults = group.index.get_level_values("fault")
        told = f"{int(group['accepted'].sum()):,} jobs through {', '.join(faults)}"
        untold = group["lost"].isna().sum()
        if untold and not group["lost"].sum():
            reason = f"in {untold} of {len(group)} runs it could not be told whether jobs were lost"
            artefacts.not_measured(f"{backend}/faults_lost", reason, "allocator report")
        else:
            artefacts.measure(f"{backend}/faults_lost", group["lost"].sum(), "jobs", n=len(group), note=told)
        of_server = group[faults.isin(["kill_server", "restart_server"])]["recovery_s"]
        name = f"{backend}/recovery_s"
        if of_server.empty or of_server.isna().any():
            artefacts.not_measured(name, "no server was killed, or nothing was done after it", "allocator report")
        else:
            artefacts.measure(name, of_server.max(), "s", n=len(of_server), note="from the server's being back")
    artefacts.not_measured(
        "memory/faults_lost",
        "a queue in process ends with the process that a fault would hit",
        "python -m allocator.bench.chaos --backend memory",
    )


def ingest_of(files: pd.DataFrame, given_back: Mapping[str, str]) -> pd.Series:
    """
    What became of files that were sent.

    Args:
        files: A row a file: sha256_sent, sent_at and accept_s of what was sent; object, state, error, placed_at of what
            became of it; problem where it was refused.
        given_back: Object -> SHA-256 of what the server gave back.

    Returns:
        accounted_share, identical_share, files_per_s (from the first upload until the last was placed), accept_p95_s.
    """
    placed = files[files["state"] == "done"]
    has_reason = (files["state"].eq("failed") & files["error"].notna()) | files["problem"].notna()
    took_s = placed["placed_at"].max().timestamp() - files["sent_at"].min() if len(placed) else np.nan
    return pd.Series(
        {
            "accounted_share": (files["state"].eq("done") | has_reason).mean(),
            "identical_share": placed["object"].map(given_back).eq(placed["sha256_sent"]).mean(),
            "files_per_s": len(placed) / took_s,
            "accept_p95_s": percentile(files["accept_s"].to_numpy(np.float64), 0.95),
        },
        dtype="float64",
    )


def measure_ingest(artefacts: Artefacts, found: "pd.Series[float]", count: int) -> None:
    """
    Keep what became of files.

    Args:
        found: Of `ingest_of`.
        count: Files that were sent.
    """
    units = {"files_per_s": "files/s", "accept_p95_s": "s"}
    for name, value in found.items():
        if np.isnan(value):
            artefacts.not_measured(f"ingest/{name}", f"{count} files are too few for it", "allocator report")
        else:
            artefacts.measure(f"ingest/{name}", value, units.get(str(name), "share"), n=count, note="files")
