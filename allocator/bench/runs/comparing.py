"""Two arms side by side: interleaved runs of one workload, with the first arm measured twice."""

from collections.abc import Callable, Sequence
from pathlib import Path

from allocator.bench.runs.execution import Progress
from allocator.bench.runs.run import Run
from allocator.bench.runs.running import run
from allocator.bench.statistics.comparison import P99, THROUGHPUT, Arms, Comparison, Figure, compare
from allocator.bench.workload import Workload

CANDIDATE, AGAIN = "candidate", "again"
"""Names of arms: of a candidate that is no other backend, and of the baseline's second measurement (A/A)."""


def measure_arms(
    workload: Workload,
    baseline: str,
    candidate: str,
    rounds: int,
    folder: Path | None = None,
    say: Callable[[str, Progress], None] = lambda arm, progress: None,
) -> dict[str, list[Run]]:
    """
    Runs of both arms, interleaved; within a round all replay the same plan, and each round another.

    Even rounds go baseline, candidate, baseline again, odd ones the other way round, so that a machine that gets
    slower or faster meanwhile favours nobody.

    Args:
        baseline, candidate: Backends, as `run` takes them.
        say: Told which arm of which round is how far.

    Returns:
        Arm -> its runs, in the order of rounds: baseline, candidate, and the baseline again. An arm is named by its
        backend; where both are the same, the candidate is named CANDIDATE.
    """
    backends = {baseline: baseline, candidate if candidate != baseline else CANDIDATE: candidate, AGAIN: baseline}
    made: dict[str, list[Run]] = {arm: [] for arm in backends}
    for number in range(rounds):
        replayed = workload.changed(seed=workload.seed + number)
        for arm in backends if number % 2 == 0 else reversed(backends):

            def tell(progress: Progress, arm: str = arm, number: int = number) -> None:
                say(f"{arm}, round {number + 1} of {rounds}", progress)

            made[arm].append(run(replayed, backends[arm], folder=folder, say=tell))
            stop_if_interrupted(made[arm][-1])
    return made


def compare_arms(made: dict[str, list[Run]]) -> list[Comparison]:
    """Throughput and p99 of wait and sojourn time, where every run has them."""
    baseline, candidate, again = made.values()
    found = []
    for figure, value in _figures():
        columns = [[value(each) for each in arm] for arm in (baseline, candidate, again)]
        if all(number is not None for column in columns for number in column):
            found.append(compare(figure, Arms(*columns)))  # type: ignore[arg-type]
    return found


def stop_if_interrupted(made: Run) -> None:
    """A series that was asked to stop is not gone on with; the runs until then are kept. Raises KeyboardInterrupt."""
    if made.about.interrupted:
        raise KeyboardInterrupt


def _figures() -> Sequence[tuple[Figure, Callable[[Run], float | None]]]:
    def p99(table: str) -> tuple[Figure, Callable[[Run], float | None]]:
        figure = Figure(f"p99 of {table} time", P99.unit, P99.higher_is_better, P99.margin)
        return figure, lambda run: run.summary.tables[table].percentiles_s["p99"]

    def throughput(run: Run) -> float | None:
        figures = run.summary
        return figures.throughput_per_s if run.jobs["intended_at"].notna().all() else figures.drain_per_s

    return [(THROUGHPUT, throughput), p99("wait"), p99("sojourn")]
