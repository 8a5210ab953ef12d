"""What the benchmarks' pages share: one file, nothing loaded from anywhere, readable without JavaScript."""

import io
import statistics
from collections.abc import Sequence
from html import escape
from typing import Literal, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

from allocator.bench.result import Row, Run

# Okabe and Ito's colours, told apart by most eyes; with a shape each, so that none depends on colour.
COLOURS = {"in process": "#0072B2", "Redis": "#D55E00", "PostgreSQL": "#009E73"}
# Legible on a white and on a nearly black page.
INK = "#7d8590"

STYLE = """
:root{color-scheme:light dark;--ink:#1c2128;--soft:#57606a;--line:#d0d7de;--page:#fff;--good:#1a7f37;--bad:#cf222e}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9198a1;--line:#3d444d;--page:#0d1117;--good:#3fb950;
--bad:#ff7b72}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:68rem;padding:2rem 1rem 4rem;background:var(--page);color:var(--ink);
font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .4rem}h2{font-size:1.2rem;margin:2.4rem 0 .6rem}
.lead{font-size:1.1rem;max-width:46rem}.soft{color:var(--soft)}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;padding:.45rem .7rem .45rem 0;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;color:var(--soft)}td.n{white-space:nowrap;font-variant-numeric:tabular-nums}
.yes{color:var(--good);font-weight:600;white-space:nowrap}.no{color:var(--bad);font-weight:600;white-space:nowrap}
figure{margin:1rem 0}figure svg{width:100%;min-width:34rem;max-width:46rem;height:auto}
figcaption{color:var(--soft);font-size:.9rem}
code{font-size:.9em}
@media print{body{max-width:none;padding:0}h2{break-after:avoid}tr,figure{break-inside:avoid}}
"""


