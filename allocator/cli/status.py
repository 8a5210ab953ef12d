"""`allocator status`."""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from typer.core import TyperCommand

from allocator.cli.opening import RECONNECT_S, open_named, open_record
from allocator.cli.options import AsJson, QueueName, QueueUrl, StoreUrl, settings, utc
from allocator.cli.showing import shown
from allocator.domain.errors import AllocatorError
from allocator.queue.base import Queue

if TYPE_CHECKING:
    from allocator.persistence import Store


class StatusCommand(TyperCommand):
    """`--watch` may stand without its number, for which options have no form of their own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for place, word in enumerate(args):
            if word == "--watch" and (place + 1 == len(args) or args[place + 1].startswith("-")):
                args = [*args[: place + 1], "1", *args[place + 1 :]]
        return super().parse_args(ctx, args)


def status(
    queue: QueueUrl = settings.queue_url,
    name: QueueName = settings.queue_name,
    store: StoreUrl = settings.store_url,
    watch: Annotated[
        float | None, typer.Option("--watch", metavar="[S]", min=0.1, help="Look again every S seconds (1).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """
    How many jobs are in which state; with `--store`, also by the store.

    `--watch` goes on until Ctrl-C, with rates since the last look, also while the server is gone; with `--json` each
    look is one line.

    Examples: `allocator status`, `allocator status --watch`,
    `allocator status -q postgresql://me@db/jobs -n media --json`
    """
    with ExitStack() as stack:
        bound = {} if watch is None else {"reconnect_s": RECONNECT_S}
        opened = stack.enter_context(open_named(queue, name, **bound))
        record = None if store is None else stack.enter_context(open_record(store))
        if watch is not None:
            _watch(opened, record, watch, as_json)
            return
        look = _look(opened, record)
    if as_json:
        print(json.dumps({"queue": name, **look.as_dict()}))
    else:
        Console().print(_status_table(name, look))


class _Look(NamedTuple):
    """What was seen; `at` on the monotonic clock, counts by state."""

    at: float
    counts: Mapping[str, int]
    stored: Mapping[str, int] | None

    def as_dict(self) -> dict[str, Any]:
        return dict(self.counts) if self.stored is None else {**self.counts, "store": dict(self.stored)}

    def rates_since(self, before: "_Look | None") -> dict[str, float | None]:
        """Per second; None without a look before, or where the queue was emptied in between."""
        if before is None:
            return {"done_per_s": None, "arrivals_per_s": None}
        seconds = self.at - before.at
        # Every job that was ever accepted is in exactly one of the counts.
        found = {
            "done_per_s": self.counts["done"] - before.counts["done"],
            "arrivals_per_s": sum(self.counts.values()) - sum(before.counts.values()),
        }
        return {name: count / seconds if count >= 0 else None for name, count in found.items()}


def _look(queue: Queue, store: "Store | None") -> _Look:
    counts = queue.counts()
    return _Look(time.monotonic(), counts, None if store is None else store.counts(queue.identity))


def _watch(queue: Queue, store: "Store | None", interval_s: float, as_json: bool) -> None:
    """Look and tell until Ctrl-C. What goes wrong in between is told as well, and then looked again."""
    console = Console()
    try:
        with ExitStack() as stack:
            show: Callable[[RenderableType], None] = console.print
            if console.is_terminal and not as_json:
                show = partial(stack.enter_context(Live(console=console, auto_refresh=False)).update, refresh=True)
            before: _Look | None = None
            table: RenderableType = ""
            while True:
                began = time.monotonic()
                try:
                    look = _look(queue, store)
                except AllocatorError as error:
                    told: dict[str, Any] = {"error": str(error)}
                    view: RenderableType = Group(table, shown(f"{utc(time.time())} UTC: {error}", style="bold red"))
                else:
                    rates = look.rates_since(before)
                    told = {**look.as_dict(), **rates}
                    view = table = _status_table(queue.name, look, rates)
                    before = look
                if as_json:
                    print(json.dumps({"queue": queue.name, "at": time.time(), **told}), flush=True)
                else:
                    show(view)
                time.sleep(max(0.0, interval_s - (time.monotonic() - began)))
    except KeyboardInterrupt:
        return


def _status_table(name: str, look: _Look, rates: Mapping[str, float | None] | None = None) -> Table:
    table = Table(title=f"queue {name}")
    table.add_column("state")
    table.add_column("jobs", justify="right")
    for state in ("ready", "scheduled", "leased", "dead"):
        table.add_row(state, f"{look.counts[state]:,}")
    table.add_section()
    for state in ("done", "cancelled", "purged"):
        table.add_row(f"{state} since it began", f"{look.counts[state]:,}")
    if rates is not None:
        table.add_section()
        for rate, label in (("arrivals_per_s", "arrivals per second"), ("done_per_s", "done per second")):
            value = rates[rate]
            table.add_row(label, "" if value is None else f"{value:,.1f}")
    if look.stored is not None:
        table.add_section()
        for state, count in look.stored.items():
            table.add_row(f"{state} in the store", f"{count:,}")
    return table
