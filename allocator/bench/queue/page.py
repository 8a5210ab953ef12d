"""The page of the queue benchmark: one file, nothing loaded from anywhere, readable without JavaScript."""

import io
import statistics
from html import escape

import matplotlib as mpl
from matplotlib.figure import Figure

from allocator.bench.queue.pickup import Pickup
from allocator.bench.queue.result import REDIS_PICKUP_P99_TARGET_S, Result, Row

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


def render(result: Result) -> str:
    """The whole page."""
    rows = result.rows()
    with_target = [row for row in rows if row.reached is not None]
    missed = [row for row in with_target if not row.reached]
    rounds = result.rounds
    provenance = "".join(
        f"<tr><th scope=row>{escape(key)}</th><td>{escape(value)}</td></tr>"
        for key, value in result.fingerprint.items()
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Queue benchmark: {len(with_target) - len(missed)} of {len(with_target)} targets reached</title>
<style>{STYLE}</style></head><body>
<main>
<h1>What the queue costs</h1>
{_verdict(with_target, missed, result)}
<p class="soft">Measured {escape(result.started_at)} by <code>{escape(result.command)}</code>, in {rounds} rounds,
each operation in turn with the bare limit of its backend; medians, and in brackets the least and the greatest round.
On a shared machine rates come and go together: trust the ratios.</p>
<h2>Throughput beside the limit</h2>
{_figure(_ratio_figure(result), _ratio_text(result))}
{_table([row for row in rows if row.value.endswith("/s")])}
<h2>Idle pickup</h2>
{_figure(_pickup_figure(result.pickups), _pickup_text(result.pickups)) if result.pickups else ""}
{_table([row for row in rows if "pickup" in row.operation or "blocked" in row.operation])}
<h2>A large backlog</h2>
{_table([row for row in rows if "backlog" in row.operation or "waiting job" in row.operation])}
{_not_measured(result)}
<h2>Machine and versions</h2>
<div class="scroll"><table>{provenance}</table></div>
</main></body></html>
"""


def _verdict(with_target: list[Row], missed: list[Row], result: Result) -> str:
    text = f"{len(with_target) - len(missed)} of {len(with_target)} targets were reached in this run."
    if result.not_measured:
        text += f" {len(result.not_measured)} parts were not measured; they are listed below."
    if result.quick:
        text += " This was a quick run: small counts, for a look, not for a claim."
    if not missed:
        return f'<p class="lead">{escape(text)}</p>'
    items = "".join(
        f"<li>{escape(row.backend)}, {escape(row.operation)}: {escape(row.ratio or row.value)}, target "
        f"{escape(row.target)}</li>"
        for row in missed
    )
    return f'<p class="lead">{escape(text)} Missed:</p><ul>{items}</ul>'


def _not_measured(result: Result) -> str:
    if not result.not_measured:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in result.not_measured)
    return f"<h2>Not measured</h2><ul>{items}</ul>"


def _table(rows: list[Row]) -> str:
    if not rows:
        return "<p class=soft>Not measured in this run.</p>"
    head = "".join(
        f"<th scope=col>{name}</th>" for name in ("Backend", "Operation", "Measured", "Beside it", "Ratio", "Target")
    )
    body = "".join(
        f"<tr><td>{escape(row.backend)}</td><td>{escape(row.operation)}</td><td class=n>{escape(row.value)}</td>"
        f"<td>{escape(row.beside)}</td><td class=n>{escape(row.ratio)}</td><td>{_target(row)}</td></tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _target(row: Row) -> str:
    if row.reached is None:
        return '<span class="soft">reported</span>'
    mark = '<span class="yes">✓ reached</span>' if row.reached else '<span class="no">✗ missed</span>'
    return f"{escape(row.target)}<br>{mark}"


def _figure(figure: Figure | None, text: str) -> str:
    if figure is None:
        return ""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "allocator"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{escape(text, quote=True)}"', 1)
    return f"<figure><div class=scroll>{svg}</div><figcaption>{escape(text)}</figcaption></figure>"


def _axes_of(figure: Figure) -> "mpl.axes.Axes":
    axes: mpl.axes.Axes = figure.add_subplot()
    axes.tick_params(colors=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    return axes


def _ratio_figure(result: Result) -> Figure | None:
    measures = [measure for measure in result.measures if not measure.target_is_rate]
    if not measures:
        return None
    figure = Figure(figsize=(8, 0.75 + 0.55 * len(measures)), layout="constrained")
    axes = _axes_of(figure)
    for place, measure in enumerate(reversed(measures)):
        median, colour = statistics.median(measure.ratios), COLOURS[measure.backend]
        axes.barh(place, median, height=0.55, color=colour)
        axes.plot([min(measure.ratios), max(measure.ratios)], [place, place], color=INK, linewidth=1.5)
        if measure.target is not None:
            axes.plot([measure.target, measure.target], [place - 0.4, place + 0.4], color=INK, linewidth=2.5)
        axes.text(max(measure.ratios) + 0.015, place, f"{median:.2f}", va="center", color=INK)
    axes.set_yticks(range(len(measures)), [f"{m.backend}: {m.operation}" for m in reversed(measures)])
    axes.axvline(1.0, color=INK, linewidth=0.8, linestyle=":")
    axes.set_xlim(0, max(1.05, *(max(measure.ratios) + 0.12 for measure in measures)))
    axes.set_xlabel("rate of the queue / rate of the bare limit")
    return figure


def _ratio_text(result: Result) -> str:
    parts = [
        f"{measure.backend}, {measure.operation}: {statistics.median(measure.ratios):.2f} of {measure.limit_name}"
        for measure in result.measures
        if not measure.target_is_rate
    ]
    return "Bars: median; thin lines: least to greatest round; upright marks: the target. " + "; ".join(parts) + "."


def _pickup_figure(pickups: list[Pickup]) -> Figure:
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = _axes_of(figure)
    for pickup, dashes in zip(pickups, ("-", "--", "-."), strict=False):
        ordered = sorted(pickup.pickup_s)
        shares = [(index + 1) / len(ordered) for index in range(len(ordered))]
        axes.step([value * 1e3 for value in ordered], shares, dashes, where="post", label=pickup.backend,
                  color=COLOURS[pickup.backend], linewidth=2)  # fmt: skip
    axes.axvline(REDIS_PICKUP_P99_TARGET_S * 1e3, color=INK, linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("from the call of enqueue to the return of dequeue, milliseconds")
    axes.set_ylabel("share of the jobs")
    legend = axes.legend(frameon=False, loc="lower right")
    for text in legend.get_texts():
        text.set_color(INK)
    return figure


def _pickup_text(pickups: list[Pickup]) -> str:
    parts = [
        f"{pickup.backend}: half within {statistics.median(pickup.pickup_s) * 1e3:.2f} ms, "
        f"the slowest {max(pickup.pickup_s) * 1e3:.1f} ms"
        for pickup in pickups
    ]
    return "Share of jobs picked up by a waiting process within a time. " + "; ".join(parts) + "."
