"""The figures of the page: which runs they are drawn from, and what each shows, in a sentence."""

import html
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from allocator.bench.statistics.curves import knee
from allocator.bench.statistics.percentiles import latency
from allocator.report import figures, style
from allocator.report.artefacts import read_tables
from allocator.report.claims import BACKENDS
from allocator.report.evidence import Recorded
from allocator.report.measuring import comparisons_of
from allocator.report.numbers import between, counted, shown
from allocator.report.reading import Report
from allocator.report.tables import Table, of_frame, percentiles

INTENDED, WAIT, SERVICE = "from intended arrival until done", "due until started", "work itself"
BINS = 40
NEARLY_S = 0.002
"""Up to this a linear axis shows lateness better than a logarithmic one."""
SAID = ("p50", "p95", "p99")
LATENCY_CLAIM = "sojourn_p95_s"
"""The measure whose runs the figures of latency are drawn from: workers that keep up."""


@dataclass(frozen=True)
class Picture:
    """
    A figure, ready for the page.

    Args:
        caption: What it shows, in words and figures; it is read out in the place of the figure as well.
        struck: Whether a run of it broke a promise.
    """

    svg: str
    caption: str
    table: Table | None = None
    struck: bool = False


@style.styled()
def latencies(report: Report) -> tuple[list[Picture], Table]:
    """Percentiles and a heatmap for each backend; and the table of all percentiles."""
    found, rows = [], []
    for backend, title in BACKENDS.items():
        runs = runs_of(report, f"{backend}/{LATENCY_CLAIM}")
        if not runs:
            continue
        durations = pd.concat([_durations(run) for run in runs], ignore_index=True)
        series = {str(name): group["seconds"].to_numpy() for name, group in durations.groupby("series", sort=False)}
        table = percentiles(f"Latency, {title}", series)
        rows += [[f"{title}: {row[0]}", *row[1:]] for row in table.rows]
        target = next((each.claim.target for each in report.findings if each.claim.id == f"{backend}-wait-p99"), None)
        figure, axes = style.new_figure()
        figures.latency_percentiles(axes, durations, target.value if target else None)
        axes.set_title(title)
        of = latency(series[INTENDED])
        ends = [
            f"{shown(of.percentiles_s[name], 's')} at {name}"
            for name in ("p50", "p95", "p99")
            if of.percentiles_s[name]
        ]
        caption = (
            f"{title}: from its intended arrival until it was done a job took {', '.join(ends)}, and at most "
            f"{shown(of.max_s, 's')}; {counted(of.count, 'job')} in {counted(len(runs), 'run')}."
        )
        found.append(_picture(figure, caption, table, runs))
        found.append(_heatmap(title, runs[-1]))
    return found, Table("Latency", percentiles("", {}).columns, rows)


def _durations(run: Recorded) -> pd.DataFrame:
    jobs, attempts = run.run.jobs, run.run.attempts
    measured = jobs[~jobs["warmup"]]
    done = measured[measured["state"] == "done"]
    of_measured = attempts[attempts["job"].isin(measured["job"])]
    parts = {INTENDED: done["sojourn_s"], WAIT: measured["wait_s"], SERVICE: of_measured["service_s"]}
    frames = [
        pd.DataFrame({"series": name, "seconds": values.dropna().to_numpy(np.float64), "run": run.about.id})
        for name, values in parts.items()
    ]
    return pd.concat(frames, ignore_index=True)


def _heatmap(title: str, run: Recorded) -> Picture:
    done = run.run.jobs.dropna(subset=["sojourn_s", "settled_at"])
    done = done[done["sojourn_s"] > 0]
    seconds, at = done["sojourn_s"].to_numpy(np.float64), done["settled_at"].to_numpy(np.float64)
    low, high, last = (
        (float(seconds.min()), float(seconds.max()), float(at.max())) if len(seconds) else (1e-3, 1.0, 1.0)
    )
    # Cells of a few jobs each: more would be noise, fewer would hide what happened.
    bins = int(np.clip(np.sqrt(len(seconds)) / 2, 8, BINS))
    edges = np.geomspace(low * 0.999, max(high, low * 1.01) * 1.001, bins + 1)
    times = np.linspace(0, last, bins + 1)
    values, _, _ = np.histogram2d(seconds, at, [edges, times])
    counts = pd.DataFrame(values, np.sqrt(edges[:-1] * edges[1:]), (times[:-1] + times[1:]) / 2)
    figure, axes = style.new_figure()
    figures.latency_heatmap(axes, counts)
    axes.grid(visible=False)
    style.few_log_ticks(axes)
    axes.set_title(f"{title}, over time")
    caption = (
        f"{title}: each column is an instant of the run, each cell how many jobs ended then after so long; between "
        f"{shown(low, 's')} and {shown(high, 's')}, {counted(len(seconds), 'job')}."
    )
    return _picture(figure, caption, None, [run])


