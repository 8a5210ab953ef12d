"""Gates pass a run that was recorded well, and fail one whose generator, recorder or clocks did not work."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from allocator.bench.statistics.gates import (
    BOOT,
    DRIFT,
    LARGEST,
    LATENESS,
    LITTLE,
    NEGATIVE,
    UTILISATION,
    Clocks,
    Gate,
    Status,
    clock_gates,
    gates,
    largest_gate,
    lateness_gate,
    negative_gate,
)
from allocator.bench.statistics.percentiles import SHOWN, Latency
from allocator.bench.statistics.summary import summary
from tests.bench.statistics.runs import Rows, by_hand, one_server

HERE = Clocks(frozenset({"boot-1"}), 0.5, 0.5002)


def a_run() -> Rows:
    """At a utilisation of 0.7, recorded without a fault."""
    return one_server(np.random.default_rng(7), 4000, 0.7)


def judged(rows: Rows, clocks: Clocks | None = HERE) -> dict[str, Gate]:
    """Name -> gate."""
    figures = summary(rows.jobs, rows.attempts, rows.backlog)
    return {gate.name: gate for gate in gates(rows.jobs, rows.attempts, rows.backlog, figures, clocks)}


def test_a_run_that_was_recorded_well_passes_every_gate() -> None:
    """Each by its name, with a sentence."""
    found = judged(a_run())

    assert list(found) == [LATENESS, LITTLE, UTILISATION, NEGATIVE, LARGEST, BOOT, DRIFT]
    assert {gate.status for gate in found.values()} == {Status.PASSED}
    assert all(gate.sentence.endswith(".") for gate in found.values())


def _late_generator(rows: Rows) -> None:
    # Stopped for two seconds, it sends late what was due: the queue waits for none of it.
    for column in ("enqueue_started_at", "enqueued_at", "settled_at"):
        stalled = rows.jobs["intended_at"].between(20.0, 22.0)
        rows.jobs.loc[stalled, column] += 22.0 - rows.jobs.loc[stalled, "intended_at"]


def _lost_ends(rows: Rows) -> None:
    # A recorder that loses a fifth of the ends keeps those jobs in the system for ever.
    rows.jobs.loc[::5, "settled_at"] = np.nan


def _late_leases(rows: Rows) -> None:
    rows.attempts["leased_at"] -= 0.004
    rows.attempts["due_at"] -= 0.004


def _unheard_ends(rows: Rows) -> None:
    rows.attempts.loc[::5, "settled_at"] = np.nan


def _leases_twice(rows: Rows) -> None:
    rows.attempts = pd.concat([rows.attempts, rows.attempts.iloc[::5]], ignore_index=True)


def _turned_clock(rows: Rows) -> None:
    rows.attempts.loc[100, "finished_at"] = rows.attempts.loc[100, "started_at"] - 0.25


@pytest.mark.parametrize(
    ("harm", "name"),
    [
        pytest.param(_late_generator, LATENESS, id="the generator was stopped"),
        pytest.param(_lost_ends, LITTLE, id="ends of jobs are lost"),
        pytest.param(_late_leases, UTILISATION, id="leases are recorded too early"),
        pytest.param(_unheard_ends, UTILISATION, id="ends of attempts are lost"),
        pytest.param(_leases_twice, UTILISATION, id="attempts are recorded twice"),
        pytest.param(_turned_clock, NEGATIVE, id="a clock turned back"),
    ],
)
def test_what_is_wrong_with_a_recording_fails_its_gate(harm: Callable[[Rows], None], name: str) -> None:
    """And no other run would have failed there."""
    rows = a_run()
    harm(rows)

    assert judged(rows)[name].status is Status.FAILED


@pytest.mark.parametrize("settled_after", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("law", [LITTLE, UTILISATION])
def test_a_job_leaves_somewhere_between_the_end_of_its_attempt_and_the_reply(law: str, settled_after: float) -> None:
    """Much of its time there is the settling; the samples are right wherever in it the queue lets go."""
    rows = a_run()
    settling_s = 0.008
    rows.attempts["settled_at"] += settling_s
    rows.jobs["settled_at"] = rows.attempts["settled_at"]
    at, ends = rows.backlog["at"], np.sort(rows.attempts["finished_at"] + settled_after * settling_s)
    begun = np.searchsorted(np.sort(rows.attempts["leased_at"]), at, "right")
    rows.backlog["leased"] = begun - np.searchsorted(ends, at, "right")

    assert judged(rows)[law].status is Status.PASSED


def test_the_least_negative_interval_is_named() -> None:
    """Which duration of which job, and how many there are."""
    rows = a_run()
    _turned_clock(rows)

    gate = negative_gate(rows.jobs, rows.attempts)

    assert gate.value == pytest.approx(-0.25)
    assert "1 durations are negative; the least is attempts.service_s of job j100: -0.250000 s" in gate.sentence


def test_what_the_clocks_are_known_to_is_no_fault() -> None:
    """A wait of minus half a millisecond, where the server's clock is known to a millisecond."""
    rows = by_hand([{"job": "a"}], [{"job": "a", "due_at": 1.0, "leased_at": 0.9995}])

    assert negative_gate(rows.jobs, rows.attempts).status is Status.FAILED
    assert negative_gate(rows.jobs, rows.attempts, tolerance_s=0.001).status is Status.PASSED


