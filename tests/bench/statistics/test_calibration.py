"""The intervals hold the truth as often as they say, where the truth is known."""

import numpy as np
import pytest
from scipy import stats

from allocator.bench.statistics.calibration import Calibration, calibrate, sojourns, true_percentile
from allocator.bench.statistics.intervals import median_interval, ratio_interval
from allocator.bench.statistics.percentiles import percentile


def test_the_simulated_queue_is_the_one_whose_percentiles_are_known() -> None:
    """Sojourn times of M/M/1 are exponential; one job of each of many runs, for those are independent."""
    last = sojourns(np.random.default_rng(1), 4000, 200, 0.7)[:, -1]

    assert stats.kstest(last, "expon", args=(0, 1 / (1 - 0.7))).pvalue > 0.01
    assert true_percentile(0.7, 0.99) == pytest.approx(15.3506, abs=1e-4)


def test_the_recursion_in_closed_form_is_lindleys() -> None:
    """Job by job: what is left of the wait and service of the one before."""
    rng, again = np.random.default_rng(3), np.random.default_rng(3)
    found = sojourns(rng, 1, 50, 0.8)[0]

    service = again.exponential(1.0, (1, 50))[0]
    gaps = again.exponential(1 / 0.8, (1, 49))[0]
    again.random(1)
    wait = found[0] - service[0]
    expected = [wait + service[0]]
    for number in range(1, 50):
        wait = max(0.0, wait + service[number - 1] - gaps[number - 1])
        expected.append(wait + service[number])
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("runs", [5, 10])
def test_p99_over_runs_may_be_called_a_95_percent_interval(runs: int) -> None:
    """At a utilisation of 0.7, in runs of 114 relaxation times."""
    found = calibrate(np.random.default_rng(11), runs=runs, jobs=3000, trials=200)

    assert found.level == 0.95, found.sentence()


@pytest.mark.parametrize(
    ("trials", "covered", "level"),
    [
        (1000, 862, None),
        (1000, 863, 0.95),
        (1000, 981, 0.95),
        (1000, 994, 0.95),
        (1000, 995, None),
        (40, 24, None),
        (40, 40, 0.95),
    ],
)
def test_luck_does_not_condemn_an_interval(trials: int, covered: int, level: float | None) -> None:
    """Only a coverage that the bounds of 90 and 98 % do not give once in 10,000 calibrations does."""
    assert Calibration(0.8, 0.5, 5, 8000, trials, covered).level == level


def test_a_bootstrap_over_the_jobs_of_one_run_may_not() -> None:
    """It is what the calibration must catch: jobs that wait behind each other are no sample."""
    rng = np.random.default_rng(12)
    truth, covered, trials = true_percentile(0.8, 0.99), 0, 40
    for run in sojourns(rng, trials, 8000, 0.8):
        drawn = [percentile(run[rng.integers(0, len(run), len(run))], 0.99) for _ in range(40)]
        covered += min(filter(None, drawn)) <= truth <= max(filter(None, drawn))

    found = Calibration(0.8, 0.99, 1, 8000, trials, covered)

    assert found.coverage < 0.6
    assert found.level is None
    assert "may not be called" in found.sentence()


@pytest.mark.parametrize("runs", [5, 10])
def test_medians_and_their_ratios_may_be_called_95_percent_intervals(runs: int) -> None:
    """Under noise as on a shared machine: a fifth up and down, and now and then a run that takes far longer."""
    rng, trials = np.random.default_rng(13), 200
    noise = np.exp(0.2 * rng.standard_normal((trials, 2, runs)))
    noise *= np.where(rng.random(noise.shape) < 0.15, 1 + rng.exponential(1.0, noise.shape), 1.0)
    # The median of this noise, from a sample so large that its own error does not count.
    many = np.exp(0.2 * rng.standard_normal(400_000))
    many *= np.where(rng.random(many.shape) < 0.15, 1 + rng.exponential(1.0, many.shape), 1.0)
    middle = float(np.median(many))

    medians, ratios = 0, 0
    for first, second in noise:
        single, ratio = median_interval(list(first)), ratio_interval(list(first), list(1.3 * second))
        medians += single.low <= middle <= single.high
        ratios += ratio.low <= 1.3 <= ratio.high

    for covered in (medians, ratios):
        found = Calibration(0.0, 0.5, runs, 1, trials, covered)
        assert found.level == 0.95, found.sentence()


@pytest.mark.full
@pytest.mark.parametrize("probability", [0.5, 0.99])
@pytest.mark.parametrize("runs", [5, 10])
@pytest.mark.parametrize(("utilisation", "jobs"), [(0.1, 1000), (0.5, 1000), (0.7, 3000), (0.8, 8000)])
def test_every_run_of_a_hundred_relaxation_times(utilisation: float, jobs: int, runs: int, probability: float) -> None:
    """
    Low and high utilisation, median and tail; so many trials that the coverage is known to half a percent or so.

    With other seeds than these a right method fails one of the sixteen in less than 2 of 1,000 cases, by FALSE_ALARM.
    """
    found = calibrate(
        np.random.default_rng([21, runs, jobs]),
        runs=runs,
        jobs=jobs,
        utilisation=utilisation,
        probability=probability,
        trials=1000,
    )

    assert found.level == 0.95, found.sentence()


@pytest.mark.full
@pytest.mark.parametrize("runs", [5, 10])
def test_runs_of_fourteen_relaxation_times_are_too_short(runs: int) -> None:
    """The bound is there for a reason: below it p99 may not be called so."""
    found = calibrate(np.random.default_rng(22), runs=runs, jobs=1000, utilisation=0.8)

    assert found.level is None, found.sentence()
