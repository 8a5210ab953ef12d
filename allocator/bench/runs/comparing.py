"""Two arms side by side: interleaved runs of one workload, with the first arm measured twice."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from allocator.bench.arrivals import Closed
from allocator.bench.runs.execution import Progress
from allocator.bench.runs.run import Run
from allocator.bench.runs.running import run
from allocator.bench.statistics.comparison import P99, THROUGHPUT, Arms, Comparison, Figure, Verdict, compare
from allocator.bench.workload import Workload

BASELINE, CANDIDATE, AGAIN = "baseline", "candidate", "again"
"""Names of arms: of those that are no backends, and of the baseline's second measurement (A/A)."""

ARMS = (BASELINE, CANDIDATE, AGAIN)

FIGURES: dict[str, Figure] = {
    "throughput": THROUGHPUT,
    "wait_p99": replace(P99, name="p99 of wait time"),
    "sojourn_p99": replace(P99, name="p99 of sojourn time"),
}
"""Of which arms are compared."""

Make = Callable[[Workload, Callable[[Progress], None]], Run]
"""Makes a run of an arm, and tells how far it is."""

T = TypeVar("T")

Say = Callable[[str, Progress], None]
"""Told which arm of which round is how far."""


def measure_arms(
    workload: Workload,
    baseline: str,
    candidate: str,
    rounds: int,
    folder: Path | None = None,
    say: Say = lambda arm, progress: None,
) -> dict[str, list[Run]]:
    """
    Runs of two backends, interleaved; see `interleave`.

    Args:
        baseline, candidate: Backends, as `run` takes them.

    Returns:
        Arm -> its runs, in the order of rounds: baseline, candidate, and the baseline again. An arm is named by its
        backend; where both are the same, the candidate is named CANDIDATE.
    """
    backends = {baseline: baseline, candidate if candidate != baseline else CANDIDATE: candidate, AGAIN: baseline}

    def make(workload: Workload, tell: Callable[[Progress], None], *, backend: str) -> Run:
        return run(workload, backend, folder=folder, say=tell)

    return interleave(workload, {arm: partial(make, backend=each) for arm, each in backends.items()}, rounds, say)


def measure_sets(
    workload: Workload,
    figures: Sequence[str],
    baseline: Make,
    candidate: Make,
    rounds: int,
    say: Say = lambda arm, progress: None,
) -> list[dict[str, list[Run]]]:
    """
    A set of runs of both arms, interleaved; and where it says *worse* of a figure, a second one, of other schedules.

    Args:
        figures: Of FIGURES, those that matter.
        rounds: That must be usable; up to as many again take the place of those in which a gate failed.

    Returns:
        Each set: each of ARMS -> runs, in the order of rounds, all that were made.
    """
    arms = dict(zip(ARMS, (baseline, candidate, baseline), strict=True))
    sets = [interleave(workload, arms, rounds, say, spare=rounds)]
    if any(each.verdict is Verdict.WORSE for each in compare_arms(usable(sets[0], _failed_gates), figures)):
        sets.append(interleave(workload, arms, rounds, say, spare=rounds, first=2 * rounds))
    return sets


def usable(arms: Mapping[str, Sequence[T]], failed_gates: Callable[[T], Sequence[str]]) -> dict[str, list[T]]:
    """The rounds in which no run of any arm failed a gate; the others compare the machine's moods."""
    kept = [runs for runs in zip(*arms.values(), strict=True) if not any(map(failed_gates, runs))]
    return {arm: [runs[place] for runs in kept] for place, arm in enumerate(arms)}


def interleave(
    workload: Workload, arms: Mapping[str, Make], rounds: int, say: Say, *, spare: int = 0, first: int = 0
) -> dict[str, list[Run]]:
    """
    Runs of all arms; within a round all replay the same plan, and each round another.

    Even rounds go through the arms in their order, odd ones the other way round, so that a machine that gets slower or
    faster meanwhile favours nobody.

    Args:
        spare: Rounds that may be added where not all were usable.
        first: Of its schedules, so that a later call replays none of an earlier one's.

    Returns:
        Arm -> its runs, in the order of rounds.
    """
    made: dict[str, list[Run]] = {arm: [] for arm in arms}
    for number in range(rounds + spare):
        if number >= rounds and len(usable(made, _failed_gates)[next(iter(arms))]) >= rounds:
            break
        replayed = workload.changed(seed=workload.seed + first + number)
        for arm in arms if number % 2 == 0 else reversed(list(arms)):

            def tell(progress: Progress, arm: str = arm, number: int = number) -> None:
                say(f"{arm}, round {number + 1} of {rounds}", progress)

            made[arm].append(arms[arm](replayed, tell))
            stop_if_interrupted(made[arm][-1])
    return made


def compare_arms(made: Mapping[str, Sequence[Run]], figures: Iterable[str] = FIGURES) -> list[Comparison]:
    """Throughput and p99 of wait and sojourn time, or those of FIGURES that are named, where every run has them."""
    columns = [[(each.workload, each.summary.to_dict()) for each in arm] for arm in made.values()]
    return [found for name in figures if (found := compare_figure(name, columns)) is not None]


Figured = tuple[Workload, Mapping[str, Any]]
"""A run's workload, and its figures, as `Summary.to_dict` gives them."""


def compare_figure(
    name: str, arms: Sequence[Sequence[Figured]], confirming: Sequence[Sequence[Figured]] | None = None
) -> Comparison | None:
    """
    One of FIGURES of several arms; None where a run does not have it, or there is none.

    Args:
        arms: The runs of the baseline, the candidate, and the baseline again.
        confirming: Those of a second set.

    Raises:
        ValueError: A run of the baseline got nothing done, so that there is no ratio.
    """
    sets = [arms] if confirming is None else [arms, confirming]
    found: list[Arms] = []
    for each in sets:
        columns = [[_value(name, *run) for run in arm] for arm in each]
        known = [[value for value in column if value is not None] for column in columns]
        if any(len(values) < max(1, len(column)) for values, column in zip(known, columns, strict=True)):
            return None
        found.append(Arms(*known))
    return compare(FIGURES[name], *found)


def stop_if_interrupted(made: Run) -> None:
    """A series that was asked to stop is not gone on with; the runs until then are kept. Raises KeyboardInterrupt."""
    if made.about.interrupted:
        raise KeyboardInterrupt


def _failed_gates(made: Run) -> list[str]:
    return made.failed_gates


def _value(name: str, workload: Workload, figures: Mapping[str, Any]) -> float | None:
    if name == "throughput":
        # Of a closed loop the rate is the system's own until the end; else no jobs come any more after the schedule.
        value = figures["drain_per_s" if isinstance(workload.arrival, Closed) else "throughput_per_s"]
    else:
        value = figures["tables"][name.removesuffix("_p99")]["percentiles_s"]["p99"]
    return None if value is None else float(value)
