"""
Every figure of notebooks and report: functions that take axes and frames, and draw.

Sizes and fonts are those of the style in force (`allocator.report.style`); a series that bears a backend's name looks
as that backend does everywhere. Series are told apart by line and marker as well as by colour. Instants are seconds
since the run's origin and durations seconds, as in the rows of a run; axes say their unit. What is missing is not
drawn; nothing is cut off.
"""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from allocator.bench.checker import Fault
from allocator.bench.statistics.curves import Knee
from allocator.bench.statistics.percentiles import BEYOND, SHOWN, rank
from allocator.domain.backoff import Backoff
from allocator.report import style

COLOURS = (style.BLUE, style.PURPLE, style.ORANGE, style.SKY, style.VERMILION, style.GREEN)
DASHES = ("-", ":", "--", "-.")
MARKERS = ("o", "P", "D", "v", "s", "^")
"""Of series that are no backends, in an order that seldom meets those of backends beside them."""

SMALL = 12
"""Square points: of markers of which there are many."""

RATIOS = (0.01, 0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10, 100)
"""What may stand at an axis of ratios."""

FAR_RATIOS = (0.01, 0.1, 0.2, 0.5, 1, 2, 5, 10, 100)
"""The same where the axis reaches so far that those about 1 would run into each other."""

FAR = 3.0

MANY = 5000
"""So many marks are drawn as a picture within the figure, which as lines would be megabytes."""


def latency_percentiles(ax: Axes, durations: pd.DataFrame, target_s: float | None = None) -> None:
    """
    Percentiles on an HDR axis, on which 90 %, 99 % and 99.9 % are as far from each other.

    Each series goes as far out as the number of its values allows; see `statistics.percentiles.least_count`.

    Args:
        durations: A row a job or attempt: `series`, `seconds`, and `run` where there are several; then the line is the
            median over runs, in a band from the least to the greatest.
        target_s: A percentile's promise, as a line.
    """
    furthest = 0.0
    for number, (name, group) in enumerate(durations.dropna(subset=["seconds"]).groupby("series", sort=False)):
        runs = group.groupby("run") if "run" in group else [(name, group)]
        ordered = [np.sort(each["seconds"].to_numpy(np.float64)) for _, each in runs]
        fewest = min(map(len, ordered))
        if fewest <= BEYOND:
            continue
        reach = math.log10(fewest / BEYOND)
        nines = np.linspace(0.0, reach, 200)
        curves = np.array([[each[rank(1 - 10**-x, len(each))] for x in nines] for each in ordered]) * 1e3
        (line,) = ax.plot(nines, np.median(curves, axis=0), **_look(name, number), markevery=0.1)
        if len(curves) > 1:
            ax.fill_between(nines, curves.min(axis=0), curves.max(axis=0), color=line.get_color(), alpha=0.2, lw=0)
        furthest = max(furthest, reach)
    if target_s is not None:
        ax.axhline(target_s * 1e3, color=style.INK, linestyle=":", label=f"target {target_s * 1e3:g} ms")
    shown = {label: -math.log10(1 - share) for label, share in SHOWN.items() if label != "p95"}
    ticks = {label: at for label, at in shown.items() if at <= furthest + 0.05}
    ax.set_xticks(list(ticks.values()), list(ticks))
    ax.set_xlabel("share of the values (p99: 99 in 100 are below)")
    ax.set_yscale("log")
    _milliseconds(ax, "milliseconds")
    _legend(ax)


def latency_heatmap(ax: Axes, counts: pd.DataFrame) -> None:
    """
    How many jobs took how long, over time.

    Args:
        counts: A row a latency (seconds, ascending, evenly spaced on a log scale), a column an instant; jobs.
    """
    times, latencies = counts.columns.to_numpy(np.float64), counts.index.to_numpy(np.float64) * 1e3
    values = counts.to_numpy(np.float64)
    mesh = ax.pcolormesh(times, latencies, np.where(values > 0, values, np.nan), cmap=style.HEAT, rasterized=True)
    ax.figure.colorbar(mesh, ax=ax, label="jobs")
    ax.set_yscale("log")
    _milliseconds(ax, "milliseconds")
    ax.set_xlabel("seconds since the start")


