"""The search for the highest rate that a system holds."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.bench.statistics.capacity import MOST_PROBES, Probe, judge, search
from allocator.bench.statistics.summary import Summary, summary
from tests.bench.statistics.runs import one_server


@given(st.floats(101.0, 9_999.0))
def test_the_answer_is_an_interval_that_holds_the_capacity(true: float) -> None:
    """In at most eight probes, within a factor of 1.1, confirmed."""
    found = search(100.0, 10_000.0, lambda rate: Probe(rate, rate <= true, reason="slow"))

    assert found.high_per_s is not None
    assert found.low_per_s <= true < found.high_per_s
    assert found.high_per_s / found.low_per_s < 1.1
    assert len(found.probes) <= MOST_PROBES
    assert found.confirmed is True
    assert [probe.rate_per_s for probe in found.confirmations] == [
        pytest.approx(0.95 * found.low_per_s),
        pytest.approx(1.1 * found.high_per_s),
    ]


def test_a_system_that_holds_everything_tried_has_no_upper_end() -> None:
    """Nothing beyond what was measured is said."""
    found = search(100.0, 200.0, lambda rate: Probe(rate, True))

    assert (found.low_per_s, found.high_per_s, found.confirmed) == (200.0, None, None)
    assert found.sentence == "At least 200 jobs/s: the highest rate that was tried passed."


def test_a_system_that_holds_nothing_tried_says_why() -> None:
    """Two probes of the lowest rate are enough."""
    found = search(100.0, 200.0, lambda rate: Probe(rate, False, reason="the backlog grows"))

    assert (found.low_per_s, found.high_per_s, len(found.probes)) == (0.0, 100.0, 2)
    assert "failed twice (the backlog grows)" in found.sentence


def test_one_bad_moment_does_not_end_the_search_before_it_begins() -> None:
    """The first probe failed for some other reason: the same rate passes when it is tried again."""
    moments = iter([False])
    found = search(100.0, 10_000.0, lambda rate: Probe(rate, next(moments, rate <= 800.0)))

    assert [(probe.rate_per_s, probe.passed) for probe in found.probes[:2]] == [(100.0, False), (100.0, True)]
    assert found.high_per_s is not None
    assert found.low_per_s <= 800.0 < found.high_per_s
    assert len(found.probes) <= MOST_PROBES


def test_an_answer_that_longer_runs_do_not_confirm_says_so() -> None:
    """In short runs it held 1,000/s; in long ones it holds 500."""
    found = search(
        100.0,
        2_000.0,
        lambda rate: Probe(rate, rate <= 1_000.0),
        lambda rate: Probe(rate, rate <= 500.0, reason="" if rate <= 500.0 else "p99 of the wait is over"),
    )

    assert found.confirmed is False
    assert "Not confirmed" in found.sentence
    assert "failed in a longer run (p99 of the wait is over)" in found.sentence


def test_a_generator_that_gives_up_first_is_not_the_queue() -> None:
    """The upper end is then its own."""
    found = search(100.0, 2_000.0, lambda rate: Probe(rate, rate <= 800.0, generator_kept=rate <= 800.0))

    assert found.sentence.endswith("The upper end is the load generator's, not the queue's.")


@pytest.mark.parametrize(("low", "high"), [(0.0, 10.0), (10.0, 10.0), (10.0, float("inf"))])
def test_rates_between_which_nothing_can_be_searched_are_refused(low: float, high: float) -> None:
    """With both of them in the error."""
    with pytest.raises(ValueError, match="low_per_s must be above 0 and below high_per_s"):
        search(low, high, lambda rate: Probe(rate, True))


def test_a_probe_passes_only_if_everything_holds() -> None:
    """p99 of the wait within the objective, no growing backlog, nothing lost, the schedule kept."""
    figures = _figures(0.5)

    assert judge(50.0, figures, 1.0, generator_kept=True).passed
    assert "p99 of the wait is" in judge(50.0, figures, 0.001, generator_kept=True).reason
    assert "schedule" in judge(50.0, figures, 1.0, generator_kept=False).reason
    assert "3 accepted jobs have no end" in judge(50.0, replace(figures, unsettled=3), 1.0, generator_kept=True).reason


def test_a_probe_that_saturates_fails_and_one_that_is_too_short_does_not_pass() -> None:
    """What cannot be told is not passed."""
    growing, short = _figures(1.3), _figures(0.5, count=200)

    assert "the backlog grows" in judge(130.0, growing, 1e9, generator_kept=True).reason
    assert "waits are too few for p99" in judge(50.0, short, 1.0, generator_kept=True).reason


def _figures(load: float, count: int = 2000) -> Summary:
    rows = one_server(np.random.default_rng(3), count, load)
    return summary(rows.jobs, rows.attempts, rows.backlog)
