"""The page of the supervisor benchmark."""

from matplotlib.figure import Figure

from allocator.bench.page import (
    BARS_TEXT,
    COLOURS,
    Bar,
    Curve,
    axes_of,
    document,
    figure_of,
    legend,
    ratio_figure,
    share_figure,
    table,
)
from allocator.bench.result import quantile
from allocator.bench.supervisor.plan import Group
from allocator.bench.supervisor.result import (
    BARE_TARGETS,
    PICKUP_P99_TARGETS_S,
    PROCESSES_TARGET,
    STEADY_P99_TARGET_S,
    STORE_TARGETS,
    Result,
    growth,
    ratios,
    singles,
)


def render(result: Result) -> str:
    """The whole page."""
    groups = [group for group in result.groups if group.figures]
    bars = [bar for group in groups for bar in _bars(group)]
    lead = """each program in an interpreter of its own, in turns with its limit; medians of
the rounds, and in brackets the least and the greatest. “Load before” is the load average of the last minute, which
this benchmark raises too, and what share of all cores others used in the moment before. On a shared machine rates come
and go together: trust the ratios."""
    sections = f"""<h2>Throughput</h2>
{figure_of(ratio_figure(bars, "rate / rate of what it is measured beside"), BARS_TEXT + "The limit is at 1.")}
{table(result.rows("drain", "processes"), with_load=True)}
<h2>How soon a job starts</h2>
{_pickups([group for group in groups if group.part == "pickup"], "when there was nothing to do")}
{_pickups([group for group in groups if group.part == "steady"], "at 500 jobs a second")}
{table(result.rows("pickup", "steady"), with_load=True)}
<h2>Idle</h2>
{table(result.rows("idle"), with_load=True)}
<h2>Memory</h2>
{_memory([group for group in groups if group.part == "memory"])}
{table(result.rows("memory"), with_load=True)}
<h2>A large store</h2>
{table(result.rows("records"), with_load=True)}"""
    return document("Supervisor benchmark", "What the supervisor costs", result.rows(), result, lead, sections)


def _bars(group: Group) -> list[Bar]:
    if group.part not in ("drain", "processes"):
        return []
    colour = COLOURS[group.backend]
    if group.part == "processes":
        gained = ratios(singles(group, "both", "processes"), singles(group, "both", "workers"))
        return [Bar("processes=2 to workers=2", colour, gained, PROCESSES_TARGET)]
    alone = singles(group, "alone", "rate")
    bars = [
        Bar(
            f"{group.backend}: drain to bare loop",
            colour,
            ratios(alone, singles(group, "bare", "rate")),
            BARE_TARGETS.get(group.backend),
        )
    ]
    for store in group.arms:
        if store not in ("bare", "alone"):
            stored = ratios(singles(group, store, "rate"), alone)
            label = f"{group.backend}: store on {store} to none"
            bars.append(Bar(label, colour, stored, STORE_TARGETS.get((group.backend, store))))
    return bars


def _pickups(groups: list[Group], when: str) -> str:
    if not groups:
        return ""
    is_steady = groups[0].part == "steady"
    name = "from_intended" if is_steady else "from_sent"
    targets_s = [STEADY_P99_TARGET_S] if is_steady else [PICKUP_P99_TARGETS_S[group.backend] for group in groups]
    curves, told = [], []
    for group in groups:
        for arm, dashes in (("supervisor", "-"), ("bare", ":")):
            values = [value for figures in group.figures[arm] for value in figures[name]]
            curves.append(Curve(f"{group.backend}, {arm}", COLOURS[group.backend], dashes, values))
            told.append(f"{group.backend}, {arm}: half within {quantile(values, 0.5) * 1e3:.2f} ms")
    start = "the intended time" if is_steady else "the call of enqueue"
    figure = share_figure(
        curves, f"from {start} to the first line of the processor, milliseconds", [target * 1e3 for target in targets_s]
    )
    return figure_of(figure, f"Share of the jobs that were started within a time, {when}. " + "; ".join(told) + ".")


def _memory(groups: list[Group]) -> str:
    if not groups:
        return ""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = axes_of(figure)
    told = []
    for group in groups:
        for arm, dashes in (("supervisor", "-"), ("bare", ":")):
            figures = group.figures[arm][0]
            sizes = [size / 2**20 for size in figures["rss"]]
            label = f"{group.backend}, {arm}"
            axes.plot(figures["jobs"], sizes, dashes, color=COLOURS[group.backend], linewidth=2, label=label)
            grown, jobs = growth(figures)
            told.append(f"{label}: {sizes[-1]:.0f} MiB at the end, {grown / 2**20:+.1f} MiB over the last {jobs:,.0f}")
    axes.set_ylim(0)
    axes.set_xlabel("jobs done")
    axes.set_ylabel("resident memory, MiB")
    legend(axes, "lower right")
    return figure_of(figure, "Resident memory while jobs come in waves. " + "; ".join(told) + ".")
