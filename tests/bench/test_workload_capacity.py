"""Whether a plan can finish: computed from its own draws, told as utilisation, and refused where it cannot."""

from typing import Any

import numpy as np
import pytest

from allocator.bench import capacity as module
from allocator.bench.errors import InvalidWorkload
from allocator.bench.plan import plan
from tests.bench.workloads import a_workload

STEADY: dict[str, Any] = {"arrival": {"model": "constant", "rate_per_s": 10}, "duration_s": 10}
"""A hundred jobs, the last at 9.9 s; one second of work."""


def test_utilisation_is_offered_work_over_what_the_workers_can_do() -> None:
    """A second of work in ten, for four workers; for eight, half of that."""
    four, eight = plan(a_workload(**STEADY)), plan(a_workload(**STEADY, workers={"count": 4, "supervisors": 2}))

    assert four.utilisation == pytest.approx(1 / 40)
    assert eight.utilisation == pytest.approx(1 / 80)
    assert "utilisation 0.02" in four.describe()


def test_every_attempt_counts() -> None:
    """Errors and crashes cost a service time each, hangs the timeout; what outlasts its time all its attempts."""
    processes = {"workers": {"kind": "processes"}, "timeout_s": 2, "retry": {"base_s": 0}, "drain_s": 1000}

    def work_s(**fields: Any) -> float:
        return plan(a_workload(**STEADY, **processes | fields)).capacity.work_s

    assert work_s(failure={"first_k": 3}) == pytest.approx(4 * 1)
    assert work_s(failure={"p_poison": 1}) == pytest.approx(4 * 1)
    assert work_s(failure={"p_hang": [1, 0]}) == pytest.approx(100 * 2 + 1)
    assert work_s(failure={"p_crash": [1, 0]}) == pytest.approx(2 * 1)
    assert work_s(service={"model": "constant", "seconds": 3}) == pytest.approx(100 * 4 * 2)


def test_one_worker_cannot_be_done_before_the_last_departure() -> None:
    """For one worker without retries the bound is exact: the departure of a queue served one by one (Lindley, 1952)."""
    fields = {"arrival": {"model": "poisson", "rate_per_s": 90}, "service": {"model": "exponential", "mean_s": 0.01}}
    planned = plan(a_workload(**fields, workers={"count": 1}))

    free_at = 0.0
    for arrived_at, service_s in zip(planned.jobs["intended_at"], planned.jobs["service_s"], strict=True):
        free_at = max(free_at, arrived_at) + service_s

    assert planned.capacity.finished_s == pytest.approx(free_at)


def test_more_work_than_the_drain_can_hold_is_refused() -> None:
    """40 s of work in 10 s leave two workers 10 s more, less what the last gap spares: told, with the utilisation."""
    fields = STEADY | {"service": {"model": "constant", "seconds": 0.4}, "workers": {"count": 2}}

    with pytest.raises(InvalidWorkload, match=r"utilisation 2\.00.* Raise drain_s to more than 10\.0, add") as refused:
        plan(a_workload(**fields, drain_s=9.9))
    held = plan(a_workload(**fields, drain_s=10.1))

    assert refused.value.field == "drain_s"
    assert held.capacity.finished_s == pytest.approx(20)
    assert "the backlog grows" in held.describe()


@pytest.mark.parametrize("arrival", [STEADY["arrival"], {"model": "closed", "clients": 2}], ids=["open", "closed"])
def test_a_job_that_outlasts_the_drain_is_refused(arrival: dict[str, Any]) -> None:
    """One poisoned job needs 1 + 2 + 4 s between its attempts, whatever the load."""
    fields = {"arrival": arrival, "duration_s": None, "jobs": 2, "failure": {"p_poison": 1}}

    with pytest.raises(InvalidWorkload, match=r"^drain_s: .*one job takes 7\.0 s"):
        plan(a_workload(**fields, drain_s=7.0))

    assert plan(a_workload(**fields, drain_s=7.5)).capacity.longest_s == pytest.approx(7.04)


def test_delay_counts_until_the_end() -> None:
    """A job that arrives at 9.9 and is due 20 s later ends after 29.9."""
    planned = plan(a_workload(**STEADY, delay={"model": "constant", "seconds": 20}))

    assert planned.capacity.finished_s == pytest.approx(29.91)


def test_work_begins_when_jobs_are_due() -> None:
    """40 s of work for two workers, none of it due before the instant 5: not done before 25."""
    work = {"service": {"model": "constant", "seconds": 0.4}, "workers": {"count": 2}}

    planned = plan(a_workload(**STEADY | work, delay={"model": "constant", "seconds": 5}))

    assert planned.capacity.finished_s == pytest.approx(25)


def test_jitter_is_taken_at_its_least() -> None:
    """The bound stays one: full jitter may take a whole delay off."""
    fields = STEADY | {"failure": {"p_poison": 1}}

    assert plan(a_workload(**fields, retry={"jitter": 0.25})).capacity.longest_s == pytest.approx(0.75 * 7 + 0.04)
    assert plan(a_workload(**fields, retry={"jitter": 1})).capacity.longest_s == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("workers", "parallel"),
    [
        ({"kind": "threads", "count": 8, "supervisors": 1}, 1),
        ({"kind": "threads", "count": 8, "supervisors": 3}, 3),
        ({"kind": "processes", "count": 8, "supervisors": 2}, 4),
        ({"kind": "processes", "count": 2, "supervisors": 1}, 2),
    ],
)
def test_work_of_a_core_goes_on_as_often_as_there_are_cores(
    monkeypatch: pytest.MonkeyPatch, workers: dict[str, Any], parallel: int
) -> None:
    """Threads share one interpreter for each supervisor, and processes the four cores of this machine."""
    monkeypatch.setattr(module.os, "cpu_count", lambda: 4)

    assert plan(a_workload(**STEADY, work="cpu", workers=workers)).capacity.parallel == parallel


def test_a_closed_loop_has_no_utilisation() -> None:
    """It offers as much as is done; two clients keep two of four workers busy at most."""
    planned = plan(a_workload(arrival={"model": "closed", "clients": 2}, duration_s=None, jobs=100))

    assert planned.utilisation is None
    assert planned.capacity.finished_s == pytest.approx(0.5)
    assert np.isnan(planned.jobs["intended_at"]).all()
