"""The delay before the next attempt."""

import itertools
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator import Backoff
from allocator.domain.backoff import MAX_CAP_S


def test_by_default_it_is_one_two_four() -> None:
    """Doubled each time, up to an hour."""
    delays = [Backoff().delay(n) for n in range(1, 15)]

    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600]


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        (Backoff(base=0.5, factor=3.0), [0.5, 1.5, 4.5]),
        (Backoff(base=2.0, factor=1.0), [2.0, 2.0, 2.0]),
        (Backoff(base=8.0, factor=0.5), [8.0, 4.0, 2.0]),
        (Backoff(base=0.0), [0.0, 0.0, 0.0]),
        (Backoff(base=5.0, factor=0.0), [5.0, 0.0, 0.0]),
        (Backoff(base=4.0, cap=5.0), [4.0, 5.0, 5.0]),
        (Backoff(base=4.0, cap=0.0), [0.0, 0.0, 0.0]),
        (Backoff(base=1, factor=10), [1, 10, 100]),
    ],
)
def test_base_factor_and_cap(backoff: Backoff, delays: list[float]) -> None:
    """`base * factor**(n - 1)`, at most `cap`."""
    assert delays == [backoff.delay(n) for n in (1, 2, 3)]


@pytest.mark.parametrize("failed_count", [1024, 1025, 10_000, 1_000_000])
def test_large_numbers_do_not_overflow(failed_count: int) -> None:
    """However often a job fails, the delay is the cap; a base of nought stays nought."""
    assert Backoff().delay(failed_count) == 3600.0
    assert Backoff(base=1e300, factor=1e300).delay(failed_count) == 3600.0
    assert Backoff(base=0.0).delay(failed_count) == 0.0


@given(
    st.builds(
        Backoff,
        base=st.floats(0, 1e6),
        factor=st.floats(0, 1e3),
        cap=st.floats(0, MAX_CAP_S),
        jitter=st.floats(0, 1),
        seed=st.integers(0, 2**32),
    ),
    st.integers(1, 1000),
    st.text(max_size=5),
)
def test_a_delay_is_between_nought_and_the_cap(backoff: Backoff, failed_count: int, key: str) -> None:
    """Jitter takes off at most its share, and never adds."""
    whole = msgspec.structs.replace(backoff, jitter=0.0).delay(failed_count)

    delay = backoff.delay(failed_count, key=key)

    assert 0 <= delay <= whole <= backoff.cap
    assert delay >= whole * (1 - backoff.jitter) * (1 - 1e-12)


def test_seeded_jitter_is_reproducible() -> None:
    """The same seed, key and number give the same delay in every process; any other gives another."""
    backoff = Backoff(base=100.0, jitter=1.0, seed=7)

    delays = {
        (seed, key, n): Backoff(base=100.0, jitter=1.0, seed=seed).delay(n, key=key)
        for seed, key, n in itertools.product((7, 8), ("a", "b"), (1, 2, 3))
    }

    assert delays[7, "a", 2] == backoff.delay(2, key="a") == backoff.delay(2, key="a")
    assert len(delays) == len(set(delays.values()))
    # Written down, because a delay that changes with a release moves due times of jobs in the queue.
    assert backoff.delay(1, key="a") == 71.54504098760084


def test_jitter_without_a_seed_draws_anew() -> None:
    """Jobs that failed together do not come back together."""
    backoff = Backoff(base=100.0, jitter=0.5)

    delays = {backoff.delay(1) for _ in range(50)}

    assert len(delays) > 40
    assert all(50.0 <= delay <= 100.0 for delay in delays)


@pytest.mark.parametrize("field", ["base", "factor", "cap"])
@pytest.mark.parametrize("value", [-0.001, math.nan, math.inf, -math.inf, True])
def test_a_number_out_of_range_is_refused(field: str, value: float) -> None:
    """The text names the field and shows the value."""
    with pytest.raises(ValueError, match=rf"backoff\.{field} must be .*{value!r}"):
        Backoff(**{field: value})  # type: ignore[arg-type]


def test_a_cap_beyond_what_a_queue_takes_is_refused() -> None:
    """Ten years are the longest delay."""
    assert Backoff(base=1e9, cap=MAX_CAP_S).delay(1) == MAX_CAP_S
    with pytest.raises(ValueError, match=r"backoff\.cap must be at most .* \(ten years\)"):
        Backoff(cap=MAX_CAP_S + 1.0)


@pytest.mark.parametrize("jitter", [-0.001, 1.001, math.nan])
def test_a_jitter_that_is_no_share_is_refused(jitter: float) -> None:
    """It is between 0 and 1."""
    with pytest.raises(ValueError, match=r"backoff\.jitter must be between 0 and 1"):
        Backoff(jitter=jitter)


@pytest.mark.parametrize("failed_count", [0, -1])
def test_attempts_count_from_one(failed_count: int) -> None:
    """There is no delay after no attempt."""
    with pytest.raises(ValueError, match="failed_count counts from 1"):
        Backoff().delay(failed_count)


def test_it_is_written_down_briefly() -> None:
    """In a record only what differs from the default takes room, and it is read back."""
    backoff = Backoff(factor=3.0)

    text = msgspec.json.encode(backoff)

    assert text == b'{"factor":3.0}'
    assert backoff == msgspec.json.decode(text, type=Backoff)
