"""When jobs arrive: as each model says, the same for the same seed, and as a trace recorded it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from allocator.bench.arrivals import Poisson
from allocator.bench.draws import draw_jobs
from allocator.bench.errors import InvalidWorkload
from allocator.bench.models import Numbers
from tests.bench.workloads import a_workload

UNLIKELY = 1e-4
"""A sound model is refused this rarely; with the seeds fixed, never again once it has passed."""

ONOFF = {"model": "onoff", "on_s": 2, "off_s": 3, "on_rate_per_s": 100, "off_rate_per_s": 10}
RAMP = {"model": "ramp", "from_rate_per_s": 10, "to_rate_per_s": 90}

STEPS = {
    "model": "steps",
    "rates": [{"at_s": 0, "rate_per_s": 50}, {"at_s": 4, "rate_per_s": 0}, {"at_s": 10, "rate_per_s": 200}],
}


def instants(arrival: dict[str, Any], **fields: Any) -> Numbers:
    """Of the jobs of such a workload."""
    return draw_jobs(a_workload(arrival=arrival, **fields))["intended_at"].to_numpy()


def test_constant_arrivals_are_evenly_spaced_from_0() -> None:
    """Four a second for two seconds: eight, the instant 2 excluded."""
    at = instants({"model": "constant", "rate_per_s": 4}, duration_s=2)

    assert at.tolist() == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75]


def test_gaps_of_poisson_arrivals_are_exponential() -> None:
    """With the mean of the rate, and none beyond the end."""
    at = instants({"model": "poisson", "rate_per_s": 50}, duration_s=200)

    gaps = np.diff(at, prepend=0)

    assert stats.kstest(gaps, "expon", args=(0, 1 / 50)).pvalue > UNLIKELY
    assert at[-1] <= 200


def test_the_number_of_poisson_arrivals_is_poisson() -> None:
    """Over 300 seeds the counts of ten seconds have mean and variance 100."""
    streams = (np.random.default_rng(seed) for seed in range(300))
    counts = [len(Poisson(rate_per_s=10).instants(stream, 10, None)) for stream in streams]

    # Five standard errors of each.
    assert abs(np.mean(counts) - 100) < 5 * np.sqrt(100 / 300)
    assert abs(np.var(counts, ddof=1) - 100) < 5 * 100 * np.sqrt(2 / 299)


def test_bursts_come_and_go() -> None:
    """In each phase arrivals are Poisson at its own rate, and the first phase is a burst."""
    at = instants(ONOFF, duration_s=500)

    in_burst = at % 5 < 2
    for inside, expected in ((in_burst, 100 * 100 * 2), (~in_burst, 100 * 10 * 3)):
        assert abs(int(inside.sum()) - expected) < 5 * np.sqrt(expected)
    since_start = at[in_burst] % 5
    assert stats.kstest(since_start, "uniform", args=(0, 2)).pvalue > UNLIKELY
    assert (np.diff(at) >= 0).all()


def test_between_bursts_there_may_be_nothing() -> None:
    """With a rate of 0 outside of bursts every arrival is in one."""
    at = instants(ONOFF | {"off_rate_per_s": 0}, duration_s=None, jobs=5000)

    assert len(at) == 5000
    assert (at % 5 <= 2).all()


@pytest.mark.parametrize(("low", "high"), [(10, 90), (90, 10), (0, 80), (80, 0), (50, 50)])
def test_the_rate_of_a_ramp_changes_evenly(low: int, high: int) -> None:
    """Read on the clock of expected arrivals, a ramp in either direction is a Poisson process of rate 1."""
    at = instants({"model": "ramp", "from_rate_per_s": low, "to_rate_per_s": high}, duration_s=200)

    expected_until = low * at + (high - low) * at**2 / 400

    assert stats.kstest(np.diff(expected_until, prepend=0), "expon").pvalue > UNLIKELY
    assert abs(len(at) - 100 * (low + high)) < 5 * np.sqrt(100 * (low + high))
    assert at[-1] <= 200


def test_random_models_are_one_process_read_on_different_clocks() -> None:
    """Each arrival comes when as many were expected as a Poisson process of rate 1 had seconds, to the last digits."""
    unit = instants({"model": "poisson", "rate_per_s": 1}, duration_s=None, jobs=2000)
    bursts, ramp = instants(ONOFF, duration_s=None, jobs=2000), instants(RAMP, duration_s=30)
    steps = instants(STEPS, duration_s=15)

    cycles, rest = np.divmod(bursts, 5)
    in_bursts = cycles * 230 + np.where(rest < 2, 100 * rest, 200 + 10 * (rest - 2))
    on_ramp = 10 * ramp + 80 * ramp**2 / 60

    assert in_bursts == pytest.approx(unit)
    assert on_ramp == pytest.approx(unit[: len(ramp)])
    assert ((steps < 4) | (steps > 10)).all()
    assert np.where(steps < 4, 50 * steps, 200 + 200 * (steps - 10)) == pytest.approx(unit[: len(steps)])


@pytest.mark.parametrize(
    "arrival", [{"model": "poisson", "rate_per_s": 20}, ONOFF, STEPS], ids=["poisson", "onoff", "steps"]
)
def test_a_longer_schedule_begins_with_the_shorter(arrival: dict[str, Any]) -> None:
    """Same seed, twice the time: the same instants first."""
    short, long = instants(arrival, duration_s=50), instants(arrival, duration_s=100)

    assert long[: len(short)].tobytes() == short.tobytes()


def test_a_closed_loop_has_no_instants() -> None:
    """Its clients decide; so many jobs are drawn all the same."""
    at = instants({"model": "closed", "clients": 3}, duration_s=None, jobs=7)

    assert len(at) == 7
    assert np.isnan(at).all()


TRACES = {
    "numbers": "at_s,size\n100.0,7\n100.5,8\n100.5,9\n104.0,1\n",
    "times": "TIMESTAMP,Tokens\n2023-11-16 18:17:03.9799600,1\n2023-11-16 18:17:04.4799600,2\n"
    "2023-11-16 18:17:04.4799600,2\n2023-11-16 18:17:07.9799600,3\n",
}


@pytest.mark.parametrize("kind", TRACES)
@pytest.mark.parametrize("speed", [0.5, 1, 20])
def test_a_trace_is_replayed_at_any_speed(tmp_path: Path, kind: str, speed: float) -> None:
    """From its first instant on, whether it was written in seconds or as dates; twice as fast takes half as long."""
    (tmp_path / "trace.csv").write_text(TRACES[kind])

    at = instants({"model": "trace", "file": str(tmp_path / "trace.csv"), "speed": speed}, duration_s=None)

    assert at == pytest.approx(np.array([0, 0.5, 0.5, 4]) / speed, abs=1e-9)


def test_less_than_the_whole_trace_is_its_beginning(tmp_path: Path) -> None:
    """By number or by duration, the latter counted in time of the replay."""
    (tmp_path / "trace.csv").write_text(TRACES["numbers"])
    trace = {"model": "trace", "file": str(tmp_path / "trace.csv"), "speed": 2}

    assert instants(trace, duration_s=None, jobs=2).tolist() == [0, 0.25]
    assert instants(trace, duration_s=0.25).tolist() == [0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("at_s\n1\n3\n2.5\n", r"line 4: \(2.5\) is earlier than line 3 \(3\)"),
        ("at\n2023-11-16 18:17:04\n2023-11-16 18:17:03\n", "line 3: .* is earlier than line 2"),
        ("at_s\n1\n\n3\n", "line 3: holds nothing"),
        ("at_s\n1\nsoon\n", "line 3: holds 'soon'"),
        ("at_s\n1\n2023-11-16 18:17:04\n", "line 3: holds '2023"),
        ("at_s\n1\ninf\n", "line 3: holds 'inf'"),
        ("1\n2\n3\n", "line 1: must name the columns"),
        ("at_s\n", "holds no arrival"),
        ("", "cannot be read as CSV"),
    ],
)
def test_a_trace_that_cannot_be_replayed_is_refused_by_its_line(tmp_path: Path, text: str, told: str) -> None:
    """Out of order, no instant, no header, no arrival: the message says which line."""
    (tmp_path / "trace.csv").write_text(text)

    with pytest.raises(InvalidWorkload, match=rf"^arrival.file: .*{told}"):
        instants({"model": "trace", "file": str(tmp_path / "trace.csv")}, duration_s=None)
