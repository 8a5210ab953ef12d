"""How figures are written."""

import pytest

from allocator.report.numbers import between, counted, shown


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0123, "s", "12.3 ms"),
        (0.00042, "s", "420 µs"),
        (0.0, "s", "0 s"),
        (61.0, "s", "61 s"),
        (600.0, "s", "10 min"),
        (1, "share", "100 %"),
        (0.9996, "share", "99.96 %"),
        (1234567.0, "jobs/s", "1,234,567 jobs/s"),
        (1234.56, "jobs/s", "1,235 jobs/s"),
        (3 * 2**20, "B", "3 MiB"),
        (0.5, "B", "0.5 B"),
        (None, "s", "–"),
        (float("nan"), "s", "–"),
    ],
)
def test_three_digits_in_the_unit_of_a_reader(value: float | None, unit: str, text: str) -> None:
    """A time in ms, a share in per cent."""
    assert shown(value, unit) == text


def test_counts_have_their_word() -> None:
    """One job, two jobs."""
    assert [counted(1, "job"), counted(2000, "job"), counted(2, "retry", "retries")] == [
        "1 job", "2,000 jobs", "2 retries",
    ]  # fmt: skip


def test_an_interval_has_two_ends() -> None:
    """Or there is none."""
    assert (between(0.01, 0.02, "s"), between(None, 0.02, "s")) == ("10 ms to 20 ms", "")
