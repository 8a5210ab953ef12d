"""The checker on random runs of a queue on paper: it believes those that keep every promise, and finds bugs."""

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from allocator.bench.checker import History, check, check_parts
from tests.bench.simulated import BUGS, Simulation

runs = given(st.integers(0, 10**9), st.integers(1, 120))


@settings(max_examples=150, deadline=None)
@runs
def test_a_valid_run_breaks_nothing(seed: int, steps: int) -> None:
    """Whatever was delayed, failed, released, cancelled, killed, expired, or never answered."""
    history = Simulation(random.Random(seed), steps).history()

    assert check(history).told() == []


# In most short runs a bug has no chance; those are left out, however many they are.
@pytest.mark.parametrize("bug", BUGS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@runs
def test_a_bug_that_had_its_chance_is_found(bug: str, seed: int, steps: int) -> None:
    """Its promise is among those that are broken."""
    simulation = Simulation(random.Random(seed), steps, bug)
    assume(simulation.struck)

    assert BUGS[bug] in check(simulation.history()).broken()


def of_third(history: History, third: int) -> History:
    """What a history tells of every third job, or whatever is nobody's."""

    def chosen(things: Any) -> list[Any]:
        return [thing for thing in things if (int(thing.job.partition("-")[2] or 0)) % 3 == third]

    own = {name: chosen(getattr(history, name)) for name in ("enqueues", "removals", "attempts", "runs", "letters")}
    records = chosen(history.records)
    return replace(history, **own, records=records, left=sum(record.state == "ready" for record in records))


@pytest.mark.parametrize("bug", ["", *BUGS])
@settings(max_examples=15, deadline=None)
@runs
def test_a_run_in_parts_is_judged_as_the_whole(bug: str, seed: int, steps: int) -> None:
    """However its jobs are spread, each promise is as often kept, broken, or not known."""
    history = replace(Simulation(random.Random(seed), steps, bug).history(), layout=None, counts=None, found=None)
    left = sum(record.state == "ready" for record in history.records or ())

    whole = check(replace(history, left=left))
    parts = check_parts(of_third(history, third) for third in range(3))

    for promise, verdict in whole.verdicts.items():
        assert replace(parts[promise], witness="") == replace(verdict, witness="")
    assert (parts.jobs, parts.runs, parts.done, parts.dead) == (whole.jobs, whole.runs, whole.done, whole.dead)
    assert (parts.repeats, parts.most_repeats) == (whole.repeats, whole.most_repeats)
