"""
How figures look, in notebooks and on the page: one style, and one look for each backend everywhere.

Colours are Okabe and Ito's, told apart by most eyes, and each goes with a marker and a dash pattern, so that nothing
depends on colour alone. A figure is as wide as a phone; on a larger screen it grows or stands beside another.
"""

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from matplotlib.ticker import LogLocator, NullFormatter

BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7"

INK = "#6e7781"
"""Of axes and text. On the page it becomes the colour of the text around the figure, light or dark."""

HEAT = "cividis"
"""The map for heatmaps: rises in lightness, and looks the same to those who see few colours."""

WIDTH_IN, HEIGHT_IN = 5.4, 3.3

RC: dict[Any, Any] = {
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.prop_cycle": cycler(
        color=[BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE],
        linestyle=["-", "--", "-.", ":", "-", "--"],
        marker=["o", "s", "^", "D", "v", "P"],
    ),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 12,
    "figure.constrained_layout.use": True,
    "figure.figsize": (WIDTH_IN, HEIGHT_IN),
    "font.size": 11.5,
    "grid.alpha": 0.25,
    "grid.color": INK,
    "legend.fontsize": 10.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "svg.fonttype": "none",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


@dataclass(frozen=True)
class Look:
    """How one series is drawn, and what it is called."""

    label: str
    colour: str
    marker: str
    dashes: str


LOOKS = {
    "memory": Look("in process", BLUE, "o", "-"),
    "redis": Look("Redis", VERMILION, "s", "--"),
    "postgres": Look("PostgreSQL", GREEN, "^", "-."),
}
"""By the backend's name, as runs have it."""


def line(backend: str) -> dict[str, Any]:
    """Keyword arguments of `Axes.plot` for a backend's series, its label included."""
    look = LOOKS.get(backend, Look(backend, PURPLE, "P", ":"))
    return {"color": look.colour, "marker": look.marker, "linestyle": look.dashes, "label": look.label}


def use() -> None:
    """For a notebook: everything that is drawn from now on has this style."""
    mpl.rcParams.update(RC)


@contextmanager
def styled() -> Iterator[None]:
    """For a program: what is drawn within has this style, and what comes after does not."""
    with mpl.rc_context(RC):
        yield


def new_figure(rows: int = 1, *, height_in: float = HEIGHT_IN) -> tuple[Figure, Any]:
    """
    A figure of the page, outside of pyplot, which would keep it.

    Returns:
        The figure and its axes; an array of axes that share their x axis where there are several rows.
    """
    with styled():
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        axes = figure.subplots(rows, 1, sharex=True)
    return figure, axes


_numbers = count(1)


def svg(figure: Figure, alt: str) -> str:
    """
    A figure as part of a page.

    Args:
        alt: What it shows, in a sentence with its figures, for those who do not see it.
    """
    buffer = io.StringIO()
    with mpl.rc_context(RC | {"svg.hashsalt": "allocator"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    # Ids are unique on a page, whose figures all number their parts from 1.
    own = f"g{next(_numbers)}-"
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{own}", text)
    text = re.sub(re.escape(INK), "currentColor", text, flags=re.IGNORECASE)
    text = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" ROLE>', text, count=1)
    return text.replace("ROLE", f'role="img" aria-label="{html.escape(alt, quote=True)}"', 1)


def few_log_ticks(axes: Axes) -> None:
    """Of a logarithmic y axis: 1, 2 and 5 of each decade have a number, and no others."""
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_formatter(NullFormatter())
