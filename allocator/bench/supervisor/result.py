"""The result of a run: rows for a machine and for a table."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from allocator.bench.result import Row, Run, quantile
from allocator.bench.supervisor.plan import STEADY_PER_S, Group

BARE_TARGETS = {"Redis": 0.4}
RATE_TARGETS = {"in process": 70_000, "Redis": 18_000, "PostgreSQL": 12_000}
STORE_TARGETS = {("Redis", "PostgreSQL"): 0.3, ("PostgreSQL", "PostgreSQL"): 0.3}
STORE_RATE_TARGETS = {("in process", "SQLite"): 8_000}
PICKUP_P99_TARGETS_S = {"in process": 0.0005, "Redis": 0.0015, "PostgreSQL": 0.008}
STEADY_P99_TARGET_S = 0.0015
IDLE_TARGET = 0.02
PROCESSES_TARGET = 1.7
JOB_P99_TARGET_S = 0.005
PAGE_P99_TARGET_S = 0.05

P99_SAMPLES = 1000
"""Fewer of a round say nothing about its hundredth."""

LATE_SHARE = 1.2
"""If the generator's own lateness makes p99 worse than this, it is not the supervisor that was measured."""

WARM_UP_SHARE = 0.2


@dataclass
class Result(Run):
    """Everything that one run measured, and what it did not."""

    groups: list[Group] = field(default_factory=list)
    broken: bool = False
    """Whether a program that measures failed."""

    def rows(self, *parts: str) -> list[Row]:
        """The table, in the order of measuring; of these parts only, if any are named."""
        return [
            row
            for group in self.groups
            if group.figures and (not parts or group.part in parts)
            for row in rows_of(group)
        ]

    def to_json(self) -> bytes:
        """Rows, raw figures of every round in seconds, bytes and jobs a second, and the fingerprint."""
        document: dict[str, Any] = {
            "started_at": self.started_at,
            "command": self.command,
            "rounds": self.rounds,
            "quick": self.quick,
            "fingerprint": self.fingerprint,
            "not_measured": self.not_measured,
            "rows": [asdict(row) for row in self.rows()],
            "groups": [asdict(group) for group in self.groups],
        }
        return msgspec.json.encode(document)


def rows_of(group: Group) -> list[Row]:
    """The lines that a group has in the table."""
    makers: dict[str, Callable[[Group], list[Row]]] = {
        "drain": _drain_rows,
        "pickup": _pickup_rows,
        "steady": _steady_rows,
        "idle": _idle_rows,
        "memory": _memory_rows,
        "processes": _processes_rows,
        "records": _records_rows,
    }
    return makers[group.part](group)


def singles(group: Group, arm: str, name: str) -> list[float]:
    """A figure that is one value a round."""
    return [figures[name][0] for figures in group.figures[arm]]


def ratios(subject: Sequence[float], limit: Sequence[float]) -> list[float]:
    """Round by round; the limit may be next to nothing."""
    return [one / max(other, 1e-9) for one, other in zip(subject, limit, strict=True)]


def growth(figures: dict[str, list[float]]) -> tuple[float, float]:
    """Bytes that the process grew by after its warm-up, the first fifth of the jobs; and over how many jobs."""
    first = max(1, round(WARM_UP_SHARE * (len(figures["rss"]) - 1)))
    return figures["rss"][-1] - figures["rss"][first], figures["jobs"][-1] - figures["jobs"][first]


def _row(
    group: Group, arm: str, operation: str, value: str, beside: str, ratio: str, target: str, reached: bool | None
) -> Row:
    loads = group.loads[arm]
    load, busy = (statistics.median(values) for values in zip(*loads, strict=True))
    text = f"{load:.2f}, {busy:.0%} busy"
    return Row(group.backend, operation, value, beside, ratio, target, reached, len(loads), text)


def _spread(values: Sequence[float]) -> str:
    middle = statistics.median(values)
    return f"{middle:.2f}" if len(values) == 1 else f"{middle:.2f} ({min(values):.2f} to {max(values):.2f})"


def _drain_rows(group: Group) -> list[Row]:
    alone = singles(group, "alone", "rate")
    bare = singles(group, "bare", "rate")
    of_bare = ratios(alone, bare)
    rate, least, rate_least = statistics.median(alone), BARE_TARGETS.get(group.backend), RATE_TARGETS[group.backend]
    rows = [
        _row(
            group,
            "alone",
            "drain, no store",
            f"{rate:,.0f}/s",
            f"dequeue_many(64) + settle: {statistics.median(bare):,.0f}/s",
            _spread(of_bare),
            (f"ratio at least {least:.2f}, " if least else "") + f"at least {rate_least:,}/s",
            rate >= rate_least and (least is None or statistics.median(of_bare) >= least),
        )
    ]
    for store in group.arms:
        if store in ("bare", "alone"):
            continue
        stored = singles(group, store, "rate")
        of_alone = ratios(stored, alone)
        key = (group.backend, store)
        target, reached = "", None
        if key in STORE_TARGETS:
            target = f"ratio at least {STORE_TARGETS[key]:.2f}"
            reached = statistics.median(of_alone) >= STORE_TARGETS[key]
        elif key in STORE_RATE_TARGETS:
            target = f"at least {STORE_RATE_TARGETS[key]:,}/s"
            reached = statistics.median(stored) >= STORE_RATE_TARGETS[key]
        rows.append(
            _row(
                group,
                store,
                f"drain, store on {store}",
                f"{statistics.median(stored):,.0f}/s",
                f"no store: {rate:,.0f}/s",
                _spread(of_alone),
                target,
                reached,
            )
        )
    return rows


