"""The self-test of the harness: what a stop of a known time must do to percentiles."""

import numpy as np
import pytest

from allocator.bench.statistics.percentiles import Values
from allocator.bench.statistics.stopped import expected_s, self_test


def stopped(from_intended: bool) -> Values:
    """200 operations a second for 10 s, 1 ms each, one at a time, by a server that stood still from 4 s to 6 s."""
    intended = np.arange(2000) / 200
    latencies = np.empty(2000)
    free_at = 0.0
    for number, due in enumerate(intended):
        sent = max(due, free_at)
        free_at = max(sent, 6.0 if 4.0 <= sent < 6.0 else sent) + 0.001
        latencies[number] = free_at - (due if from_intended else sent)
    return latencies


@pytest.mark.parametrize(
    ("stop_s", "probability", "expected"), [(2.0, 0.99, 1.9), (2.0, 0.9, 1.0), (2.0, 0.8, 0.0), (2.0, 0.5, 0.0)]
)
def test_the_formula(stop_s: float, probability: float, expected: float) -> None:
    """p(1 - x) = S - x T, for S = 2 s and T = 10 s; outside of the stop it is nothing."""
    assert expected_s(stop_s, 10.0, probability) == pytest.approx(expected, abs=1e-9)


def test_timing_from_the_intended_send_shows_the_stop() -> None:
    """p99 is 1.9 s, and a little for what piled up."""
    found = self_test(stopped(from_intended=True), 2.0, 10.0, tolerance_s=0.1)

    assert found.passed, found.sentence
    assert found.expected_s == pytest.approx(1.9)


def test_timing_from_the_actual_send_hides_it_and_fails() -> None:
    """One operation in 2,000 took long, the others were sent after it."""
    found = self_test(stopped(from_intended=False), 2.0, 10.0)

    assert not found.passed
    assert found.measured_s == pytest.approx(0.001)
    assert "hides or invents delay" in found.sentence


def test_too_few_operations_do_not_pass() -> None:
    """p99 takes 1,000."""
    found = self_test(stopped(from_intended=True)[:999], 2.0, 10.0)

    assert (found.passed, found.measured_s) == (False, None)


def test_a_percentile_outside_of_the_stop_is_refused() -> None:
    """It would say nothing; nor would a stop longer than the run."""
    with pytest.raises(ValueError, match="stop it for longer"):
        self_test(stopped(from_intended=True), 0.05, 10.0)
    with pytest.raises(ValueError, match="stop_s must be above 0 and at most run_s"):
        expected_s(11.0, 10.0, 0.99)
