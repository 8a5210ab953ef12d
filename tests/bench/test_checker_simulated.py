"""The checker on random runs of a queue on paper: it believes those that keep every promise, and finds bugs."""

import random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from allocator.bench.checker import check
from tests.bench.simulated import BUGS, Simulation

runs = given(st.integers(0, 10**9), st.integers(1, 120))


@settings(max_examples=150, deadline=None)
@runs
def test_a_valid_run_breaks_nothing(seed: int, steps: int) -> None:
    """Whatever was delayed, failed, released, cancelled, killed, expired, or never answered."""
    history = Simulation(random.Random(seed), steps).history()

    assert check(history).told() == []


@pytest.mark.parametrize("bug", BUGS)
@settings(max_examples=25, deadline=None)
@runs
def test_a_bug_that_had_its_chance_is_found(bug: str, seed: int, steps: int) -> None:
    """Its promise is among those that are broken."""
    simulation = Simulation(random.Random(seed), steps, bug)
    assume(simulation.struck)

    assert BUGS[bug] in check(simulation.history()).broken()