@style.styled()
def throughputs(report: Report) -> tuple[list[Picture], Table]:
    """In and out over time with the backlog, latency against load, scaling; and the table of rates."""
    found = []
    for backend, title in BACKENDS.items():
        runs = [run for run in runs_of(report, f"{backend}/{LATENCY_CLAIM}") if run.figures["begin_s"] is not None]
        found += [_flow(title, runs[-1])] if runs else []
    curves = read_tables(report.folder, "load_latency")
    if curves is not None:
        found += [
            _load(BACKENDS.get(str(name), str(name)), curve) for name, curve in curves.groupby("backend", sort=False)
        ]
    scaled = read_tables(report.folder, "scaling")
    if scaled is not None:
        found.append(_scaling(scaled))
    names = {
        "throughput_per_s": "done a second, saturated",
        "capacity_per_s": "highest rate within bounds",
        "knee_per_s": "knee",
    }
    rows = []
    for backend, title in BACKENDS.items():
        for name, words in names.items():
            each = report.evidence.measures.get(f"{backend}/{name}")
            if each is not None:
                said = shown(each.value, each.unit) if each.value is not None else "not measured"
                rows.append(
                    [
                        f"{title}: {words}",
                        said,
                        between(each.low, each.high, each.unit) or "–",
                        each.note or each.reason,
                    ]
                )
    return found, Table("Rates", ["Rate", "Measured", "Between", "Note"], rows)


def _flow(title: str, run: Recorded) -> Picture:
    jobs, backlog = run.run.jobs, run.run.backlog
    last = float(np.ceil(np.nanmax([jobs["intended_at"].max(), jobs["settled_at"].max(), 1.0])))
    edges = np.arange(0.0, last + 1.0, 1.0 if last > 20 else 0.5)
    width = edges[1] - edges[0]

    def rate(instants: "pd.Series[float]") -> np.ndarray:
        values: np.ndarray = np.histogram(instants.dropna().to_numpy(np.float64), edges)[0] / width
        return values

    flow = pd.DataFrame({"in": rate(jobs["intended_at"]), "out": rate(jobs["settled_at"])}, index=edges[:-1])
    figure, axes = style.new_figure(2, height_in=4.4)
    warmup_s, faults = run.run.workload.warmup_s, run.about.faults
    figures.in_and_out(axes[0], flow, faults, warmup_s)
    figures.backlog(axes[1], backlog, faults, warmup_s)
    axes[0].set_title(title)
    axes[0].set_xlabel("")
    waiting = backlog["ready"] + backlog["scheduled"]
    caption = (
        f"{title}: after the warm-up jobs arrived at {shown(run.figures['offered_per_s'], 'jobs/s')} and, while they "
        f"did, were done at {shown(run.figures['throughput_per_s'], 'jobs/s')} on average; at most "
        f"{counted(int(waiting.max()), 'job')} waited."
    )
    return _picture(figure, caption, None, [run])


def _load(title: str, curve: pd.DataFrame) -> Picture:
    curve = curve.sort_values("rate_per_s")
    found = knee(curve)
    figure, axes = style.new_figure()
    figures.load_latency(axes, curve, found)
    axes.set_title(f"{title}: latency against load")
    table = of_frame(f"Latency against load, {title}", curve.drop(columns=["backend"]))
    return _picture(figure, f"{title}: {found.sentence}", table, [])


def _scaling(curve: pd.DataFrame) -> Picture:
    figure, axes = style.new_figure()
    figures.scaling(axes, curve)
    axes.set_title("What more workers bring")
    ends = curve.sort_values("workers").groupby(["backend", "mode"], sort=False).last().reset_index()
    said = [
        f"{BACKENDS.get(row['backend'], row['backend'])}, {row['mode']}: {shown(row['speedup'])} times with "
        f"{row['workers']} workers"
        for row in ends.to_dict("records")
    ]
    return _picture(figure, f"{'; '.join(said)}.", of_frame("Scaling", curve), [])


@style.styled()
def retried(report: Report) -> list[Picture]:
    """Each retry against its due time, and each delay against the promised one."""
    found = []
    for backend, title in BACKENDS.items():
        for run in runs_of(report, f"{backend}/backoff_error_max_s")[:1]:
            attempts = run.run.attempts
            late = attempts["pickup_error_s"].dropna().to_numpy(np.float64)
            if not len(late):
                continue
            figure, axes = style.new_figure()
            figures.attempts_against_due(axes, attempts)
            if np.abs(late).max() < NEARLY_S:
                axes.set_yscale("linear")
            axes.set_title(f"{title}: retries against their due time")
            of = latency(late)
            caption = (
                f"{title}: {counted(of.count, 'retry', 'retries')} started {shown(of.mean_s, 's')} after they were due "
                f"on average, and {shown(of.max_s, 's')} at most."
            )
            found.append(_picture(figure, caption, percentiles("Start minus due", {"start minus due": late}), [run]))
            retry = run.run.workload.retry
            if not retry.jitter:
                figure, axes = style.new_figure()
                figures.backoff_envelope(axes, attempts, retry.backoff(run.run.workload.seed))
                axes.set_title(f"{title}: delay before each retry")
                found.append(
                    _picture(
                        figure,
                        f"{title}: the delay after each failed attempt, beside the promised one.",
                        _delays(attempts),
                        [run],
                    )
                )
    return found


