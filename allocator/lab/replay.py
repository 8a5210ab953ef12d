"""What was done in a session, as a workload that `allocator bench run` replays, and what of it no workload can say."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from allocator.bench.errors import InvalidWorkload
from allocator.bench.workload import Workload
from allocator.lab.log import Action, Log
from allocator.lab.settings import BURST_S, Settings

SHORTEST_S = 1.0
DRAIN_S = 60.0
RATE_FIELDS = ("arrivals", "rate_per_s")
"""Of the settings: those that may change in a run."""


def settings_workload(settings: Settings, duration_s: float, workers: int) -> Workload:
    """
    The workload of these settings, as they are.

    Raises:
        InvalidWorkload: They are out of range, or nothing arrives.
    """
    if not settings.rate_per_s:
        raise InvalidWorkload("arrival", "the rate is 0, so that no job would arrive; raise it")
    return settings.workload(duration_s, workers=_workers(workers), drain_s=DRAIN_S, description="The lab's settings.")


def replayed(log: Log, until_s: float | None = None) -> Workload:
    """
    The workload that does what was done: arrivals follow the rates that were set, faults are made at their instants.

    Rates become the model that they are where nothing changed, else `steps`. Whatever else of the load was changed is
    replayed as it was at the end; see `left_out`.

    Args:
        until_s: Of the session; None: until now.
    Raises:
        InvalidWorkload: The rate was 0 all the while.
    """
    end_s = round(max(SHORTEST_S, log.now_s if until_s is None else until_s), 2)
    periods = _periods(log)
    if not any(settings.rate_per_s for _, settings in periods):
        raise InvalidWorkload("arrival", "the rate was 0 all the while, so that there is nothing to replay; raise it")
    last = msgspec.structs.replace(periods[-1][1], rate_per_s=periods[-1][1].rate_per_s or 1.0)
    return last.workload(
        end_s,
        arrival=_arrival(periods, end_s),
        workers=_workers(log.workers),
        faults=sorted(_faults(log.actions, end_s, log.workers), key=lambda fault: float(fault["at_s"])),
        drain_s=DRAIN_S,
        description="What was done by hand in the lab.",
    )


def left_out(log: Log) -> list[str]:
    """What was done and is not in the workload, a sentence each."""
    kinds = {
        "add": "the number of workers is the one at the start",
        "remove": "the number of workers is the one at the start",
        "put back": "no dead letters are put back",
        "purged": "no dead letters are purged",
    }
    told = [f"{each.at_s:.1f} s: {each.told}; {kinds[each.kind]}" for each in log.actions if each.kind in kinds]
    periods = _periods(log)
    for (_, before), (at_s, after) in pairwise(periods):
        if names := [name for name in after.changed_since(before) if name not in RATE_FIELDS]:
            told.append(f"{at_s:.1f} s: {', '.join(names)} changed; the last value holds for all of the run")
    if len(_models(periods)) > 1 and any(settings.arrivals == "constant" for _, settings in periods):
        told.append("arrivals that were evenly spaced: at a rate that changes they come at random")
    return told


def written(workload: Workload, left: Sequence[str] = ()) -> str:
    """As YAML, with what was left out in comments."""
    comments = "".join(f"# Not replayed: {text}\n" for text in left)
    return comments + workload.to_yaml()


def _workers(count: int) -> dict[str, Any]:
    # As in the lab: a process each, with one job at a time.
    return {"count": 1, "kind": "threads", "supervisors": max(1, count)}


def _periods(log: Log) -> list[tuple[float, Settings]]:
    """Since when which settings held."""
    changes = [(action.at_s, action.settings) for action in log.actions if action.settings is not None]
    return [(0.0, log.settings), *changes]


def _models(periods: Sequence[tuple[float, Settings]]) -> set[tuple[str, float]]:
    """How jobs arrived at some time."""
    return {(settings.arrivals, settings.rate_per_s) for _, settings in periods}


def _arrival(periods: Sequence[tuple[float, Settings]], end_s: float) -> dict[str, Any]:
    if len(_models(periods)) == 1:
        return periods[0][1].arrival()
    ends = [*(at_s for at_s, _ in periods[1:]), end_s]
    rates: list[dict[str, float]] = []
    for (began_s, settings), ended_s in zip(periods, ends, strict=True):
        for at_s, rate in _rates(settings, began_s, ended_s):
            if rates and rates[-1]["at_s"] == round(at_s, 3):
                rates.pop()
            rates.append({"at_s": round(at_s, 3), "rate_per_s": rate})
    return {"model": "steps", "rates": rates}


def _rates(settings: Settings, began_s: float, ended_s: float) -> Iterator[tuple[float, float]]:
    """From when on which rate, within a period; bursts one by one."""
    if settings.arrivals != "onoff" or not settings.rate_per_s:
        yield began_s, settings.rate_per_s
        return
    model = settings.arrival()
    at_s, burst = began_s, True
    while at_s < ended_s:
        yield at_s, model["on_rate_per_s" if burst else "off_rate_per_s"]
        at_s, burst = at_s + BURST_S, not burst


def _faults(actions: Sequence[Action], end_s: float, workers: int) -> Iterator[dict[str, Any]]:
    paused: dict[int | None, float] = {}
    """Since when who is paused: a worker by its number, the server as None."""

    def pause(number: int | None, until_s: float) -> Iterator[dict[str, Any]]:
        if (since_s := paused.pop(number, None)) is not None:
            where = {"kind": "pause_server"} if number is None else {"kind": "pause_worker", **_number(number, workers)}
            yield {**where, "at_s": round(since_s, 3), "seconds": round(max(0.001, until_s - since_s), 3)}

    for action in actions:
        match action.kind:
            case "pause":
                paused.setdefault(action.number, action.at_s)
            case "pause server":
                paused.setdefault(None, action.at_s)
            case "resume" | "remove":
                yield from pause(action.number, action.at_s)
            case "resume server":
                yield from pause(None, action.at_s)
            case "kill":
                yield from pause(action.number, action.at_s)
                yield {"kind": "kill_worker", "at_s": round(action.at_s, 3), **_number(action.number, workers)}
            case "restart server":
                yield from pause(None, action.at_s)
                yield {"kind": "restart_server", "at_s": round(action.at_s, 3)}
            case "flushall":
                yield {"kind": "flushall", "at_s": round(action.at_s, 3)}
    for number in list(paused):
        yield from pause(number, end_s)


def _number(number: int | None, workers: int) -> dict[str, int]:
    """Of those that there were at the start; another is drawn for one that was added later."""
    return {"number": number} if number is not None and number < workers else {}