@pytest.mark.parametrize(("late_s", "status"), [(0.19, Status.PASSED), (0.21, Status.FAILED)])
def test_a_generator_may_add_a_fifth_to_p99(late_s: float, status: Status) -> None:
    """1 s from the actual send, and the delay that a job asked for is no latency."""
    rows = by_hand(
        [
            {"job": str(n), "delay_s": 5.0, "enqueue_started_at": late_s, "settled_at": 6.0 + late_s}
            for n in range(1000)
        ],
        [],
    )

    gate = lateness_gate(rows.jobs)

    assert (gate.status, gate.value) == (status, pytest.approx(late_s))
    assert gate.sentence.startswith("p99 is")


@pytest.mark.parametrize(("count", "name"), [(999, "p90"), (99, "p50"), (19, "Not applicable")])
def test_fewer_jobs_are_judged_at_a_lower_percentile(count: int, name: str) -> None:
    """The highest that they are enough for."""
    rows = by_hand([{"job": str(n), "settled_at": 1.0} for n in range(count)], [])

    assert lateness_gate(rows.jobs).sentence.startswith(name)


def test_laws_do_not_apply_to_a_run_that_was_not_steady() -> None:
    """Of a saturated run they say nothing, and do not fail it."""
    found = judged(one_server(np.random.default_rng(1), 3000, 1.3))

    assert {found[name].status for name in (LITTLE, UTILISATION)} == {Status.NOT_APPLICABLE}


def test_laws_do_not_apply_to_a_run_under_faults() -> None:
    """However steady it looks: a lease that was lost is held by nobody, whatever its holder believed."""
    rows = a_run()
    figures = summary(rows.jobs, rows.attempts, rows.backlog)

    found = {gate.name: gate for gate in gates(rows.jobs, rows.attempts, rows.backlog, figures, HERE, disturbed=True)}

    for name in ("Little's law", "utilisation law"):
        assert found[name].status is Status.NOT_APPLICABLE
    assert found["no negative interval"].status is Status.PASSED


def test_a_perfect_recording_seldom_fails_a_law() -> None:
    """Polled at 10 Hz for some 25 s, forty times: it is often 5 % off, and within the noise of sampling."""
    failed, beyond = 0, 0
    for seed in range(40):
        found = judged(one_server(np.random.default_rng(seed), 2000, 0.7))
        laws = [found[LITTLE], found[UTILISATION]]
        failed += sum(gate.status is Status.FAILED for gate in laws)
        beyond += sum((gate.value or 0.0) > 0.05 for gate in laws)

    assert failed <= 2
    assert beyond > failed


def test_a_table_out_of_order_fails() -> None:
    """A maximum below p99.9 can only be a mistake of the arithmetic."""
    ladder = dict(zip(SHOWN, [1.0, 2.0, 3.0, 4.0, 5.0], strict=True))
    right, wrong = (Latency(10_000, 0, 1.0, top, dict(ladder)) for top in (5.0, 4.9))

    assert largest_gate({"wait": right}).status is Status.PASSED
    assert largest_gate({"wait": wrong}).status is Status.FAILED
    assert largest_gate({}).status is Status.NOT_APPLICABLE


@pytest.mark.parametrize(
    ("clocks", "statuses"),
    [
        pytest.param(HERE, [Status.PASSED, Status.PASSED], id="one boot, steady clocks"),
        pytest.param(
            Clocks(frozenset({"a", "b"}), 0.0, 0.0), [Status.FAILED, Status.PASSED], id="recordings of two boots"
        ),
        pytest.param(
            Clocks(frozenset({"a"}), 0.0, 0.002), [Status.PASSED, Status.FAILED], id="a server's clock that drifts"
        ),
        pytest.param(Clocks(frozenset({"a"})), [Status.PASSED, Status.NOT_APPLICABLE], id="no server"),
        pytest.param(Clocks(frozenset()), [Status.NOT_APPLICABLE] * 2, id="nothing noted"),
    ],
)
def test_clocks_are_judged_by_boot_and_drift(clocks: Clocks, statuses: list[Status]) -> None:
    """CLOCK_MONOTONIC compares within a boot; a server's clock is converted by its offset."""
    assert [gate.status for gate in clock_gates(clocks)] == statuses
