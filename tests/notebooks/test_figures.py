"""Figures say what the frames say: read back from what was drawn."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from allocator.bench.checker import Fault
from allocator.bench.statistics.curves import Knee
from allocator.domain.backoff import Backoff
from allocator.report import figures, style


@pytest.fixture
def ax() -> Iterator[Axes]:
    """Axes in our style; what was drawn on them must come to a picture."""
    with style.styled():
        figure = Figure()
        axes = figure.add_subplot()
        yield axes
        figure.draw_without_rendering()


def labels(ax: Axes) -> list[str]:
    """Of the legend."""
    return ax.get_legend_handles_labels()[1]


def line(ax: Axes, label: str) -> Any:
    """The line of a series: its points."""
    return next(each.get_xydata() for each in ax.lines if each.get_label() == label)


def ticks(ax: Axes, axis: str = "x") -> list[str]:
    """What stands at an axis."""
    return [label.get_text() for label in getattr(ax, f"get_{axis}ticklabels")()]


def test_percentiles_reach_as_far_as_the_values_allow(ax: Axes) -> None:
    """A thousand values give p99 and no p99.9; ten give nothing."""
    thousand = pd.DataFrame({"series": "redis", "seconds": np.arange(1, 1001) / 1000})
    ten = pd.DataFrame({"series": "few", "seconds": np.ones(10)})

    figures.latency_percentiles(ax, pd.concat([thousand, ten]), target_s=0.1)

    assert labels(ax) == ["Redis", "target 100 ms"]
    points = line(ax, "Redis")
    assert points[-1] == pytest.approx([2.0, 990.0])
    assert points[np.abs(points[:, 0] - math.log10(2)).argmin(), 1] == pytest.approx(500, abs=5)
    assert ticks(ax) == ["p50", "p90", "p99"]


def test_several_runs_are_a_line_in_a_band(ax: Axes) -> None:
    """The line is the median over runs of each percentile, never one of all values together."""
    runs = [
        pd.DataFrame({"series": "wait", "run": number, "seconds": np.full(100, number)}) for number in (1.0, 2.0, 9.0)
    ]

    figures.latency_percentiles(ax, pd.concat(runs))

    assert set(line(ax, "wait")[:, 1]) == {2000.0}
    (band,) = ax.collections
    assert band.get_datalim(ax.transData).extents[[1, 3]] == pytest.approx([1000.0, 9000.0])


def test_missing_values_are_not_drawn(ax: Axes) -> None:
    """A job that never ended has no latency."""
    durations = pd.DataFrame({"series": "wait", "seconds": [math.nan] * 50})

    figures.latency_percentiles(ax, durations)

    assert len(ax.lines) == 0


def test_a_heatmap_has_a_cell_for_each_count(ax: Axes) -> None:
    """No job is left white, not dark."""
    counts = pd.DataFrame([[1, 0], [2, 3]], index=[0.001, 0.01], columns=[0.0, 0.5])

    figures.latency_heatmap(ax, counts)

    (mesh,) = ax.collections
    assert np.ma.filled(mesh.get_array(), -1).ravel().tolist() == [1, -1, 2, 3]


def test_flow_is_drawn_at_its_instants_with_faults_and_warm_up(ax: Axes) -> None:
    """A kill takes no time, and is seen all the same."""
    flow = pd.DataFrame({"sent": [5.0, 5.0], "done": [0.0, 9.0]}, index=pd.to_timedelta([0, 1], unit="s"))
    faults = [Fault("kill", 0.5, 0.5), Fault("kill", 0.8, 0.8), Fault("server pause", 1.0, 2.0)]

    figures.in_and_out(ax, flow, faults, warmup_s=0.25)

    assert line(ax, "done").tolist() == [[0.0, 0.0], [1.0, 9.0]]
    assert labels(ax) == ["sent", "done", "warm-up", "fault: kill", "fault: server pause"]
    assert all(patch.get_linewidth() > 0 for patch in ax.patches if patch.get_label() == "fault: kill")


def test_instants_may_be_times_since_the_epoch(ax: Axes) -> None:
    """As pandas resamples them, from whole steps on; which it does not do with timedeltas."""
    at = pd.Series(1, index=pd.to_datetime([0.3, 0.4, 1.1], unit="s"))

    figures.in_and_out(ax, (at.resample("500ms").sum() / 0.5).rename("done").to_frame())

    assert line(ax, "done").tolist() == [[0.0, 4.0], [0.5, 0.0], [1.0, 2.0]]


def test_a_backlog_tells_what_is_not_due(ax: Axes) -> None:
    """Jobs in backoff wait too; they are shown apart where there are some."""
    samples = pd.DataFrame({"at": [0.0, 1.0], "ready": [1, 2], "scheduled": [0, 3], "series": "redis"})

    figures.backlog(ax, samples)

    assert line(ax, "Redis")[:, 1].tolist() == [1, 5]
    assert line(ax, "Redis: not due yet")[:, 1].tolist() == [0, 3]


def test_saturated_points_are_hollow_and_the_knee_is_a_span(ax: Axes) -> None:
    """Percentiles of a saturated run are those of its length."""
    curve = pd.DataFrame(
        {
            "rate_per_s": [100.0, 200.0],
            "p50_s": [0.001, 0.5],
            "p90_s": [math.nan, math.nan],
            "p99_s": [0.01, 1.0],
            "saturated": pd.array([False, True], dtype="boolean"),
        }
    )

    figures.load_latency(ax, curve, Knee(200.0, 100.0, ""))

    assert labels(ax) == ["p50", "p99", "knee"]
    assert [each.get_xydata().tolist() for each in ax.lines if each.get_markerfacecolor() == "w"] == [
        [[200.0, 500.0]],
        [[200.0, 1000.0]],
    ]


def test_scaling_is_beside_what_would_be_linear(ax: Axes) -> None:
    """A series for each backend and kind of work."""
    curve = pd.DataFrame(
        {
            "backend": "redis",
            "mode": "sleep",
            "workers": [1, 4],
            "throughput_per_s": [100.0, 300.0],
            "low_per_s": [90.0, 280.0],
            "high_per_s": [110.0, 310.0],
        }
    )

    figures.scaling(ax, curve)

    assert labels(ax) == ["Redis, sleep"]
    assert [each.get_ydata()[-1] for each in ax.lines if each.get_linestyle() == ":"] == [400.0]


def test_pickup_errors_are_shown_by_attempt_also_those_below_zero(ax: Axes) -> None:
    """On a logarithm they would vanish, and they are the ones to be seen."""
    attempts = pd.DataFrame(
        {"attempt": [1, 2, 2], "due_at": [1.0, 2.0, 3.0], "pickup_error_s": [math.nan, 0.002, -0.5]}
    )

    figures.attempts_against_due(ax, attempts)

    assert labels(ax) == ["attempt 2"]
    (points,) = ax.collections
    assert np.asarray(points.get_offsets()).tolist() == [[2.0, 2.0], [3.0, -500.0]]


def test_delays_are_beside_those_that_were_promised(ax: Axes) -> None:
    """Of failed attempts that another follows; what was given up has none."""
    attempts = pd.DataFrame(
        {
            "attempt": [1, 2, 3],
            "outcome": ["failed", "failed", "failed"],
            "settled_at": [1.0, 3.0, 8.0],
            "next_due_at": [2.0, 5.0, math.nan],
        }
    )

    figures.backoff_envelope(ax, attempts, Backoff())

    points, promised = ax.collections
    assert np.asarray(points.get_offsets())[:, 1].tolist() == [1.0, 2.0]
    assert [segment[0][1] for segment in promised.get_segments()] == [1.0, 2.0]


def test_counts_stand_beside_their_bars(ax: Axes) -> None:
    """Long reasons are cut for the axis, to their first line."""
    table = pd.DataFrame({"redis": [3, 0], "postgres": [1, 2]}, index=["no header " * 9 + "\nmore", "lease expired"])

    figures.dead_letters_by_reason(ax, table)

    assert [text.get_text().strip() for text in ax.texts] == ["4", "2"]
    assert ticks(ax, "y") == ["no header no header no\nheader no header no header …", "lease expired"]
    assert sum(patch.get_width() for patch in ax.patches) == 6


def test_a_timeline_has_a_row_for_each_worker(ax: Axes) -> None:
    """What was killed has no end, and is a mark; what never started is nowhere."""
    attempts = pd.DataFrame(
        {
            "worker": ["10/worker-1", "10/worker-2", "11/worker-1", None],
            "started_at": [0.0, 0.5, 1.0, math.nan],
            "finished_at": [1.0, 2.0, math.nan, math.nan],
            "settled_at": [1.0, 2.0, math.nan, math.nan],
            "outcome": ["done", "done", "lost", "released"],
        }
    )

    figures.worker_timeline(ax, attempts, [Fault("kill", 1.2, 1.3)])

    assert ticks(ax, "y") == ["10/worker-1", "10/worker-2", "11/worker-1"]
    marks = np.concatenate([np.asarray(each.get_offsets()) for each in ax.collections])
    assert marks.tolist() == [[1.0, 2.0]]
    assert {"done", "lost", "fault: kill"} <= set(labels(ax))


def test_ratios_say_their_verdict(ax: Axes) -> None:
    """With the margin about 1 within which they are the same."""
    comparisons = pd.DataFrame(
        [("throughput", 1.2, 1.1, 1.3, 0.1, "better"), ("throughput, again", 1.0, 0.9, 1.1, 0.1, "A/A")],
        columns=["label", "value", "low", "high", "margin", "verdict"],
    )

    figures.ratios(ax, comparisons)

    assert ticks(ax, "y") == ["throughput: better", "throughput, again: A/A"]
    assert ticks(ax) == ["0.9", "1", "1.1", "1.25"]
    assert [each.get_xdata()[0] for each in ax.lines if each.get_marker() == "o"] == [1.2, 1.0]


def test_ratios_far_from_each_other_can_be_read(ax: Axes) -> None:
    """Fewer stand at the axis then."""
    comparisons = pd.DataFrame(
        [("p99 of wait time", 2.0, 0.2, 9.0, 0.2, "undecided")],
        columns=["label", "value", "low", "high", "margin", "verdict"],
    )

    figures.ratios(ax, comparisons)

    assert ticks(ax) == ["0.2", "0.5", "1", "2", "5", "10"]
