"""The page of the queue benchmark."""

import statistics

from allocator.bench.page import BARS_TEXT, COLOURS, Bar, Curve, document, figure_of, ratio_figure, share_figure, table
from allocator.bench.queue.measures import Measure
from allocator.bench.queue.pickup import Pickup
from allocator.bench.queue.result import REDIS_PICKUP_P99_TARGET_S, Result


def render(result: Result) -> str:
    """The whole page."""
    rows = result.rows()
    measures = [measure for measure in result.measures if not measure.target_is_rate]
    bars = [Bar(f"{m.backend}: {m.operation}", COLOURS[m.backend], m.ratios, m.target) for m in measures]
    curves = [
        Curve(pickup.backend, COLOURS[pickup.backend], dashes, pickup.pickup_s)
        for pickup, dashes in zip(result.pickups, ("-", "--", "-."), strict=False)
    ]
    axis = "from the call of enqueue to the return of dequeue, milliseconds"
    pickup_figure = share_figure(curves, axis, [REDIS_PICKUP_P99_TARGET_S * 1e3])
    sections = f"""<h2>Throughput beside the limit</h2>
{figure_of(ratio_figure(bars, "rate of the queue / rate of the bare limit"), _ratio_text(measures))}
{table([row for row in rows if row.value.endswith("/s")])}
<h2>Idle pickup</h2>
{figure_of(pickup_figure, _pickup_text(result.pickups)) if result.pickups else ""}
{table([row for row in rows if "pickup" in row.operation or "blocked" in row.operation])}
<h2>A large backlog</h2>
{table([row for row in rows if "backlog" in row.operation or "waiting job" in row.operation])}"""
    lead = f"""in {result.rounds} rounds,
each operation in turn with the bare limit of its backend; medians, and in brackets the least and the greatest round.
On a shared machine rates come and go together: trust the ratios."""
    return document("Queue benchmark", "What the queue costs", rows, result, lead, sections)


def _ratio_text(measures: list[Measure]) -> str:
    parts = [
        f"{measure.backend}, {measure.operation}: {statistics.median(measure.ratios):.2f} of {measure.limit_name}"
        for measure in measures
    ]
    return BARS_TEXT + "; ".join(parts) + "."


def _pickup_text(pickups: list[Pickup]) -> str:
    parts = [
        f"{pickup.backend}: half within {statistics.median(pickup.pickup_s) * 1e3:.2f} ms, "
        f"the slowest {max(pickup.pickup_s) * 1e3:.1f} ms"
        for pickup in pickups
    ]
    return "Share of jobs picked up by a waiting process within a time. " + "; ".join(parts) + "."