def in_and_out(ax: Axes, flow: pd.DataFrame, faults: Sequence[Fault] = (), warmup_s: float = 0.0) -> None:
    """
    What came in and what went out, with faults shaded and the warm-up hatched.

    Args:
        flow: A column a series, in jobs a second. The index holds the instants: seconds, or, where they were made for
            `resample`, timedeltas or times since the epoch.
    """
    for number, (name, values) in enumerate(flow.items()):
        look = _look(name, number) | {"marker": ""}
        ax.step(_seconds(flow.index), values.to_numpy(), where="post", **look)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("jobs a second")
    _over_time(ax, faults, warmup_s)


def backlog(ax: Axes, samples: pd.DataFrame, faults: Sequence[Fault] = (), warmup_s: float = 0.0) -> None:
    """
    Jobs that wait, over time, and those of them whose time has not come.

    Args:
        samples: A row a sample: at, ready, scheduled; more than one run are told apart by `series`.
    """
    groups = samples.groupby("series", sort=False) if "series" in samples else [("wait", samples)]
    for number, (name, group) in enumerate(groups):
        look = _look(name, number) | {"marker": ""}
        ax.plot(group["at"], group["ready"] + group["scheduled"], **look)
        if group["scheduled"].any():
            look |= {"linestyle": ":", "label": f"{look['label']}: not due yet"}
            ax.plot(group["at"], group["scheduled"], **look)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("backlog, jobs")
    _over_time(ax, faults, warmup_s)


def load_latency(ax: Axes, curve: pd.DataFrame, knee: Knee | None = None) -> None:
    """
    Latency against load. Points of saturated runs are hollow: theirs grow with the length of the run.

    Args:
        curve: Of `statistics.curves.load_latency`.
    """
    saturated = curve["saturated"].fillna(False).to_numpy(bool)
    for number, column in enumerate(("p50_s", "p90_s", "p99_s")):
        known = curve[column].notna().to_numpy()
        if not known.any():
            continue
        shown, look = curve[known], _look(column.removesuffix("_s"), number)
        ax.plot(shown["rate_per_s"], shown[column] * 1e3, **look)
        hollow = curve[known & saturated]
        ax.plot(hollow["rate_per_s"], hollow[column] * 1e3, look["marker"], color=look["color"], markerfacecolor="w")
    if knee is not None and knee.rate_per_s is not None and knee.before_per_s is not None:
        ax.axvspan(knee.before_per_s, knee.rate_per_s, alpha=0.15, color=style.INK, label="knee")
    ax.set_xlim(left=0)
    ax.set_yscale("log")
    _milliseconds(ax, "milliseconds")
    ax.set_xlabel("arrivals, jobs a second (hollow: saturated)")
    _legend(ax)


def scaling(ax: Axes, curve: pd.DataFrame) -> None:
    """
    Throughput against workers, beside what twice the workers would do at best.

    Args:
        curve: Of `statistics.curves.scaling`, one or several; a `backend` tells them apart beside the mode.
    """
    names = ["backend", "mode"] if "backend" in curve else ["mode"]
    for number, (name, group) in enumerate(curve.groupby(names, sort=False)):
        group = group.sort_values("workers")
        rate = group["throughput_per_s"]
        errors = [rate - group["low_per_s"], group["high_per_s"] - rate]
        look = _look(name[0], number)
        look |= {
            "label": ", ".join([look["label"], *map(str, name[1:])]),
            "linestyle": "--" if name[-1] == "cpu" else "-",
        }
        ax.errorbar(group["workers"], rate, errors, capsize=3, **look)
        linear = group["workers"] * rate.iloc[0] / group["workers"].iloc[0]
        ax.plot(group["workers"], linear, ":", color=look["color"], alpha=0.5)
    ax.set_xticks(sorted(curve["workers"].unique()))
    ax.set_xlim(left=0)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("workers (dotted: twice the workers, twice as much)")
    ax.set_ylabel("jobs a second")
    _legend(ax)


