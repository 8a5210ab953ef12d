"""The result of a run: rows for a machine and for a table."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from allocator.bench.ingest.measures import ACCEPT_PER_S, CLIENTS, PAGE, TOGETHER, Figures
from allocator.bench.result import Row, Run, quantile

BACKEND = "API, SQLite"
FILES_TARGET = 0.4
LARGE_TARGET = 0.5
GROWTH_TARGET_BYTES = 64 * 2**20
ACCEPT_P99_TARGET_S = 0.025
STATUS_P99_TARGET_S = 0.005
PAGES_TARGET = 1.3
"""What the last tenth of the pages may cost, in costs of the first tenth: no more than the noise of one run."""

P99_SAMPLES = 1000
"""Fewer of a round say nothing about its hundredth."""

LATE_SHARE = 0.2
"""If the generator was late by more than this share of p99, it is not the server that was measured."""


@dataclass
class Result(Run):
    """Everything that one run measured, and what it did not."""

    parts: dict[str, Figures] = field(default_factory=dict)
    assets: int = 0
    broken: bool = False
    """Whether a part could not be measured although it was asked for."""

    def rows(self) -> list[Row]:
        """The table, in the order of measuring."""
        makers: dict[str, Callable[[Figures], list[Row]]] = {
            "files": _files_rows,
            "large": _large_rows,
            "accept": _accept_rows,
            "status": lambda figures: _status_rows(figures, self.assets),
            "pages": lambda figures: _pages_rows(figures, self.assets),
        }
        return [row for part, figures in self.parts.items() for row in makers[part](figures)]

    def to_json(self) -> bytes:
        """Rows, raw figures of every round in seconds, bytes and files a second, and the fingerprint."""
        document: dict[str, Any] = {
            "started_at": self.started_at,
            "command": self.command,
            "rounds": self.rounds,
            "quick": self.quick,
            "fingerprint": self.fingerprint,
            "not_measured": self.not_measured,
            "assets": self.assets,
            "rows": [asdict(row) for row in self.rows()],
            "parts": {part: asdict(figures) for part, figures in self.parts.items()},
        }
        return msgspec.json.encode(document)


def ratios(figures: Figures, arm: str) -> list[float]:
    """Round by round, a rate over the bare one beside it."""
    return [one / bare for one, bare in zip(figures.rates[arm], figures.rates["bare"], strict=True)]


def tenths(figures: Figures) -> tuple[float, float]:
    """Median seconds of a page of the first tenth, and of the last."""
    (taken,) = figures.seconds["api"]
    # The last page of all is empty, or shorter than the others.
    whole = taken[:-1] or taken
    share = max(1, len(whole) // 10)
    return statistics.median(whole[:share]), statistics.median(whole[-share:])


def _spread(values: Sequence[float]) -> str:
    middle = statistics.median(values)
    return f"{middle:.2f}" if len(values) == 1 else f"{middle:.2f} ({min(values):.2f} to {max(values):.2f})"


def _files_rows(figures: Figures) -> list[Row]:
    bare = statistics.median(figures.rates["bare"])
    rows = []
    for arm, words in (
        ("api", "one in a request, its workers at work"),
        ("api alone", "one in a request, without workers"),
        ("api together", f"{TOGETHER} in a request, its workers at work"),
    ):
        found = ratios(figures, arm)
        rows.append(
            Row(
                BACKEND,
                f"files of 20 kB by {CLIENTS} clients, {words}",
                _accepted_and_placed(figures, arm),
                f"bare loop: {bare:,.0f}/s",
                _spread(found),
                f"ratio at least {FILES_TARGET:.2f}",
                statistics.median(found) >= FILES_TARGET,
                len(found),
            )
        )
    return rows


def _accepted_and_placed(figures: Figures, arm: str) -> str:
    placed = figures.rates.get(f"{arm}, placed")
    text = f"{statistics.median(figures.rates[arm]):,.0f}/s"
    return text if placed is None else f"{text}; until placed {statistics.median(placed):,.0f}/s"


def _large_rows(figures: Figures) -> list[Row]:
    found, grown = ratios(figures, "api"), max(figures.grown_bytes)
    rate, bare = (statistics.median(figures.rates[arm]) / 1e6 for arm in ("api", "bare"))
    return [
        Row(
            BACKEND,
            "one large file",
            f"{rate:,.0f} MB/s",
            f"written, hashed and synced locally: {bare:,.0f} MB/s",
            _spread(found),
            f"ratio at least {LARGE_TARGET:.2f}",
            statistics.median(found) >= LARGE_TARGET,
            len(found),
        ),
        Row(
            BACKEND,
            "memory of the server meanwhile",
            f"{grown / 2**20:+.1f} MiB at most",
            "",
            "",
            f"less than {GROWTH_TARGET_BYTES / 2**20:.0f} MiB",
            grown < GROWTH_TARGET_BYTES,
            len(figures.grown_bytes),
        ),
    ]


def _quantiles_ms(rounds: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    return [quantile(values, 0.5) * 1e3 for values in rounds], [quantile(values, 0.99) * 1e3 for values in rounds]


def _latency_text(rounds: Sequence[Sequence[float]]) -> str:
    p50, p99 = _quantiles_ms(rounds)
    return f"p50 {statistics.median(p50):.2f} ms, p99 {_spread(p99)} ms"


def _latency_row(figures: Figures, operation: str, beside: str, target_s: float) -> Row:
    rounds, bare = figures.seconds["api"], figures.seconds["bare"]
    p99, bare_p99 = _quantiles_ms(rounds)[1], _quantiles_ms(bare)[1]
    fewest = min(map(len, rounds))
    decided = fewest >= P99_SAMPLES
    return Row(
        BACKEND,
        f"{operation}, n = {fewest:,}",
        _latency_text(rounds),
        f"{beside}: {_latency_text(bare)}",
        _spread([one / other for one, other in zip(p99, bare_p99, strict=True)]) + " at p99",
        f"p99 at most {target_s * 1e3:g} ms" + ("" if decided else f", of {P99_SAMPLES:,} or more"),
        statistics.median(p99) <= target_s * 1e3 if decided else None,
        len(rounds),
    )


def _accept_rows(figures: Figures) -> list[Row]:
    operation = f"202 for 1 kB at {ACCEPT_PER_S:g}/s, from the intended time"
    late = _quantiles_ms(figures.seconds["late"])[1]
    beside = f"generator late by p99 {_spread(late)} ms; bare work on the same schedule"
    row = _latency_row(figures, operation, beside, ACCEPT_P99_TARGET_S)
    if row.reached is False and statistics.median(late) > LATE_SHARE * ACCEPT_P99_TARGET_S * 1e3:
        row.reached = None
        row.target += "; the generator was too late to tell"
    return [row]


def _status_rows(figures: Figures, assets: int) -> list[Row]:
    operation = f"status of an upload, {assets:,} assets"
    return [_latency_row(figures, operation, "GET /live", STATUS_P99_TARGET_S)]


def _pages_rows(figures: Figures, assets: int) -> list[Row]:
    first, last = tenths(figures)
    return [
        Row(
            BACKEND,
            f"{assets:,} assets listed in pages of {PAGE:,}",
            f"last tenth of the pages: {last * 1e3:.1f} ms a page",
            f"first tenth: {first * 1e3:.1f} ms",
            f"{last / first:.2f}",
            f"at most {PAGES_TARGET:g}",
            last / first <= PAGES_TARGET,
            1,
        )
    ]
