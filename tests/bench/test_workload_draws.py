"""The jobs of a run: drawn as their models say, each column on its own, and the same for the same seed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from allocator.bench.draws import draw_jobs
from allocator.bench.plan import Plan, plan
from tests.bench.workloads import a_workload

UNLIKELY = 1e-4
"""See test_workload_arrivals."""

MANY: dict[str, Any] = {"duration_s": None, "jobs": 20_000}
MIXED: dict[str, Any] = MANY | {
    "types": {"json": 1, "media": 3},
    "priorities": {-5: 1, 0: 1, 5: 2},
    "payload_bytes": {"model": "uniform", "low_bytes": 10, "high_bytes": 19},
    "service": {"model": "exponential", "mean_s": 0.01},
    "delay": {"model": "exponential", "mean_s": 1},
    "delayed_share": 0.25,
    "failure": {"p_error": [0.3, 0.1], "p_poison": 0.01},
}


def share(mask: Any, expected: float) -> bool:
    """Whether so large a share is within five standard errors of what is expected."""
    return abs(float(np.mean(mask)) - expected) < 5 * np.sqrt(expected * (1 - expected) / len(mask))


def test_the_same_seed_gives_the_same_bytes() -> None:
    """Two plans of one document are equal to the last bit, and those of two seeds are not."""
    workload = a_workload(**MIXED)

    assert plan(workload).hash == plan(workload).hash
    assert plan(workload.changed(seed=2)).hash != plan(workload).hash


def test_a_seed_means_the_same_in_every_release() -> None:
    """Which jobs fail is written down here: a run of today can be replayed tomorrow."""
    jobs = draw_jobs(a_workload(duration_s=None, jobs=12, types={"a": 1, "b": 1}, failure={"p_error": 0.5}))

    assert "".join(jobs["type"]) == "abaababaabba"
    assert jobs["fates"].tolist() == ["", "e", "", "e", "", "e", "eee", "e", "", "", "eee", ""]


@pytest.mark.parametrize(
    ("fields", "column"),
    [
        ({"types": {"other": 1}}, "type"),
        ({"priorities": {7: 1}}, "priority"),
        ({"payload_bytes": {"model": "constant", "bytes": 3}}, "payload_bytes"),
        ({"service": {"model": "lognormal", "median_s": 0.02, "sigma": 1}}, "service_s"),
        ({"delay": {"model": "constant", "seconds": 9}}, "delay_s"),
        ({"failure": {"p_error": 0.9}}, "fates"),
        ({"arrival": {"model": "constant", "rate_per_s": 3}}, "intended_at"),
    ],
)
def test_a_change_of_one_model_leaves_the_others_alone(fields: dict[str, Any], column: str) -> None:
    """Only its own column is drawn anew, so that two arms of a comparison differ in one thing."""
    before, after = draw_jobs(a_workload(**MIXED)), draw_jobs(a_workload(**MIXED | fields))

    changed = [name for name in before if not before[name].equals(after[name])]

    assert changed == [column]


def test_a_longer_run_begins_with_the_jobs_of_the_shorter() -> None:
    """Every draw of job number n is the same however many follow."""
    short, long = draw_jobs(a_workload(**MIXED | {"jobs": 500})), draw_jobs(a_workload(**MIXED))

    assert long.head(500).equals(short)


def test_a_workload_draws_the_same_in_whatever_order_its_weights_are_written() -> None:
    """Equal documents, equal draws."""
    turned = {"types": {"media": 3, "json": 1}, "priorities": {5: 2, -5: 1, 0: 1}}

    assert plan(a_workload(**MIXED | turned)).hash == plan(a_workload(**MIXED)).hash


def test_weights_are_shares() -> None:
    """Types and priorities come as often as they should, and what has no weight never."""
    jobs = draw_jobs(a_workload(**MIXED | {"types": {"a": 0, "json": 1, "media": 3, "z": 0}}))

    assert share(jobs["type"] == "media", 0.75)
    assert set(jobs["type"]) == {"json", "media"}
    assert share(jobs["priority"] == 5, 0.5)
    assert share(jobs["priority"] == -5, 0.25)


@pytest.mark.parametrize(
    ("model", "distribution"),
    [
        ({"model": "exponential", "mean_s": 0.02}, stats.expon(scale=0.02)),
        ({"model": "lognormal", "median_s": 0.02, "sigma": 0.7}, stats.lognorm(0.7, scale=0.02)),
        ({"model": "uniform", "low_s": 0.01, "high_s": 0.03}, stats.uniform(0.01, 0.02)),
    ],
    ids=["exponential", "lognormal", "uniform"],
)
def test_service_times_follow_their_model(model: dict[str, Any], distribution: Any) -> None:
    """By the test of Kolmogorov and Smirnov."""
    jobs = draw_jobs(a_workload(service=model, **MANY))

    assert stats.kstest(jobs["service_s"], distribution.cdf).pvalue > UNLIKELY


def test_bimodal_and_constant_service_times_have_their_values() -> None:
    """A share of p takes a_s, the rest b_s; constant is constant."""
    bimodal = draw_jobs(a_workload(service={"model": "bimodal", "p": 0.9, "a_s": 0.01, "b_s": 1}, **MANY))["service_s"]
    constant = draw_jobs(a_workload(**MANY))["service_s"]

    assert set(bimodal) == {0.01, 1}
    assert share(bimodal == 0.01, 0.9)
    assert set(constant) == {0.01}


def test_payload_sizes_follow_their_model() -> None:
    """Both ends of a uniform size come as often as the rest; choices by weight; lognormal around its median."""
    uniform = draw_jobs(a_workload(**MIXED))["payload_bytes"]
    choice = {"model": "choice", "weights": {100: 1, 5000: 4}}
    chosen = draw_jobs(a_workload(payload_bytes=choice, **MANY))["payload_bytes"]
    lognormal = {"model": "lognormal", "median_bytes": 1000, "sigma": 1}
    spread = draw_jobs(a_workload(payload_bytes=lognormal, **MANY))["payload_bytes"]

    assert stats.chisquare(np.bincount(uniform)[10:]).pvalue > UNLIKELY
    assert (uniform.min(), uniform.max()) == (10, 19)
    assert share(chosen == 5000, 0.8)
    assert share(spread < 1000, 0.5)


def test_a_share_of_the_jobs_is_delayed() -> None:
    """The others are due at once."""
    delay_s = draw_jobs(a_workload(**MIXED))["delay_s"]

    assert share(delay_s > 0, 0.25)
    assert stats.kstest(delay_s[delay_s > 0], "expon").pvalue > UNLIKELY


def test_attempts_fail_with_the_probability_of_their_number() -> None:
    """The list gives attempts 1 and 2, and its last value holds for all later ones."""
    fates = draw_jobs(a_workload(failure={"p_error": [0.6, 0.3]}, **MANY))["fates"]

    tried_again = fates[fates.str.len() >= 1]
    tried_twice_again = fates[fates.str.len() >= 2]
    assert share(fates.str.len() >= 1, 0.6)
    assert share(tried_again.str.len() >= 2, 0.3)
    assert share(tried_twice_again.str.len() >= 3, 0.3)
    assert fates.str.len().max() == 4
    assert set("".join(fates)) == {"e"}


def test_each_way_to_fail_has_its_letter() -> None:
    """Errors, crashes and hangs at their probabilities; a poisoned job fails in all its attempts."""
    failure = {"p_error": 0.3, "p_crash": 0.2, "p_hang": 0.1, "p_poison": 0.1}
    fields = {"failure": failure, "timeout_s": 1, "workers": {"kind": "processes"}}
    fates = draw_jobs(a_workload(**fields, **MANY))["fates"]

    poisoned = fates == "pppp"
    first = fates[~poisoned].str[:1]
    assert share(poisoned, 0.1)
    assert not fates[~poisoned].str.contains("p").any()
    for letter, expected in (("e", 0.3), ("c", 0.2), ("h", 0.1), ("", 0.4)):
        assert share(first == letter, expected)


def test_the_first_k_attempts_of_every_job_fail() -> None:
    """All of the first two, none of the others."""
    fates = draw_jobs(a_workload(failure={"first_k": 2}, **MANY))["fates"]

    assert set(fates) == {"ee"}


def test_more_retries_change_nothing_of_the_attempts_before() -> None:
    """The fates with one retry are the beginnings of those with five."""
    failing = MANY | {"failure": {"p_error": 0.5, "p_poison": 0.1}}
    few = draw_jobs(a_workload(retry={"max_retries": 1}, **failing))["fates"]
    more = draw_jobs(a_workload(retry={"max_retries": 5}, **failing))["fates"]

    assert more.str[:2].tolist() == few.tolist()


def test_jobs_of_the_warm_up_are_marked() -> None:
    """Those that arrive before its end, which is excluded."""
    jobs = draw_jobs(a_workload(arrival={"model": "constant", "rate_per_s": 2}, duration_s=3, warmup_s=1))

    assert jobs["warmup"].tolist() == [True, True, False, False, False, False]


def test_a_plan_comes_back_from_its_file(tmp_path: Path) -> None:
    """With the same jobs, types of columns, hash and capacity."""
    planned = plan(a_workload(**MIXED))
    planned.write(tmp_path / "plan.parquet")

    read = Plan.read(tmp_path / "plan.parquet", planned.workload)

    assert read.jobs.equals(planned.jobs)
    assert read.hash == planned.hash
    assert read.capacity == planned.capacity
