"""Series of runs: the rate that a backend holds, latency against load, throughput against workers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from allocator.bench.arrivals import Constant, Poisson
from allocator.bench.errors import InvalidWorkload
from allocator.bench.plan import plan
from allocator.bench.runs.comparing import stop_if_interrupted
from allocator.bench.runs.execution import Progress
from allocator.bench.runs.run import Run
from allocator.bench.runs.running import run
from allocator.bench.statistics.capacity import Capacity, Probe, judge, search
from allocator.bench.statistics.curves import Knee, knee, load_latency, scaling
from allocator.bench.statistics.gates import LATENESS
from allocator.bench.workload import Workload

PROBE_S, CONFIRM_S = 20.0, 60.0
JOBS_A_WORKER = 500
CLIENTS_A_WORKER = 4
"""In a closed loop: so many that no worker waits for its next job."""

Say = Callable[[str, Progress], None]
"""Told which run of a series is how far."""


def _say_nothing(which: str, progress: Progress) -> None: ...


def at_rate(workload: Workload, rate_per_s: float, duration_s: float | None = None) -> Workload:
    """
    The workload at another rate, and for another time if one is given.

    Raises:
        InvalidWorkload: Its arrivals have no one rate.
    """
    arrival = workload.arrival
    if not isinstance(arrival, Constant | Poisson):
        raise InvalidWorkload(
            "arrival.model", f"{arrival.model} has no rate that could be changed; use constant or poisson"
        )
    changes: dict[str, object] = {"arrival": arrival.model_copy(update={"rate_per_s": rate_per_s}).model_dump()}
    if duration_s is not None:
        changes |= {"duration_s": duration_s, "jobs": None, "warmup_s": min(workload.warmup_s, duration_s / 4)}
    return workload.changed(**changes)


@dataclass(frozen=True)
class CapacitySearch:
    """
    The rate that a backend holds, and every run that says so.

    Args:
        runs: Rate -> runs at it.
    """

    capacity: Capacity
    runs: Mapping[float, Sequence[Run]]

    @property
    def holds(self) -> bool:
        """Whether every run kept every promise."""
        return all(each.holds for runs in self.runs.values() for each in runs)


def find_capacity(
    workload: Workload,
    backend: str,
    low_per_s: float,
    high_per_s: float,
    *,
    probe_s: float = PROBE_S,
    confirm_s: float = CONFIRM_S,
    folder: Path | None = None,
    say: Say = _say_nothing,
) -> CapacitySearch:
    """
    Find the rate that a backend holds, in at most eight probes, and confirm it in two longer runs.

    A probe passes if p99 of the wait is within `slo.wait_s_p99`, the backlog does not grow, nothing is lost and the
    generator kept its schedule.

    Args:
        low_per_s, high_per_s: Expected to pass, and to fail.
        probe_s, confirm_s: Seconds of a probe, and of a run that confirms.
    Raises:
        InvalidWorkload: It has no such objective, or no one rate.
        ValueError: The rates are not in order.
    """
    objective_s = workload.slo.wait_s_p99
    if objective_s is None:
        raise InvalidWorkload("slo.wait_s_p99", "is missing: a rate is held or not by what is promised of waits")
    at_rate(workload, low_per_s)
    made: dict[float, list[Run]] = {}

    def measure(rate_per_s: float, seconds: float) -> Probe:
        wanted = at_rate(workload, rate_per_s, seconds)
        try:
            plan(wanted)
        except InvalidWorkload as error:
            # More than its workers can ever do.
            return Probe(rate_per_s, False, reason=str(error))
        one = run(wanted, backend, folder=folder, say=lambda progress: say(f"{rate_per_s:,.0f} jobs/s", progress))
        made.setdefault(rate_per_s, []).append(one)
        stop_if_interrupted(one)
        probe = judge(rate_per_s, one.summary, objective_s, LATENESS not in one.failed_gates)
        if not one.holds:
            broken = [promise.value for promise in one.judgement.broken()]
            told = "; ".join([*broken, *([one.about.problem] if one.about.problem else [])])
            return Probe(rate_per_s, False, probe.generator_kept, f"broken: {told}", probe.wait_p99_s)
        return probe

    found = search(low_per_s, high_per_s, lambda rate: measure(rate, probe_s), lambda rate: measure(rate, confirm_s))
    return CapacitySearch(found, made)


@dataclass(frozen=True)
class Curve:
    """
    Latency against load.

    Args:
        points: A row a rate; see `allocator.bench.statistics.curves.load_latency`.
        runs: Rate -> its run.
    """

    points: pd.DataFrame
    knee: Knee
    runs: Mapping[float, Run]


def measure_curve(
    workload: Workload,
    backend: str,
    rates_per_s: Sequence[float],
    *,
    duration_s: float | None = None,
    folder: Path | None = None,
    say: Say = _say_nothing,
) -> Curve:
    """
    A run at each of these rates, ascending; the knee is told where one of them is near 20 % load.

    Args:
        duration_s: Of each run; None: the workload's.
    Raises:
        InvalidWorkload: It has no one rate, or cannot finish at one of these; nothing was started.
        ValueError: There is no rate.
    """
    if not rates_per_s:
        raise ValueError("rates_per_s: give at least one rate")
    wanted = {rate: at_rate(workload, rate, duration_s) for rate in sorted(set(rates_per_s))}
    for each in wanted.values():
        plan(each)
    made: dict[float, Run] = {}
    for rate, each in wanted.items():

        def tell(progress: Progress, rate: float = rate) -> None:
            say(f"{rate:,.0f} jobs/s", progress)

        made[rate] = run(each, backend, folder=folder, say=tell)
        stop_if_interrupted(made[rate])
    points = load_latency({rate: one.summary for rate, one in made.items()})
    return Curve(points, knee(points), made)


@dataclass(frozen=True)
class Scaling:
    """
    Throughput against workers.

    Args:
        points: A row a number of workers; see `allocator.bench.statistics.curves.scaling`.
        runs: Workers -> runs.
    """

    points: pd.DataFrame
    runs: Mapping[int, Sequence[Run]]


def measure_scaling(
    workload: Workload,
    backend: str,
    workers: Sequence[int] = (1, 2, 4, 8),
    *,
    rounds: int = 1,
    jobs: int = JOBS_A_WORKER,
    folder: Path | None = None,
    say: Say = _say_nothing,
) -> Scaling:
    """
    The drain rate of a closed loop for each number of workers, of the kind and with the work that the workload has.

    Args:
        workers: Of each supervisor.
        rounds: Runs of each, interleaved; within a round all replay jobs of the same seed.
        jobs: For each worker, so that all runs take about as long.
    Raises:
        InvalidWorkload: Names the field.
        ValueError: There is no number of workers.
    """
    if not workers or min(workers) < 1:
        raise ValueError(f"workers: give at least one number, each of at least 1, not {list(workers)}")
    made: dict[int, list[Run]] = {count: [] for count in sorted(set(workers))}
    for number in range(rounds):
        for count in made:
            slots = count * workload.workers.supervisors
            wanted = workload.changed(
                arrival={"model": "closed", "clients": CLIENTS_A_WORKER * slots},
                duration_s=None,
                jobs=jobs * slots,
                warmup_s=0.0,
                faults=(),
                workers=workload.workers.model_copy(update={"count": count}).model_dump(),
                seed=workload.seed + number,
            )

            def tell(progress: Progress, count: int = count, number: int = number) -> None:
                say(f"{count} workers, round {number + 1} of {rounds}", progress)

            made[count].append(run(wanted, backend, folder=folder, say=tell))
            stop_if_interrupted(made[count][-1])
    rates = {count: [one.summary.drain_per_s or 0.0 for one in runs] for count, runs in made.items()}
    return Scaling(scaling(rates, workload.work), made)
