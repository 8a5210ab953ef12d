"""The states of a job, and the changes between them."""

from allocator import State
from allocator.domain.states import TRANSITIONS, WAITING


def test_every_state_has_its_transitions() -> None:
    """And leads only to other states."""
    assert set(State) == set(TRANSITIONS)
    assert all(state not in after for state, after in TRANSITIONS.items())


def test_done_and_cancelled_are_final() -> None:
    """Nothing leads out of them, and out of every other state something does."""
    final = {state for state, after in TRANSITIONS.items() if not after}

    assert {State.DONE, State.CANCELLED} == final


def test_every_job_can_come_to_an_end() -> None:
    """From wherever it is, done can be reached, except from what is final."""
    reached = {State.DONE}
    for _ in State:
        reached |= {state for state, after in TRANSITIONS.items() if after & reached}

    assert set(State) - {State.CANCELLED} == reached


def test_only_what_is_leased_is_done() -> None:
    """Nobody finishes a job without the right to try it."""
    assert {State.LEASED} == {state for state, after in TRANSITIONS.items() if State.DONE in after}
    assert {State.READY} == {state for state, after in TRANSITIONS.items() if State.LEASED in after}


def test_a_state_is_its_name() -> None:
    """So that it can be printed, compared and stored as text."""
    assert str(State.READY) == "ready"
    assert {"ready": 1}[State.READY] == 1
    assert State("dead") == State.DEAD
    assert {State.READY, State.SCHEDULED} == WAITING