def _delays(attempts: pd.DataFrame) -> Table:
    failed = attempts[(attempts["outcome"] == "failed") & attempts["next_due_at"].notna()]
    delays = (
        (failed["next_due_at"] - failed["settled_at"]).groupby(failed["attempt"]).agg(["min", "median", "max", "size"])
    )
    rows = [
        [f"{attempt}", *(shown(value, "s") for value in row[:3]), f"{int(row[3]):,}"]
        for attempt, *row in delays.itertuples()
    ]
    return Table("Delay after a failed attempt", ["Failed attempt", "least", "median", "most", "values"], rows)


@style.styled()
def timelines(report: Report) -> list[Picture]:
    """What each worker did, in one run with faults a backend."""
    found = []
    for backend, title in BACKENDS.items():
        runs = [run for run in report.runs if run.about.backend == backend and run.about.faults]
        if runs:
            run = max(runs, key=lambda each: len(each.about.faults))
            attempts = run.run.attempts
            figure, axes = style.new_figure(height_in=3.8)
            figures.worker_timeline(axes, attempts, run.about.faults)
            # A worker's name tells its process already.
            axes.set_yticks(axes.get_yticks(), [label.get_text().split("/", 1)[-1] for label in axes.get_yticklabels()])
            axes.set_title(title)
            ends = ", ".join(f"{count:,} {name}" for name, count in attempts["outcome"].value_counts().items())
            kinds = ", ".join(sorted({fault.kind.replace("_", " ") for fault in run.about.faults}))
            workers = len(attempts.dropna(subset=["process"])[["process", "worker"]].drop_duplicates())
            caption = f"{title}: {counted(workers, 'worker')} under {kinds}; a bar is an attempt ({ends})."
            found.append(_picture(figure, caption, None, [run]))
    return found


@style.styled()
def compared(report: Report) -> list[Picture]:
    """What this tree does beside the baseline, by backend."""
    found = []
    for backend, title in BACKENDS.items():
        names = [each.claim.compared for each in report.findings if each.claim.backend == backend and each.value]
        sides = [report.evidence.compared[name] for name in names if name]
        comparisons = [made for each in sides if (made := report.evidence.compare(each)) is not None]
        if not comparisons:
            continue
        frame = comparisons_of(comparisons)
        figure, axes = style.new_figure(height_in=1.1 + 0.42 * len(frame))
        figures.ratios(axes, frame)
        axes.set_title(title)
        said = [
            f"{each.figure.name} {shown(each.ratio.value)} times the baseline's "
            f"({between(each.ratio.low, each.ratio.high)}), {each.verdict}{' twice' if each.confirmed else ''}"
            for each in comparisons
        ]
        caption = f"{title}: {'; '.join(said)}."
        runs = [run for each in sides for side in report.evidence.sides(each) for run in side]
        found.append(_picture(figure, caption, of_frame(f"Ratios, {title}", frame), runs))
    return found


def runs_of(report: Report, measure: str) -> list[Recorded]:
    """The runs that a measure rests on, as far as they can be read."""
    found = report.evidence.measures.get(measure)
    return [report.evidence.runs[id] for id in (found.runs if found else []) if id in report.evidence.runs]


def sparkline(values: Iterable[float], words: str) -> str:
    """A line as high as a word; `words` says the same."""
    points = [float(value) for value in values]
    low, high = min(points), max(points)
    span = (high - low) or 1.0
    step = 96 / max(1, len(points) - 1)
    path = " ".join(
        f"{2 + place * step:.1f},{22 - 20 * (value - low) / span:.1f}" for place, value in enumerate(points)
    )
    x, y = path.rsplit(" ", 1)[-1].split(",")
    return (
        f'<svg viewBox="0 0 100 24" width="100" height="24" role="img" aria-label="{html.escape(words)}">'
        f'<polyline points="{path}" fill="none" stroke="currentColor" stroke-width="1.5"/>'
        f'<circle cx="{x}" cy="{y}" r="2.2" fill="currentColor"/></svg>'
    )


def _picture(figure: Any, caption: str, table: Table | None, runs: list[Recorded]) -> Picture:
    return Picture(style.svg(figure, caption), caption, table, any(run.verdict == "broken" for run in runs))
