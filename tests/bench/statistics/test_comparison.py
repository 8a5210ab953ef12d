"""A verdict on two arms, and when there is none."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.bench.statistics.comparison import P99, THROUGHPUT, Arms, Verdict, compare, judge, spread
from allocator.bench.statistics.intervals import Interval

QUIET = [100.0, 101.0, 99.0, 100.5, 99.5]


def arms(factor: float, again: float = 1.0, baseline: Sequence[float] = QUIET) -> Arms:
    """A candidate that is the baseline times a factor; and the baseline again."""
    return Arms(baseline, [factor * figure for figure in baseline], [again * figure for figure in baseline])


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [
        (1.0, Verdict.EQUIVALENT),
        (1.09, Verdict.EQUIVALENT),
        (0.92, Verdict.EQUIVALENT),
        (1.12, Verdict.BETTER),
        (0.88, Verdict.WORSE),
    ],
)
def test_throughput_has_a_margin_of_ten_percent(factor: float, verdict: Verdict) -> None:
    """More is better."""
    assert compare(THROUGHPUT, arms(factor)).verdict is verdict


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(1.19, Verdict.EQUIVALENT), (0.85, Verdict.EQUIVALENT), (1.25, Verdict.WORSE), (0.75, Verdict.BETTER)],
)
def test_p99_has_a_margin_of_twenty_percent(factor: float, verdict: Verdict) -> None:
    """Less is better."""
    assert compare(P99, arms(factor)).verdict is verdict


def test_an_interval_across_the_margin_decides_nothing() -> None:
    """Some runs are far slower, some are not."""
    noisy = Arms(QUIET, [70.0, 100.0, 85.0, 99.0, 80.0], QUIET)

    found = compare(THROUGHPUT, noisy)

    assert found.verdict is Verdict.UNDECIDED
    assert "more or longer runs" in found.sentence


def test_a_noisy_machine_widens_the_margin() -> None:
    """Twice the spread of A/A, where that is more than the figure's own margin."""
    again = [85.0, 115.0, 90.0, 112.0, 100.0]

    found = compare(THROUGHPUT, Arms(QUIET, [0.88 * figure for figure in QUIET], again))

    assert found.margin == pytest.approx(2 * spread(found.same))
    assert found.margin > 0.2
    assert found.verdict is Verdict.EQUIVALENT


@pytest.mark.parametrize("again", [0.8, 1.25])
def test_there_is_no_verdict_where_no_change_looks_like_one(again: float) -> None:
    """A machine on which the baseline differs from itself cannot tell anything."""
    found = compare(THROUGHPUT, arms(0.5, again))

    assert found.verdict is Verdict.UNDECIDED
    assert "the baseline against itself" in found.sentence


def test_a_baseline_that_got_nothing_done_in_some_runs_decides_nothing() -> None:
    """The spread of A/A is then without bound, and no margin either."""
    found = compare(THROUGHPUT, Arms(QUIET, QUIET, [0.0, 0.0, 100.0, 100.0, 100.0]))

    assert found.verdict is Verdict.UNDECIDED
    assert "got nothing done in some runs" in found.sentence


def test_four_runs_are_too_few() -> None:
    """However clear it looks."""
    found = compare(THROUGHPUT, arms(0.5, baseline=QUIET[:4]))

    assert found.verdict is Verdict.UNDECIDED
    assert "takes 5 runs of each arm, there are 4" in found.sentence


def test_worse_fails_nothing_until_a_second_set_says_so_too() -> None:
    """Once is not confirmed, twice is."""
    once, twice = compare(P99, arms(1.5)), compare(P99, arms(1.5), arms(1.4))

    assert (once.verdict, once.confirmed, once.fails) == (Verdict.WORSE, False, False)
    assert "measure a second set" in once.sentence
    assert (twice.verdict, twice.confirmed, twice.fails) == (Verdict.WORSE, True, True)


def test_worse_that_is_not_confirmed_is_undecided() -> None:
    """The second set found no difference."""
    found = compare(P99, arms(1.5), arms(1.0))

    assert (found.verdict, found.fails) == (Verdict.UNDECIDED, False)
    assert "the second set says equivalent" in found.sentence


def test_a_candidate_that_got_nothing_done_is_worse() -> None:
    """A throughput of zero is a figure."""
    assert compare(THROUGHPUT, arms(0.0)).verdict is Verdict.WORSE


@settings(max_examples=200)
@given(st.floats(0.2, 5.0), st.floats(1.0, 3.0), st.floats(0.0, 1.0))
def test_exchanging_the_arms_exchanges_better_and_worse(low: float, width: float, margin: float) -> None:
    """The margin is the same in both directions."""
    there = Interval(low, low, low * width, 10, 0.95)
    back = Interval(1 / low, 1 / there.high, 1 / there.low, 10, 0.95)
    edges = np.array([1 + margin, 1 / (1 + margin)])
    if min(abs(edges - there.low).min(), abs(edges - there.high).min()) < 1e-9:
        return
    mirrored = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}
    verdict = judge(THROUGHPUT, there, margin)

    assert judge(THROUGHPUT, back, margin) is mirrored.get(verdict, verdict)


def test_identical_arms_are_seldom_called_different() -> None:
    """A/A under a noise of 8 %, fifty times with a second set each: never confirmed as worse."""
    rng = np.random.default_rng(4)
    failed = 0
    for _ in range(50):
        first, second = (Arms(*(100 * np.exp(0.08 * rng.standard_normal((3, 5))))) for _ in range(2))
        failed += compare(THROUGHPUT, first, second).fails

    assert failed == 0