def document(title: str, heading: str, rows: Sequence[Row], run: Run, lead: str, sections: str) -> str:
    """The whole page: the verdict on `rows`, how it was measured, `sections`, what was not measured, the machine."""
    with_target = [row for row in rows if row.reached is not None]
    missed = [row for row in with_target if not row.reached]
    provenance = "".join(
        f"<tr><th scope=row>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in run.fingerprint.items()
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{escape(title)}: {len(with_target) - len(missed)} of {len(with_target)} targets reached</title>
<style>{STYLE}</style></head><body>
<main>
<h1>{escape(heading)}</h1>
{_verdict(with_target, missed, run)}
<p class="soft">Measured {escape(run.started_at)} by <code>{escape(run.command)}</code>, {lead}</p>
{sections}
{_not_measured(run)}
<h2>Machine and versions</h2>
<div class="scroll"><table>{provenance}</table></div>
</main></body></html>
"""


def _verdict(with_target: list[Row], missed: list[Row], run: Run) -> str:
    text = f"{len(with_target) - len(missed)} of {len(with_target)} targets were reached in this run."
    if run.not_measured:
        text += f" {len(run.not_measured)} parts were not measured; they are listed below."
    if run.quick:
        text += " This was a quick run: small counts, for a look, not for a claim."
    if not missed:
        return f'<p class="lead">{escape(text)}</p>'
    items = "".join(
        f"<li>{escape(row.backend)}, {escape(row.operation)}: {escape(row.value)}"
        + (f", ratio {escape(row.ratio)}" if row.ratio else "")
        + f"; target {escape(row.target)}</li>"
        for row in missed
    )
    return f'<p class="lead">{escape(text)} Missed:</p><ul>{items}</ul>'


def _not_measured(run: Run) -> str:
    if not run.not_measured:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in run.not_measured)
    return f"<h2>Not measured</h2><ul>{items}</ul>"


def table(rows: Sequence[Row], *, with_load: bool = False) -> str:
    """The rows; `with_load` also says how many rounds they had, and how busy the machine was before."""
    if not rows:
        return "<p class=soft>Not measured in this run.</p>"
    headings = ["Backend", "Operation", "Measured", "Beside it", "Ratio", "Target"]
    if with_load:
        headings += ["Rounds", "Load before"]
    head = "".join(f"<th scope=col>{name}</th>" for name in headings)
    body = "".join(
        f"<tr><td>{escape(row.backend)}</td><td>{escape(row.operation)}</td><td class=n>{escape(row.value)}</td>"
        f"<td>{escape(row.beside)}</td><td class=n>{escape(row.ratio)}</td><td>{_target(row)}</td>"
        + (f"<td class=n>{row.rounds}</td><td>{escape(row.load)}</td>" if with_load else "")
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _target(row: Row) -> str:
    if row.reached is None:
        return f"{escape(row.target)}<br>undecided" if row.target else '<span class="soft">reported</span>'
    mark = '<span class="yes">✓ reached</span>' if row.reached else '<span class="no">✗ missed</span>'
    return f"{escape(row.target)}<br>{mark}"


def figure_of(figure: Figure | None, text: str) -> str:
    """A figure as part of the page, `text` below it and for those who do not see it."""
    if figure is None:
        return ""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "allocator"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{escape(text, quote=True)}"', 1)
    return f"<figure><div class=scroll>{svg}</div><figcaption>{escape(text)}</figcaption></figure>"


def axes_of(figure: Figure) -> "mpl.axes.Axes":
    """Axes that can be read on a light and on a dark page."""
    axes: mpl.axes.Axes = figure.add_subplot()
    axes.tick_params(colors=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    return axes


class Bar(NamedTuple):
    """A ratio to draw: its rounds, and the target if there is one."""

    label: str
    colour: str
    ratios: Sequence[float]
    target: float | None


BARS_TEXT = "Bars: median; thin lines: least to greatest round; upright marks: the target. "


def ratio_figure(bars: Sequence[Bar], axis: str) -> Figure | None:
    """Ratios as bars, from above; the limit is the dotted line at 1."""
    if not bars:
        return None
    figure = Figure(figsize=(8, 0.75 + 0.55 * len(bars)), layout="constrained")
    axes = axes_of(figure)
    for place, bar in enumerate(reversed(bars)):
        median = statistics.median(bar.ratios)
        axes.barh(place, median, height=0.55, color=bar.colour)
        axes.plot([min(bar.ratios), max(bar.ratios)], [place, place], color=INK, linewidth=1.5)
        if bar.target is not None:
            axes.plot([bar.target, bar.target], [place - 0.4, place + 0.4], color=INK, linewidth=2.5)
        axes.text(max(bar.ratios) + 0.015, place, f"{median:.2f}", va="center", color=INK)
    axes.set_yticks(range(len(bars)), [bar.label for bar in reversed(bars)])
    axes.axvline(1.0, color=INK, linewidth=0.8, linestyle=":")
    axes.set_xlim(0, max(1.05, *(max(bar.ratios) + 0.12 for bar in bars)))
    axes.set_xlabel(axis)
    return figure


class Curve(NamedTuple):
    """Values to draw as a line."""

    label: str
    colour: str
    dashes: str
    values: Sequence[float]


def share_figure(
    curves: Sequence[Curve], axis: str, targets_ms: Sequence[float], share: str = "share of the jobs"
) -> Figure:
    """For each curve, in seconds, the share of its values within a time; targets are dotted lines."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = axes_of(figure)
    for curve in curves:
        ordered = sorted(curve.values)
        shares = [(index + 1) / len(ordered) for index in range(len(ordered))]
        axes.step([value * 1e3 for value in ordered], shares, curve.dashes, where="post", label=curve.label,
                  color=curve.colour, linewidth=2)  # fmt: skip
    for target in targets_ms:
        axes.axvline(target, color=INK, linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(axis)
    axes.set_ylabel(share)
    legend(axes, "lower right")
    return figure


def legend(axes: "mpl.axes.Axes", place: Literal["lower right", "upper left"]) -> None:
    """In the ink of the page."""
    for text in axes.legend(frameon=False, loc=place).get_texts():
        text.set_color(INK)
