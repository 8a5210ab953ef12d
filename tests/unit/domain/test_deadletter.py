"""Texts that any store accepts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.domain.deadletter import trim_text


@pytest.mark.parametrize(
    ("text", "limit", "trimmed"),
    [
        ("", 10, ""),
        ("short", 10, "short"),
        ("x" * 10, 10, "x" * 10),
        ("0123456789A", 10, "[cut] 789A"),
        ("a\0b", 10, r"a\0b"),
        ("\udce4", 10, r"\udce4"),
        ("üüüüüüüü", 16, "üüüüüüüü"),
        ("üüüüüüüüü", 16, "[cut] üüüüü"),
        ("üüüüüüüüü", 15, "[cut] üüüü"),
        ("\0" * 8, 10, r"[cut] \0\0"),
    ],
)
def test_the_end_is_kept(text: str, limit: int, trimmed: str) -> None:
    """Within the limit in bytes, whole characters only, NUL and lone surrogates written out."""
    assert trimmed == trim_text(text, limit)


@given(st.text(st.characters(exclude_categories=())), st.integers(10, 200))
def test_any_text_becomes_one_that_can_be_stored(text: str, limit: int) -> None:
    """Valid UTF-8, no NUL, not longer than asked."""
    trimmed = trim_text(text, limit)

    assert len(trimmed.encode()) <= limit
    assert "\0" not in trimmed
    assert trimmed == trim_text(trimmed, limit)