def attempts_against_due(ax: Axes, attempts: pd.DataFrame) -> None:
    """
    How late each retry and each delayed job started, at the instant it was due; below the line would be too early.

    Args:
        attempts: Rows of a run: due_at, pickup_error_s, attempt.
    """
    known = attempts.dropna(subset=["due_at", "pickup_error_s"])
    for number, (attempt, group) in enumerate(known.groupby("attempt")):
        ax.scatter(
            group["due_at"],
            group["pickup_error_s"] * 1e3,
            s=SMALL,
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            alpha=0.6,
            label=f"attempt {attempt}",
            rasterized=len(known) > MANY,
        )
    ax.axhline(0.0, color=style.INK, linewidth=1)
    ax.set_yscale("symlog", linthresh=1.0)
    _milliseconds(ax, "start minus due, milliseconds")
    ax.set_xlabel("due, seconds since the start")
    _legend(ax)


def backoff_envelope(ax: Axes, attempts: pd.DataFrame, backoff: Backoff) -> None:
    """
    The delay that followed each failed attempt, beside the one that was promised.

    Args:
        attempts: Rows of a run: attempt, outcome, settled_at, next_due_at.
    """
    failed = attempts[(attempts["outcome"] == "failed") & attempts["next_due_at"].notna()]
    delays = (failed["next_due_at"] - failed["settled_at"]).to_numpy(np.float64)
    numbers = failed["attempt"].to_numpy(np.float64)
    # Side by side, so that many of the same are not one point.
    aside = (np.arange(len(numbers)) % 41 - 20) / 80
    ax.scatter(
        numbers + aside, delays, s=SMALL, color=COLOURS[0], alpha=0.6, label="measured", rasterized=len(delays) > MANY
    )
    shown = np.unique(numbers)
    promised = [backoff.delay(int(number)) for number in shown]
    ax.hlines(promised, shown - 0.4, shown + 0.4, colors=style.INK, linestyles="--", label="promised")
    for number, delay in zip(shown, promised, strict=True):
        ax.annotate(f"{delay:g} s", (number + 0.42, delay), va="center")
    ax.set_xticks(shown, [f"{number:g}" for number in shown])
    ax.set_xlim(0.4, max(shown, default=1) + 0.8)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("failed attempt")
    ax.set_ylabel("delay until the next, seconds")
    _legend(ax)


def counted(ax: Axes, table: pd.DataFrame, unit: str) -> None:
    """
    Numbers as bars, with the sum beside each.

    Args:
        table: A row a bar, a column a part of it.
    """
    left = np.zeros(len(table))
    for number, (name, values) in enumerate(table.items()):
        look = _look(name, number)
        hatch = ("", "//", "..", "xx")[number % 4]
        widths = values.to_numpy(np.float64)
        ax.barh(range(len(table)), widths, left=left, color=look["color"], hatch=hatch, label=look["label"])
        left += widths
    for place, total in enumerate(left):
        ax.annotate(f" {total:,g}", (total, place), va="center")
    ax.set_yticks(range(len(table)), [_short(str(name)) for name in table.index])
    ax.invert_yaxis()
    ax.margins(x=0.15)
    ax.set_xlabel(unit)
    if table.shape[1] > 1:
        # Above, where no bar is.
        ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3)


def dead_letters_by_reason(ax: Axes, table: pd.DataFrame) -> None:
    """
    Dead letters, by why they were given up.

    Args:
        table: A row a reason, a column a job type; dead letters.
    """
    counted(ax, table, "dead letters")


