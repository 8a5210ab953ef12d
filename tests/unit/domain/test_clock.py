"""Clocks that never go backwards."""

import time

import pytest

from allocator import ManualClock
from allocator.domain.clock import SystemClock


def test_a_manual_clock_stands_until_it_is_moved() -> None:
    """And then stands where it was moved to."""
    clock = ManualClock(100.0)
    before = clock.now()

    clock.advance(0.5)
    clock.advance(0.0)

    assert (before, clock.now()) == (100.0, 100.5)


def test_a_manual_clock_does_not_go_backwards() -> None:
    """It says so, and stays where it is."""
    clock = ManualClock(100.0)

    with pytest.raises(ValueError, match="never goes backwards"):
        clock.advance(-1.0)

    assert clock.now() == 100.0


def test_listeners_see_the_new_time() -> None:
    """Each of them, at every advance."""
    clock, seen = ManualClock(100.0), []
    clock.on_advance(lambda: seen.append(("a", clock.now())))
    clock.on_advance(lambda: seen.append(("b", clock.now())))

    clock.advance(1.0)
    clock.advance(2.0)

    assert seen == [("a", 101.0), ("b", 101.0), ("a", 103.0), ("b", 103.0)]


def test_the_system_clock_begins_at_the_wall_clock() -> None:
    """Seconds since 1970."""
    before = time.time()
    clock = SystemClock()
    now = clock.now()
    after = time.time()

    assert before - 1.0 <= now <= after + 1.0


def test_the_system_clock_ignores_a_wall_clock_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting the machine's clock neither expires leases nor keeps them."""
    clock = SystemClock()
    before = clock.now()

    monkeypatch.setattr(time, "time", lambda: before - 7200.0)
    set_back = clock.now()
    monkeypatch.setattr(time, "time", lambda: before + 7200.0)
    set_forward = clock.now()

    assert before <= set_back <= set_forward < before + 3600.0
