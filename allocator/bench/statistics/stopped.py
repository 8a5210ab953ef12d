"""
The self-test of the harness: a server that is stopped for a known time must show in the percentiles as it must.

A stop of S seconds in a run of T seconds under a steady schedule holds up everything that was intended within it, from
S seconds down to nothing. A share x of the run's operations is then late by more than S - x T, so p(1 - x) = S - x T.
What is timed from the actual send hides it.
"""

from dataclasses import dataclass

from allocator.bench.statistics.percentiles import Values, percentile

TOLERANCE_S = 0.05
"""A stop takes and ends when the kernel gets to it, and what piled up takes time to be worked off."""


@dataclass(frozen=True)
class SelfTest:
    """
    What a stop did to a percentile.

    Args:
        measured_s: None where there are too few values.
    """

    passed: bool
    expected_s: float
    measured_s: float | None
    sentence: str


def expected_s(stop_s: float, run_s: float, probability: float) -> float:
    """p(1 - x) = S - x T; 0 where the percentile lies outside of the stop. For S = 2 and T = 10, p99 is 1.9 s."""
    if not 0 < stop_s <= run_s:
        raise ValueError(f"stop_s must be above 0 and at most run_s ({run_s:g}), not {stop_s:g}")
    return max(0.0, stop_s - (1 - probability) * run_s)


def self_test(
    latencies_s: Values, stop_s: float, run_s: float, probability: float = 0.99, tolerance_s: float = TOLERANCE_S
) -> SelfTest:
    """
    Judge the latencies of a run whose server was stopped once.

    Args:
        latencies_s: From the intended send, of every operation of the run.
        run_s: The length of the schedule.
        probability: Of a percentile that lies within the stop.
    """
    expected, measured = expected_s(stop_s, run_s, probability), percentile(latencies_s, probability)
    if not expected:
        raise ValueError(
            f"p{probability * 100:g} of a run of {run_s:g} s lies outside of a stop of {stop_s:g} s: stop it for longer"
        )
    name = f"p{probability * 100:g} under a stop of {stop_s:g} s in {run_s:g} s"
    if measured is None:
        return SelfTest(False, expected, None, f"{name}: {len(latencies_s):,} operations are too few.")
    passed = abs(measured - expected) <= tolerance_s
    word = "as it must be" if passed else "the harness hides or invents delay"
    sentence = f"{name}: {measured:.3f} s measured, {expected:.3f} s expected within {tolerance_s:g} s; {word}."
    return SelfTest(passed, expected, measured, sentence)
