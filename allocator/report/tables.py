"""Tables of the page: what stands in them, already written as a reader sees it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from allocator.bench.checker.verdicts import Promise
from allocator.bench.statistics.percentiles import SHOWN, latency
from allocator.report.claims import BACKENDS
from allocator.report.evidence import Recorded
from allocator.report.numbers import digits, shown
from allocator.report.reading import Report

LETTERS = 8
"""So many dead letters are shown with their story."""

UNTOLD = "none was told: its worker was gone"
"""The error of an attempt that no worker could report on; the queue knows that its lease expired."""


@dataclass(frozen=True)
class Table:
    """
    Args:
        label: What it is, for those who do not see it.
        rows: The first cell of each is its heading.
    """

    label: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def percentiles(label: str, series: dict[str, np.ndarray]) -> Table:
    """A row a series of seconds: p50 to p99.9, the largest, the mean, and how many there are."""
    rows = []
    for name, values in series.items():
        row = latency(values)
        quantiles = [shown(value, "s") for value in row.percentiles_s.values()]
        rows.append([name, *quantiles, shown(row.max_s, "s"), shown(row.mean_s, "s"), f"{row.count:,}"])
    return Table(label, ["Time", *SHOWN, "largest", "mean", "values"], rows)


def of_faults(runs: Iterable[Recorded], recovery: dict[str, str]) -> Table:
    """
    Fault x backend x durability.

    Args:
        recovery: Backend -> time to recover from the loss of its server, as measured.
    """
    groups: dict[tuple[str, str, str], list[Recorded]] = {}
    for run in runs:
        kinds = ", ".join(sorted({fault.kind.replace("_", " ") for fault in run.about.faults}))
        groups.setdefault((kinds, run.about.backend, run.about.durability), []).append(run)
    rows = []
    for (kinds, backend, durability), group in groups.items():
        repeats = sum(_repeats(run) for run in group)
        rows.append(
            [
                f"{kinds}; {BACKENDS[backend]} ({durability})",
                f"{len(group):,}",
                f"{sum(len(run.about.faults) for run in group):,}",
                f"{sum(run.figures['accepted'] for run in group):,}",
                _held(group, Promise.LOST),
                _held(group, Promise.INVENTED),
                f"{repeats:,}",
                _held(group, Promise.EXPLAINED),
                recovery.get(backend, "–") if "server" in kinds else "–",
            ]
        )
    columns = ["Fault", "Runs", "Faults", "Accepted", "Nothing lost", "Nothing invented", "Run again",
               "All explained", "To recover"]  # fmt: skip
    return Table("Faults", columns, rows)


def of_runs(runs: Iterable[Recorded]) -> Table:
    """Where the figures come from: a row a run."""
    rows = []
    for run in runs:
        about, late = run.about, run.figures["tables"]["lateness"]
        rows.append(
            [
                run.path,
                f"{run.figures['jobs']:,}",
                str(run.run.workload.seed),
                about.workload_hash[:12],
                run.verdict,
                ", ".join(run.gates) or "all passed",
                shown(late["percentiles_s"]["p99"] or late["max_s"], "s"),
                f"{about.generator_cpu_share:.2f} cores",
                about.fingerprint.get("load before", ""),
            ]
        )
    columns = [
        "Run",
        "Jobs",
        "Seed",
        "Workload",
        "Verdict",
        "Gates failed",
        "Lateness (p99)",
        "Generator",
        "Load before",
    ]
    return Table("Runs", columns, rows)


def of_gates(run: Recorded) -> Table:
    """Every gate of a run, with its sentence."""
    rows = [[gate["name"], gate["status"], gate["sentence"]] for gate in run.gate_results]
    return Table(f"Gates of {run.about.id}", ["Gate", "Status", "What was seen"], rows)


def of_steps(report: Report) -> Table:
    """How notebooks and tests went."""
    made = report.made
    tests = report.evidence.tests
    passed = sum(test.outcome == "passed" for test in tests)
    counted = f"{passed:,} of {len(tests):,} passed" if tests else made.tests.error
    rows = [["tests", made.tests.status, shown(made.tests.took_s, "s"), counted, made.tests.command]]
    rows += [[step.name, step.status, shown(step.took_s, "s"), step.error, step.command] for step in made.notebooks]
    return Table("Notebooks and tests", ["Step", "Status", "Took", "What happened", "Command"], rows)


def dead_letters(runs: Iterable[Recorded]) -> tuple[Table, Table]:
    """Dead jobs by their last error, and some of them with first and last error and attempts."""
    found = []
    for run in runs:
        jobs, attempts = run.run.jobs, run.run.attempts
        dead = jobs.loc[jobs["state"] == "dead", "job"]
        tried = attempts[attempts["job"].isin(dead) & (attempts["outcome"] != "released")]
        errors = tried["error"].fillna(UNTOLD).groupby(tried["job"], sort=False)
        ends = errors.agg(["first", "last", "size"]).rename_axis("job").reset_index()
        found.append(ends.assign(backend=BACKENDS[run.about.backend]))
    letters = pd.concat(found, ignore_index=True) if found else pd.DataFrame()
    if letters.empty:
        return Table("Dead letters by error", [], []), Table("Dead letters", [], [])
    counts = letters.groupby(["last", "backend"]).size().unstack(fill_value=0)
    by_error = [
        [str(error), *(f"{count:,}" for count in row)]
        for error, row in zip(counts.index, counts.to_numpy(), strict=True)
    ]
    some = letters.groupby("backend", sort=False).head(max(1, LETTERS // letters["backend"].nunique()))
    stories = [[row["job"], row["backend"], str(row["size"]), row["first"], row["last"]] for _, row in some.iterrows()]
    return (
        Table("Dead letters by error", ["Last error", *map(str, counts.columns)], by_error),
        Table("Dead letters", ["Job", "Queue", "Attempts", "First error", "Last error"], stories),
    )


def of_frame(label: str, frame: pd.DataFrame) -> Table:
    """Any small frame, as it is; numbers with three digits that count."""
    rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    return Table(label, [str(name) for name in frame.columns], rows)


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)) or value is pd.NA:
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return digits(float(value)) if isinstance(value, int | float | np.number) else str(value)


def _held(group: list[Recorded], promise: Promise) -> str:
    said = {run.promises.get(promise) for run in group}
    return "no" if "broken" in said else "yes" if "holds" in said else "not judged"


def _repeats(run: Recorded) -> int:
    """Jobs that were started more often than their failures explain."""
    started = run.run.attempts[run.run.attempts["started_at"].notna()]
    again = started[started["outcome"].isin(["lost", "running"])]
    return int(again["job"].nunique())
