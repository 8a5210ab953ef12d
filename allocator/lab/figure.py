"""
The live figure: the last minute of a session, drawn twice a second for next to nothing.

Axes and their texts are drawn once and kept as pixels; only the lines are drawn anew, unless a scale has changed. It is
transparent, and its grey can be read on a light and on a dark page.
"""

import io
import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from PIL import Image

from allocator.lab.reading import KEPT_S, Reading
from allocator.report.style import BLUE, GREEN, ORANGE, VERMILION, styled

WIDTH_PX, HEIGHT_PX, DPI = 1080, 260, 100
LEAST_S, LONGEST_S = 1e-4, 1e3
"""Bounds of the axis of times."""

SHRINK = 4
"""A scale becomes smaller once it is so many times what is needed, so that it does not jump to and fro."""

_SERIES: Sequence[Sequence[tuple[str, str, str, str]]] = (
    (
        ("arrival_per_s", "arriving", BLUE, "-"),
        ("throughput_per_s", "done", GREEN, "--"),
        ("retries_per_s", "retried", ORANGE, ":"),
    ),
    (("backlog", "backlog", BLUE, "-"), ("dead", "dead letters", VERMILION, "--")),
    (
        ("wait_s_p50", "wait p50", BLUE, ":"),
        ("wait_s_p99", "wait p99", BLUE, "-"),
        ("sojourn_s_p50", "sojourn p50", VERMILION, ":"),
        ("sojourn_s_p99", "sojourn p99", VERMILION, "--"),
    ),
)
_LABELS = ("jobs per second", "jobs", "time")


class LiveFigure:
    """For one thread, which may be any: nothing of it is global."""

    def __init__(self) -> None:
        with styled():
            self._figure = Figure(figsize=(WIDTH_PX / DPI, HEIGHT_PX / DPI), dpi=DPI, layout="constrained")
            self._canvas: Any = FigureCanvasAgg(self._figure)
            self._axes: list[Axes] = list(self._figure.subplots(1, 3))
            self._lines: dict[str, Line2D] = {}
            for ax, series, label in zip(self._axes, _SERIES, _LABELS, strict=True):
                for name, told, colour, dashes in series:
                    (self._lines[name],) = ax.plot(
                        [], [], color=colour, linestyle=dashes, marker="", label=told, animated=True
                    )
                ax.set_xlim(-KEPT_S, 0)
                ax.set_xlabel("seconds ago")
                ax.set_xticks([-60, -40, -20, 0], ["60", "40", "20", "now"])
                ax.set_ylabel(label)
                ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0, fontsize=9)
            self._axes[2].set_yscale("log")
            self._axes[2].yaxis.set_major_locator(LogLocator())
            self._axes[2].yaxis.set_major_formatter(FuncFormatter(lambda at_s, _: duration(at_s)))
            self._axes[2].yaxis.set_minor_locator(NullLocator())
        self._figure.patch.set_alpha(0)
        for ax in self._axes:
            ax.patch.set_alpha(0)
        self._tops = [0.0, 0.0, 0.0]
        self._background: object = None

    def draw(self, readings: Sequence[Reading]) -> bytes:
        """As a PNG."""
        now = readings[-1].at if readings else 0.0
        ago = [reading.at - now for reading in readings]
        for name, line in self._lines.items():
            line.set_data(ago, [_or_nan(getattr(reading, name)) for reading in readings])
        self._scale()
        canvas = self._canvas
        if self._background is None:
            canvas.draw()
            self._background = canvas.copy_from_bbox(self._figure.bbox)
        canvas.restore_region(self._background)
        for ax in self._axes:
            for line in ax.lines:
                ax.draw_artist(line)
        image = io.BytesIO()
        Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).save(image, "PNG", compress_level=1)
        return image.getvalue()

    def _scale(self) -> None:
        for place, (ax, rounded) in enumerate(zip(self._axes, (_linear_top, _linear_top, _log_top), strict=True)):
            needed = rounded(max(_seen(ax), default=0.0))
            if needed > self._tops[place] or needed * SHRINK < self._tops[place]:
                self._tops[place] = needed
                ax.set_ylim(LEAST_S if rounded is _log_top else 0, needed)
                self._background = None


def duration(seconds: float) -> str:
    """Three digits at most, in milliseconds below a second."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def _seen(ax: Axes) -> list[float]:
    values: list[Any] = [line.get_ydata() for line in ax.lines]
    return [value for each in values for value in each if value == value]


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _linear_top(highest: float) -> float:
    """The next 1, 2 or 5 of a decade above it."""
    highest = max(highest * 1.05, 9.0)
    decade = 10.0 ** math.floor(math.log10(highest))
    return next(step * decade for step in (1.0, 2.0, 5.0, 10.0) if step * decade >= highest)


def _log_top(highest: float) -> float:
    return min(LONGEST_S, 10.0 ** max(-1, math.ceil(math.log10(max(highest, LEAST_S)))))
