"""The page of the ingest benchmark."""

from allocator.bench.ingest.measures import TOGETHER
from allocator.bench.ingest.result import ACCEPT_P99_TARGET_S, FILES_TARGET, LARGE_TARGET, Result, ratios
from allocator.bench.page import BARS_TEXT, COLOURS, Bar, Curve, document, figure_of, ratio_figure, share_figure, table


def render(result: Result) -> str:
    """The whole page."""
    colour, other = COLOURS["in process"], COLOURS["Redis"]
    bars = []
    if "files" in result.parts:
        files = result.parts["files"]
        bars.append(Bar("small files, workers at work", colour, ratios(files, "api"), FILES_TARGET))
        bars.append(Bar("small files, without workers", other, ratios(files, "api alone"), FILES_TARGET))
        bars.append(Bar(f"small files, {TOGETHER} in a request", other, ratios(files, "api together"), FILES_TARGET))
    if "large" in result.parts:
        bars.append(Bar("one large file", colour, ratios(result.parts["large"], "api"), LARGE_TARGET))
    curves = []
    if "accept" in result.parts:
        seconds = result.parts["accept"].seconds
        for label, arm, of, dashes in (("the API", "api", colour, "-"), ("bare work", "bare", other, "--")):
            curves.append(Curve(label, of, dashes, [value for values in seconds[arm] for value in values]))
    accept = ""
    if curves:
        axis = "from the intended instant to the answer, milliseconds"
        text = "Share of payloads accepted within a time, over all rounds. The dotted line is the target for p99."
        accept = figure_of(share_figure(curves, axis, [ACCEPT_P99_TARGET_S * 1e3], "share of the payloads"), text)
    sections = f"""<h2>Beside the bare work</h2>
{figure_of(ratio_figure(bars, "rate of the API / rate of the bare work"), BARS_TEXT + "The bare work is at 1.")}
<h2>How soon it is accepted</h2>
{accept or "<p class=soft>Not measured in this run.</p>"}
<h2>All figures</h2>
{table(result.rows())}"""
    lead = """each part in turns with the bare work on the same disk; medians of the rounds, and in brackets the least
and the greatest. Server, workers and clients share the cores of one machine. On a shared machine rates come and go
together: trust the ratios."""
    return document("Ingest benchmark", "What taking files in costs", result.rows(), result, lead, sections)