def worker_timeline(ax: Axes, attempts: pd.DataFrame, faults: Sequence[Fault] = ()) -> None:
    """
    What each worker did: a bar an attempt, by how it ended.

    Args:
        attempts: Rows of a run: worker, started_at, finished_at, settled_at, outcome. What has no end, since its
            process was killed, is a mark where it started.
    """
    started = attempts.dropna(subset=["started_at", "worker"])
    workers = sorted(started["worker"].unique())
    at = np.searchsorted(workers, started["worker"].to_numpy(object))
    for number, outcome in enumerate(sorted(started["outcome"].unique())):
        chosen = (started["outcome"] == outcome).to_numpy(bool)
        rows, colour = started[chosen], COLOURS[number % len(COLOURS)]
        ends = rows["finished_at"].fillna(rows["settled_at"])
        ax.barh(
            at[chosen], ends - rows["started_at"], left=rows["started_at"], height=0.7, color=colour, label=outcome,
            rasterized=len(started) > MANY,
        )  # fmt: skip
        endless = ends.isna().to_numpy(bool)
        ax.scatter(rows["started_at"][endless], at[chosen][endless], marker="x", color=colour)
    ax.set_yticks(range(len(workers)), [str(worker) for worker in workers])
    _over_time(ax, faults, 0.0)


def ratios(ax: Axes, comparisons: pd.DataFrame) -> None:
    """
    Ratios to a baseline with their intervals, and the margin within which they are called the same.

    Args:
        comparisons: A row a comparison: label, value, low, high, margin, verdict.
    """
    rows: list[dict[str, Any]] = comparisons.to_dict("records")  # type: ignore[assignment]
    for place, row in enumerate(rows):
        margin = 1 + row["margin"]
        ax.fill_betweenx([place - 0.4, place + 0.4], 1 / margin, margin, color=style.INK, alpha=0.2, lw=0)
        ax.plot([row["low"], row["high"]], [place, place], "-", color=COLOURS[0])
        ax.plot(row["value"], place, "o", color=COLOURS[0])
    labels = [f"{row['label']}: {row['verdict']}" for row in rows]
    ax.set_yticks(range(len(comparisons)), labels)
    ax.invert_yaxis()
    ax.axvline(1.0, color=style.INK, linestyle=":")
    ax.set_xscale("log")
    ax.minorticks_off()
    low, high = ax.get_xlim()
    shown = [ratio for ratio in (RATIOS if high / low < FAR else FAR_RATIOS) if low <= ratio <= high]
    ax.set_xticks(shown, [f"{ratio:g}" for ratio in shown])
    ax.set_xlabel("ratio (grey: as good as the same)")


def _look(name: Any, number: int) -> dict[str, Any]:
    """Of a series: its backend's, or that of its number."""
    if name in style.LOOKS:
        return style.line(name)
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": DASHES[number % len(DASHES)],
        "marker": MARKERS[number % len(MARKERS)],
        "label": str(name),
    }


def _over_time(ax: Axes, faults: Sequence[Fault], warmup_s: float) -> None:
    if warmup_s:
        ax.axvspan(0, warmup_s, fill=False, hatch="//", edgecolor=style.INK, alpha=0.4, lw=0, label="warm-up")
    for kind in dict.fromkeys(fault.kind for fault in faults):
        for number, fault in enumerate(each for each in faults if each.kind == kind):
            # A kill takes no time, and must be seen all the same.
            ax.axvspan(
                fault.began_at,
                fault.ended_at,
                color=style.INK,
                alpha=0.3,
                lw=2,
                label=None if number else f"fault: {kind}",
            )
    ax.set_xlabel("seconds since the start")
    _legend(ax)


def _seconds(index: "pd.Index[Any]") -> np.ndarray:
    if isinstance(index, pd.DatetimeIndex):
        index = index - pd.Timestamp(0, tz=index.tz)
    if isinstance(index, pd.TimedeltaIndex):
        return np.asarray(index.total_seconds(), np.float64)
    return index.to_numpy(np.float64)


def _milliseconds(ax: Axes, label: str) -> None:
    if ax.get_yscale() == "log":
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    ax.set_ylabel(label)


def _legend(ax: Axes) -> None:
    if ax.get_legend_handles_labels()[1]:
        ax.legend()


def _short(text: str) -> str:
    """Its first line, on two lines at most."""
    first = text.splitlines()[0] if text else ""
    return "\n".join(textwrap.wrap(first, 28, max_lines=2, placeholder=" …"))
