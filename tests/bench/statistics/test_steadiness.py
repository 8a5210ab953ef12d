"""Whether a run was steady, saturated, or neither can be told."""

import numpy as np
import pandas as pd
import pytest

from allocator.bench.statistics.steadiness import Steadiness, steadiness, time_average, utilisation
from allocator.bench.statistics.summary import summary
from tests.bench.statistics.runs import by_hand, one_server


def judged(waiting: np.ndarray, arrivals_per_s: float = 100.0) -> Steadiness:
    """Ten samples a second of a backlog."""
    at = np.arange(len(waiting)) / 10
    backlog = pd.DataFrame({"at": at, "ready": waiting, "scheduled": 0, "leased": 0})
    return steadiness(backlog, 0.0, float(at[-1]), arrivals_per_s)


def test_a_backlog_that_only_shakes_is_steady() -> None:
    """The slope's interval holds 0 and the halves agree."""
    found = judged(np.random.default_rng(1).poisson(5.0, 300))

    assert (found.steady, found.saturated) == (True, False)
    assert found.sentence.startswith("Steady")


def test_an_empty_backlog_is_steady() -> None:
    """Nothing ever waited, and nothing shakes."""
    assert judged(np.zeros(100)).steady is True


def test_a_backlog_that_grows_with_the_arrivals_is_saturated() -> None:
    """By 5 % of them."""
    found = judged(np.arange(300) * 0.5 + np.random.default_rng(2).poisson(5.0, 300))

    assert (found.steady, found.saturated) == (False, True)
    assert found.slope_per_s == pytest.approx(5.0, abs=0.2)
    assert found.sentence.startswith("Saturated")


def test_a_backlog_that_creeps_is_not_steady_and_not_saturated() -> None:
    """By half a percent of the arrivals: enough to be seen, not to call the system too slow."""
    found = judged(np.arange(300) * 0.05 + np.random.default_rng(3).poisson(5.0, 300))

    assert (found.steady, found.saturated) == (False, False)
    assert found.sentence.startswith("Not steady")


def test_halves_that_differ_are_not_steady() -> None:
    """A step in the middle, in so much up and down that no slope is certain."""
    shake = np.array([0.65, -0.65, 0.65, -0.65, 0.0])
    waiting = 100 + 10 * np.repeat(np.concatenate([shake - 1, shake[::-1] + 1]), 30)

    found = judged(waiting)

    assert found.slope_low_per_s is not None
    assert found.slope_low_per_s < 0
    assert found.halves is not None
    assert found.halves[1] - found.halves[0] == pytest.approx(20.0, abs=0.5)
    assert found.steady is False


def test_too_few_samples_tell_nothing() -> None:
    """Neither steady nor not."""
    found = judged(np.zeros(19))

    assert (found.steady, found.saturated) == (None, None)
    assert "19 samples of the backlog, 20 are needed" in found.sentence


def test_a_poller_that_stalled_tells_nothing() -> None:
    """Two tenths of the run were not sampled."""
    at = np.concatenate([np.arange(0, 4, 0.1), np.arange(6, 10, 0.1)])
    backlog = pd.DataFrame({"at": at, "ready": 0, "scheduled": 0, "leased": 0})

    found = steadiness(backlog, 0.0, 10.0, 100.0)

    assert found.steady is None
    assert "not sampled in 2 of 10 tenths" in found.sentence


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_a_queue_that_keeps_up_is_seldom_blamed(load: float) -> None:
    """Of 30 runs of M/M/1 at most two."""
    found = [_run(seed, load).steady for seed in range(30)]

    assert found.count(True) >= 28


def test_a_queue_that_cannot_keep_up_is_found() -> None:
    """Of 30 runs at a utilisation of 1.3 each."""
    found = [_run(seed, 1.3).saturated for seed in range(30)]

    assert found == [True] * 30


def _run(seed: int, load: float) -> Steadiness:
    rows = one_server(np.random.default_rng(seed), 2000, load)
    return summary(rows.jobs, rows.attempts, rows.backlog).steadiness


def test_the_time_average_of_hand_computed_intervals() -> None:
    """One from 1 to 3, one from 2 with no end, one that never began; in the seconds from 0 to 4."""
    begins, ends = np.array([1.0, 2.0, np.nan]), np.array([3.0, np.nan, 3.5])

    found = time_average(begins, ends, np.array([0.0, 1.0, 2.0, 3.0, 4.0]))

    assert found.tolist() == [0.0, 1.0, 2.0, 1.0]


def test_utilisation_counts_only_what_ran_within() -> None:
    """Two workers from 0 to 10: one job of 4 s, one that began before, one that never ended."""
    rows = by_hand(
        [{"job": name} for name in "abc"],
        [
            {"job": "a", "started_at": 2.0, "finished_at": 6.0},
            {"job": "b", "started_at": -3.0, "finished_at": 1.0},
            {"job": "c", "started_at": 9.0},
        ],
    )

    assert utilisation(rows.attempts, 0.0, 10.0, workers=2) == pytest.approx((4 + 1 + 1) / 20)
    assert utilisation(rows.attempts, 0.0, 0.0, workers=2) is None
