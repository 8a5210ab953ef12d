"""From runs to measures: the figures of several runs as one frame, and what a report keeps of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from allocator.bench.revisions import Revision
from allocator.bench.runs import Progress, Run
from allocator.bench.runs.comparing import ARMS, measure_sets
from allocator.bench.runs.series import CapacitySearch, Scaling
from allocator.bench.statistics.comparison import Comparison
from allocator.bench.statistics.intervals import median_interval
from allocator.bench.statistics.percentiles import least_count, percentile
from allocator.bench.workload import Workload
from allocator.report.artefacts import Artefacts

LEAST_TO_COMPARE = 2

MOST_WORKERS = 4
"""The claim on scaling is of up to so many: the more there are, the easier it is for them to do as much."""

Runs: TypeAlias = Mapping[tuple[str, int], Run]
"""Backend and number -> run; those of one number replayed the same schedule."""


def figures_of(runs: Runs) -> pd.DataFrame:
    """
    The figures of runs, side by side.

    Returns:
        A row a run, by backend and run: `wait_p99_s` and so on for each table and percentile of its summary, with mean
        and max; throughput_per_s, drain_per_s, offered_per_s, utilisation; verdict. Missing: too few values.
    """
    rows = []
    for made in runs.values():
        figures = made.summary
        row: dict[str, float | str | None] = {
            name: getattr(figures, name) for name in ("throughput_per_s", "drain_per_s", "offered_per_s", "utilisation")
        }
        for table, latency in figures.tables.items():
            row |= {f"{table}_{name}_s": value for name, value in latency.percentiles_s.items()}
            row |= {f"{table}_mean_s": latency.mean_s, f"{table}_max_s": latency.max_s}
        rows.append(row | {"verdict": made.verdict})
    frame = pd.DataFrame(rows, index=pd.MultiIndex.from_tuples(list(runs), names=["backend", "run"]))
    types = dict.fromkeys([name for name in frame.columns if name != "verdict"], "float64")
    return frame.astype(types)


def floods_of(runs: Runs) -> pd.DataFrame:
    """
    What runs did in which there was always work: `throughput_per_s`, a row a run, by backend and run.

    Between the first and the last tenth of the jobs that were done: by then all clients had begun, and none had ended.
    """
    ended = {key: made.jobs.loc[made.jobs["state"] == "done", "settled_at"] for key, made in runs.items()}
    rates = [0.8 * len(at) / (at.quantile(0.9) - at.quantile(0.1)) for at in ended.values()]
    index = pd.MultiIndex.from_tuples(list(runs), names=["backend", "run"])
    return pd.DataFrame({"throughput_per_s": rates}, index=index, dtype="float64")


def rows_of(runs: Mapping[tuple[str, Any], Run], frame: str) -> pd.DataFrame:
    """The rows of several runs below each other: `jobs`, `attempts` or `backlog`, with columns `backend` and `run`."""
    parts = {key: getattr(made, frame) for key, made in runs.items()}
    if not parts:
        return pd.DataFrame(columns=["backend", "run"])
    rows: pd.DataFrame = pd.concat(parts, names=["backend", "run"])
    return rows.reset_index(["backend", "run"]).reset_index(drop=True)


def measure_runs(
    artefacts: Artefacts,
    runs: Runs,
    figures: Callable[[Runs], pd.DataFrame],
    names: Sequence[str],
    unit: str,
    note: str = "",
) -> None:
    """
    Keep figures that each run gives once: for each backend the median over its runs, with an interval if there are two.

    Args:
        figures: One of `allocator.report.verifying.OVER_RUNS`; gives a row a run, by backend and run, and a column a
            figure. Missing: the run had too few values for it.
        names: Its columns that are kept.
    """
    for backend, group in figures(runs)[list(names)].groupby(level="backend", sort=False):
        ids = [runs[key].about.id for key in group.index]
        for name, values in group.items():
            known = values.dropna().to_numpy(np.float64)
            if len(known) < len(values):
                artefacts.not_measured(
                    f"{backend}/{name}",
                    f"{len(values) - len(known)} of {len(values)} runs were too short for it",
                    f"papermill {artefacts.notebook}.ipynb OUT.ipynb, with more jobs",
                )
                continue
            middle = median_interval(list(known))
            several = middle.runs > 1
            artefacts.measure(
                f"{backend}/{name}",
                middle.value,
                unit,
                n=middle.runs,
                low=middle.low if several else None,
                high=middle.high if several else None,
                level=middle.level if several else None,
                runs=ids,
                note=note or "median over runs",
                by=figures.__name__,
            )


def measure_calls(artefacts: Artefacts, timed: pd.DataFrame) -> None:
    """
    Keep what single calls take: mean and p95 of each kind, as `redis/enqueue_mean_s`, and of connecting the mean alone.

    Args:
        timed: Of `allocator.bench.calls.time_calls`, with a column `backend`.
    """
    for (backend, call), group in timed.groupby(["backend", "call"], sort=False):
        seconds = group["seconds"].to_numpy(np.float64)
        if call == "connect":
            artefacts.measure(f"{backend}/connect_s", seconds.mean(), "s", n=len(seconds), note="mean of connections")
            continue
        artefacts.measure(f"{backend}/{call}_mean_s", seconds.mean(), "s", n=len(seconds), note="mean of single calls")
        at_95 = percentile(seconds, 0.95)
        if at_95 is None:
            artefacts.not_measured(
                f"{backend}/{call}_p95_s",
                f"{len(seconds)} calls are too few for p95",
                f"papermill {artefacts.notebook}.ipynb OUT.ipynb -p calls {least_count(0.95)}",
            )
        else:
            artefacts.measure(f"{backend}/{call}_p95_s", at_95, "s", n=len(seconds), note="p95 of single calls")


def measure_capacity(artefacts: Artefacts, backends: Iterable[str], found: Mapping[str, CapacitySearch]) -> None:
    """
    Keep the capacity of each backend: the highest rate that was held; of those that were not searched, that.

    What was held in a short run, and not in a longer one, is no capacity.
    """
    for backend in backends:
        name = f"{backend}/capacity_per_s"
        if backend not in found:
            artefacts.not_measured(name, "this profile searches none", "allocator report --profile ci")
            continue
        capacity, runs = found[backend].capacity, found[backend].runs
        if not capacity.low_per_s and not all(probe.generator_kept for probe in capacity.probes):
            reason = f"the sender did not keep its schedule ({capacity.sentence})"
            artefacts.not_measured(name, reason, "allocator report --profile ci, on a quieter machine")
            continue
        if capacity.confirmations and not capacity.confirmations[0].passed:
            artefacts.not_measured(name, capacity.sentence, "allocator report --profile full")
            continue
        artefacts.measure(
            name,
            capacity.low_per_s,
            "jobs/s",
            n=sum(map(len, runs.values())),
            low=None if capacity.high_per_s is None else capacity.low_per_s,
            high=capacity.high_per_s,
            # A probe above the capacity is meant to go wrong: what was held is shown by the runs at that rate.
            runs=runs.get(capacity.low_per_s) or runs.get(capacity.high_per_s or 0.0, ()),
            note=capacity.sentence,
        )


def measure_scaling(artefacts: Artefacts, backends: Iterable[str], found: Mapping[str, Scaling]) -> None:
    """Keep what the most workers, up to MOST_WORKERS, did beside the fewest, on each backend."""
    for backend in backends:
        name = f"{backend}/scaling_speedup"
        points = found[backend].points.sort_values("workers") if backend in found else pd.DataFrame({"workers": []})
        points = points[points["workers"] <= MOST_WORKERS]
        if len(points) < LEAST_TO_COMPARE:
            artefacts.not_measured(name, "this profile compares no numbers of workers", "allocator report --profile ci")
            continue
        most = points.iloc[-1]
        artefacts.measure(
            name,
            most["speedup"],
            "times",
            n=int(most["runs"]),
            low=most["speedup_low"],
            high=most["speedup_high"],
            level=None if pd.isna(most["level"]) else most["level"],
            runs=[made for count, runs in found[backend].runs.items() if count <= MOST_WORKERS for made in runs],
            note=f"{most['workers']} workers beside {points['workers'].iloc[0]}",
        )


def measure_beside(
    artefacts: Artefacts,
    baseline: Revision,
    candidate: Revision,
    workloads: Mapping[str, Workload],
    figures: Sequence[str],
    rounds: int,
    say: Callable[[str, Progress], None],
) -> dict[str, dict[tuple[str, int], Run]]:
    """
    Measure two revisions beside each other on each backend, and keep which runs are to be compared.

    Args:
        workloads: Backend -> workload.
        figures: Of `allocator.bench.runs.comparing.FIGURES`, those that these workloads are for.

    Returns:
        Backend -> runs, by arm (baseline, candidate, again) and number.
    """
    found = {}
    for backend, workload in workloads.items():
        before = partial(baseline.run, backend=backend, folder=artefacts.baseline)
        after = partial(candidate.run, backend=backend, folder=artefacts.runs)

        def tell(arm: str, progress: Progress, backend: str = backend) -> None:
            say(f"{backend}, {arm}", progress)

        sets = measure_sets(workload, figures, before, after, rounds, tell)
        artefacts.compare(backend, figures, baseline.name, sets)
        arms = {arm: [run for each in sets for run in each[arm]] for arm in ARMS}
        found[backend] = {(arm, number): run for arm, runs in arms.items() for number, run in enumerate(runs)}
    return found


def comparisons_of(compared: Iterable[Comparison]) -> pd.DataFrame:
    """For `figures.ratios`: a row for each comparison, and one for the baseline beside itself."""
    columns = ["label", "value", "low", "high", "margin", "verdict"]
    rows = [
        (label, ratio.value, ratio.low, ratio.high, each.margin, verdict)
        for each in compared
        for label, ratio, verdict in (
            (each.figure.name, each.ratio, str(each.verdict)),
            (f"{each.figure.name}, again", each.same, "A/A"),
        )
    ]
    return pd.DataFrame(rows, columns=columns)


def measure_comparisons(artefacts: Artefacts, name: str, compared: Iterable[Comparison], runs: Runs) -> None:
    """Keep the ratios, as `NAME/p99_of_wait_time_ratio`."""
    for each in compared:
        artefacts.measure(
            f"{name}/{each.figure.name.replace(' ', '_')}_ratio",
            each.ratio.value,
            "ratio",
            n=each.ratio.runs,
            low=each.ratio.low,
            high=each.ratio.high,
            level=each.ratio.level,
            runs=list(runs.values()),
            note=each.sentence,
        )
