"""Intervals over runs: what they give, and when they give none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.bench.statistics.claims import claimable
from allocator.bench.statistics.intervals import (
    median_interval,
    percentile_interval,
    ratio_interval,
    relaxation_times,
)

RUNS = list(np.random.default_rng(5).exponential(1.0, (6, 2000)))


def test_jobs_are_pooled_and_percentiles_never_averaged() -> None:
    """One run of slow jobs among fast ones makes p99 slow; the mean of the six p99s would be a sixth of that."""
    runs = [np.full(1000, 1.0)] * 5 + [np.full(1000, 100.0)]

    interval = percentile_interval(runs, 0.99)

    assert interval is not None
    assert interval.value == 100.0


def test_the_jackknife_of_hand_computed_runs() -> None:
    """Five runs of one value each, whose median is easy to see with any one of them left out."""
    runs = [np.full(100, value) for value in (1.0, 1.0, 3.0, 3.0, 3.0)]

    interval = percentile_interval(runs, 0.5)

    # Without a 1 the median is 3; without a 3 there are two of each, and the smallest that half does not exceed is 1.
    logs = np.log([3.0, 3.0, 1.0, 1.0, 1.0])
    error = np.sqrt(4 / 5 * ((logs - logs.mean()) ** 2).sum())
    assert interval is not None
    # Student's t of 4 degrees of freedom at 98.5 %, from a table.
    assert np.log(interval.high / 3.0) == pytest.approx(3.2976 * error, rel=1e-4)
    assert np.log(3.0 / interval.low) == pytest.approx(3.2976 * error, rel=1e-4)


@pytest.mark.parametrize("runs", [1, 2, 4])
def test_fewer_than_five_runs_give_a_range_and_no_level(runs: int) -> None:
    """The least and the most of the runs, which claim nothing."""
    singles = sorted(float(np.sort(run)[1979]) for run in RUNS[:runs])

    interval = percentile_interval(RUNS[:runs], 0.99)

    assert interval is not None
    assert (interval.level, interval.low, interval.high) == (None, singles[0], singles[-1])
    assert median_interval([3.0, 1.0, 2.0][:runs]).level is None


def test_runs_too_short_for_the_queue_to_forget_give_no_level() -> None:
    """100 relaxation times are enough, 99 are not."""
    short, long = (percentile_interval(RUNS, 0.99, relaxation_times=times) for times in (99.0, 100.0))

    assert short is not None
    assert long is not None
    assert (short.level, long.level) == (None, 0.95)


def test_one_run_with_too_few_jobs_gives_nothing() -> None:
    """p99 takes 1,000 of each run."""
    assert percentile_interval([*RUNS, RUNS[0][:999]], 0.99) is None


def test_values_below_zero_still_have_an_interval() -> None:
    """They have no logarithm; clocks that differ make such values."""
    interval = percentile_interval([run - 10.0 for run in RUNS], 0.5)

    assert interval is not None
    assert interval.low < interval.value < 0.0


@settings(max_examples=30, deadline=None)
@given(st.floats(1e-4, 1e4))
def test_the_unit_does_not_matter(unit: float) -> None:
    """Milliseconds give the same interval as seconds."""
    seconds, other = percentile_interval(RUNS, 0.9), percentile_interval([run * unit for run in RUNS], 0.9)

    assert seconds is not None
    assert other is not None
    assert other.low == pytest.approx(seconds.low * unit)
    assert other.high == pytest.approx(seconds.high * unit)


def test_the_median_of_five_runs_lies_between_the_least_and_the_most() -> None:
    """That is all that five can say, and it is what the bootstrap says; analysed again it says the same."""
    interval = median_interval([5.0, 1.0, 4.0, 2.0, 3.0])

    assert (interval.value, interval.low, interval.high, interval.level) == (3.0, 1.0, 5.0, 0.95)
    assert interval == median_interval([5.0, 1.0, 4.0, 2.0, 3.0])


def test_pairing_takes_out_what_the_schedules_have_in_common() -> None:
    """Schedules differ tenfold, the arms by 10 % on each: the ratio is known exactly."""
    baseline = [1.0, 10.0, 3.0, 7.0, 5.0]

    interval = ratio_interval(baseline, [1.1 * figure for figure in baseline])

    assert interval.value == pytest.approx(1.1)
    assert (interval.low, interval.high) == (pytest.approx(1.1), pytest.approx(1.1))


@pytest.mark.parametrize(
    ("baseline", "candidate", "words"),
    [
        ([1.0, 0.0], [1.0, 1.0], "baseline, run 2: there is no ratio to 0"),
        ([1.0, 1.0], [1.0, float("nan")], "candidate, run 2: nan is no figure"),
        ([1.0], [1.0, 1.0], "1 runs of the baseline cannot be paired with 2"),
        ([], [], "baseline: there are no runs"),
    ],
)
def test_runs_without_a_ratio_are_named(baseline: list[float], candidate: list[float], words: str) -> None:
    """The arm, the run, and what it gave."""
    with pytest.raises(ValueError, match=words):
        ratio_interval(baseline, candidate)


@pytest.mark.parametrize(("utilisation", "service_times"), [(0.8, 90), (0.95, 1560)])
def test_the_relaxation_time_grows_with_utilisation(utilisation: float, service_times: float) -> None:
    """90 service times at 0.8, 1,560 at 0.95."""
    assert relaxation_times(service_times, 1.0, utilisation) == pytest.approx(1.0, rel=0.01)


def test_a_full_queue_never_forgets() -> None:
    """At a utilisation of 1 no run is long enough."""
    assert relaxation_times(1e9, 0.001, 1.0) == 0.0


def test_what_may_be_claimed_of_one_short_run() -> None:
    """p50 and p90 of 500 jobs; no interval, no verdict, and each reason told."""
    claim = claimable(runs=1, jobs=500)

    assert claim.percentiles == ("p50", "p90", "p95")
    assert (claim.level, claim.verdict) == (None, False)
    assert "p99: too few; it takes 1,000 jobs a run, there are 500." in claim.sentences
    assert any("it takes 5 runs, there are 1" in sentence for sentence in claim.sentences)


def test_what_may_be_claimed_of_ten_long_runs() -> None:
    """Everything."""
    claim = claimable(runs=10, jobs=10_000, relaxation_times=200.0)

    assert (claim.level, claim.verdict, claim.sentences) == (0.95, True, ())


def test_long_enough_for_a_verdict_is_not_long_enough_for_an_interval() -> None:
    """Runs of 40 relaxation times can be compared with each other, since what they get wrong they get wrong alike."""
    claim = claimable(runs=10, jobs=10_000, relaxation_times=40.0)

    assert (claim.level, claim.verdict) == (None, True)
    assert "it lasted 40" in claim.sentences[0]
