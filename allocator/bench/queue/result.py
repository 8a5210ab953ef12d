"""The result of a run: rows for a machine and for a table."""

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from allocator.bench.queue.backlog import BacklogCost
from allocator.bench.queue.measures import Measure
from allocator.bench.queue.pickup import Pickup
from allocator.bench.result import Row, Run, quantile

BACKLOG_TARGET = 1.3
REDIS_BYTES_TARGET = 520
REDIS_PICKUP_P99_TARGET_S = 0.0015
IDLE_CPU_TARGET = 0.01


@dataclass
class Result(Run):
    """Everything that one run measured, and what it did not."""

    measures: list[Measure] = field(default_factory=list)
    pickups: list[Pickup] = field(default_factory=list)
    backlogs: list[BacklogCost] = field(default_factory=list)

    def rows(self) -> list[Row]:
        """The table, in the order of measuring."""
        return [
            *map(_measure_row, self.measures),
            *(row for pickup in self.pickups for row in _pickup_rows(pickup)),
            *(row for cost in self.backlogs for row in _backlog_rows(cost)),
        ]

    def to_json(self) -> bytes:
        """Rows, raw figures of every round, and the fingerprint."""
        document: dict[str, Any] = {
            "started_at": self.started_at,
            "command": self.command,
            "rounds": self.rounds,
            "quick": self.quick,
            "fingerprint": self.fingerprint,
            "not_measured": self.not_measured,
            "rows": [asdict(row) for row in self.rows()],
            "rates_per_s": [
                {
                    "backend": measure.backend,
                    "operation": measure.operation,
                    "limit": measure.limit_name,
                    "subject_rates": measure.subject_rates,
                    "limit_rates": measure.limit_rates,
                }
                for measure in self.measures
            ],
            "pickup_s": [asdict(pickup) for pickup in self.pickups],
            "backlog_us": [asdict(cost) for cost in self.backlogs],
        }
        return msgspec.json.format(msgspec.json.encode(document), indent=1)


def _measure_row(measure: Measure) -> Row:
    ratios = measure.ratios
    subject = statistics.median(measure.subject_rates)
    target = ""
    if measure.target is not None:
        target = f"at least {measure.target:,.0f}/s" if measure.target_is_rate else f"at least {measure.target:.2f}"
    return Row(
        measure.backend,
        measure.operation,
        f"{subject:,.0f}/s",
        f"{measure.limit_name}: {statistics.median(measure.limit_rates):,.0f}/s",
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        target,
        measure.reached,
    )


def _pickup_rows(pickup: Pickup) -> list[Row]:
    p50, p99 = (quantile(pickup.pickup_s, probability) for probability in (0.5, 0.99))
    floor = statistics.median(pickup.floor_s)
    is_redis = pickup.backend == "Redis"
    rows = [
        Row(
            pickup.backend,
            f"idle pickup, n = {len(pickup.pickup_s)}",
            f"p50 {p50 * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms",
            "" if pickup.backend == "in process" else f"two round trips, p50: {floor * 1e3:.2f} ms",
            "" if pickup.backend == "in process" else f"{p50 / floor:.1f} at p50",
            f"Redis p99 under {REDIS_PICKUP_P99_TARGET_S * 1e3:.1f} ms on a quiet machine" if is_redis else "",
            p99 < REDIS_PICKUP_P99_TARGET_S if is_redis else None,
        )
    ]
    if pickup.idle_cpu is not None:
        rows.append(
            Row(
                pickup.backend,
                "an idle, blocked client",
                f"{pickup.idle_cpu:.2%} of a core",
                "",
                "",
                f"under {IDLE_CPU_TARGET:.0%}",
                pickup.idle_cpu < IDLE_CPU_TARGET,
            )
        )
    return rows


def _backlog_rows(cost: BacklogCost) -> list[Row]:
    rows = [
        Row(
            cost.backend,
            f"{operation} at a backlog of {cost.large:,}",
            f"{cost.large_us[operation]:.1f} µs",
            f"at 1,000: {cost.small_us[operation]:.1f} µs",
            f"{ratio:.2f}",
            f"at most {BACKLOG_TARGET:g}",
            ratio <= BACKLOG_TARGET,
        )
        for operation, ratio in cost.ratios.items()
    ]
    if cost.bytes_per_job is not None:
        is_redis = cost.backend == "Redis"
        rows.append(
            Row(
                cost.backend,
                "a waiting job with a 100-byte payload",
                f"{cost.bytes_per_job:,.0f} bytes",
                "the payload: 100 bytes",
                f"{cost.bytes_per_job / 100:.1f}",
                f"Redis at most {REDIS_BYTES_TARGET}" if is_redis else "",
                cost.bytes_per_job <= REDIS_BYTES_TARGET if is_redis else None,
            )
        )
    return rows