def _quantiles_ms(rounds: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    return [quantile(values, 0.5) * 1e3 for values in rounds], [quantile(values, 0.99) * 1e3 for values in rounds]


def _latency_text(rounds: Sequence[Sequence[float]]) -> str:
    p50, p99 = _quantiles_ms(rounds)
    return f"p50 {statistics.median(p50):.2f} ms, p99 {_spread(p99)} ms"


def _latency_row(
    group: Group,
    arm: str,
    operation: str,
    subject: list[list[float]],
    limit: list[list[float]],
    beside: str,
    target_s: float,
) -> Row:
    (_, p99), (_, limit_p99) = _quantiles_ms(subject), _quantiles_ms(limit)
    fewest = min(map(len, subject))
    decided = fewest >= P99_SAMPLES
    return _row(
        group,
        arm,
        f"{operation}, n = {fewest:,}",
        _latency_text(subject),
        beside,
        f"{_spread(ratios(p99, limit_p99))} at p99",
        f"p99 at most {target_s * 1e3:g} ms" + ("" if decided else f", of {P99_SAMPLES:,} or more"),
        statistics.median(p99) <= target_s * 1e3 if decided else None,
    )


def _all(group: Group, arm: str, name: str) -> list[list[float]]:
    return [figures[name] for figures in group.figures[arm]]


def _pickup_rows(group: Group) -> list[Row]:
    bare = _all(group, "bare", "from_sent")
    beside = f"dequeue_many loop: {_latency_text(bare)}"
    target_s = PICKUP_P99_TARGETS_S[group.backend]
    subject = _all(group, "supervisor", "from_sent")
    return [_latency_row(group, "supervisor", "idle pickup", subject, bare, beside, target_s)]


def _steady_rows(group: Group) -> list[Row]:
    subject, bare = _all(group, "supervisor", "from_intended"), _all(group, "bare", "from_intended")
    late = _quantiles_ms(_all(group, "supervisor", "lateness"))[1]
    row = _latency_row(
        group,
        "supervisor",
        f"pickup at {STEADY_PER_S:g} jobs/s, from the intended time",
        subject,
        bare,
        f"dequeue_many loop: {_latency_text(bare)}; generator late by p99 {_spread(late)} ms",
        STEADY_P99_TARGET_S,
    )
    from_sent = statistics.median(_quantiles_ms(_all(group, "supervisor", "from_sent"))[1])
    if row.reached is False and statistics.median(_quantiles_ms(subject)[1]) > LATE_SHARE * from_sent:
        row.reached = None
        row.target += "; the generator was too late to tell"
    return [row]


def _idle_rows(group: Group) -> list[Row]:
    share, bare = singles(group, "supervisor", "share"), singles(group, "bare", "share")
    middle = statistics.median(share)
    return [
        _row(
            group,
            "supervisor",
            "an idle supervisor",
            f"{middle:.2%} of a core",
            f"one blocked client: {statistics.median(bare):.2%}",
            _spread(ratios(share, bare)),
            f"under {IDLE_TARGET:.0%}",
            middle < IDLE_TARGET,
        )
    ]


def _memory_rows(group: Group) -> list[Row]:
    figures, bare = group.figures["supervisor"][0], group.figures["bare"][0]
    grown, jobs = growth(figures)
    bare_grown, _ = growth(bare)
    end, bare_end = figures["rss"][-1], bare["rss"][-1]
    return [
        _row(
            group,
            "supervisor",
            f"memory over {figures['jobs'][-1]:,.0f} jobs",
            f"{end / 2**20:.1f} MiB, {grown / 2**20:+.2f} MiB over the last {jobs:,.0f}",
            f"dequeue_many loop: {bare_end / 2**20:.1f} MiB, {bare_grown / 2**20:+.2f} MiB",
            _spread([end / bare_end]),
            "",
            None,
        )
    ]


def _processes_rows(group: Group) -> list[Row]:
    processes, workers = singles(group, "both", "processes"), singles(group, "both", "workers")
    machine = singles(group, "both", "machine")
    gained = ratios(processes, workers)
    return [
        _row(
            group,
            "both",
            "CPU-bound jobs, processes=2",
            f"{statistics.median(processes):.1f}/s",
            f"workers=2: {statistics.median(workers):.1f}/s; two bare programs to one: {_spread(machine)}",
            _spread(gained),
            f"ratio at least {PROCESSES_TARGET:g}",
            statistics.median(gained) >= PROCESSES_TARGET,
        )
    ]


def _records_rows(group: Group) -> list[Row]:
    things = {
        "job": ("store.job(id)", JOB_P99_TARGET_S),
        "first": ("100 dead jobs, first page", PAGE_P99_TARGET_S),
        "deep": ("100 dead jobs, deep page", PAGE_P99_TARGET_S),
    }
    count = group.arms["both"].arguments["count"]
    rows = []
    for name, (words, target_s) in things.items():
        bare = _all(group, "both", f"bare_{name}")
        operation = f"{words} of {count:,} in the store"
        beside = f"the driver's SELECT: {_latency_text(bare)}"
        rows.append(_latency_row(group, "both", operation, _all(group, "both", name), bare, beside, target_s))
    return rows
