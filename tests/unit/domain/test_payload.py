"""What may be a payload, and why the rest is refused."""

import collections
import datetime
import enum
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator import InvalidJob
from allocator.domain.payload import MAX_DEPTH, check_payload

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


class Name(str):
    """Text that is more than text."""


class Kind(enum.StrEnum):
    """Text that is one of a few."""

    A = "a"


class Number(int):
    """An integer that is more than one."""


def nested(depth: int) -> list[Any]:
    """So many lists in one another."""
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


@given(json_values)
def test_whatever_json_can_say_is_accepted(value: Any) -> None:
    """And holds no tuple."""
    assert check_payload(value) is False


@pytest.mark.parametrize(
    ("value", "has_tuples"),
    [((), True), ([()], True), ({"a": [{"b": (1,)}]}, True), ([[1], {"a": []}], False), ({"a": 1}, False)],
)
def test_it_tells_whether_there_are_tuples(value: Any, has_tuples: bool) -> None:
    """Which come back as lists."""
    assert has_tuples is check_payload(value)


@pytest.mark.parametrize(
    ("value", "path", "problem"),
    [
        (math.nan, "payload", "nan is not JSON"),
        ({"a": math.inf}, "payload.a", "inf is not JSON"),
        ([1, [2, -math.inf]], "payload[1][1]", "-inf is not JSON"),
        ({"a": {"b": [0, {"c": b"x"}]}}, "payload.a.b[1].c", "a bytes is not JSON"),
        ({"rows": [{}, {"when": datetime.date(2026, 1, 1)}]}, "payload.rows[1].when", "a date is not JSON"),
        ((1, {2}), "payload[1]", "a set is not JSON"),
        (object, "payload", "a type is not JSON"),
        ({"f": len}, "payload.f", "a builtin_function_or_method is not JSON"),
        ({"a": Kind.A}, "payload.a", "a Kind is not JSON"),
        ({"a": Name("x")}, "payload.a", "a Name is not JSON"),
        ({"a": Number(1)}, "payload.a", "a Number is not JSON"),
        ({"a": 1j}, "payload.a", "a complex is not JSON"),
        ({"a": range(3)}, "payload.a", "a range is not JSON"),
        ({1: "a"}, "payload", "key 1 is a int; JSON keys are strings"),
        ({"a": {None: 1}}, "payload.a", "key None is a NoneType"),
        ([{True: 1}], "payload[0]", "key True is a bool"),
        ({"a": {b"k": 1}}, "payload.a", "key b'k' is a bytes"),
        ({Name("k"): 1}, "payload", "key 'k' is a Name"),
        ("\ud800", "payload", "a lone surrogate at position 0"),
        ({"a": ["ok", "ab\udfff"]}, "payload.a[1]", "a lone surrogate at position 2"),
        ({"a": {"x\ud800": 1}}, r"payload.a.x\ud800", "a lone surrogate at position 1"),
        (nested(MAX_DEPTH + 1), "payload" + "[0]" * MAX_DEPTH, "nested deeper than 200 levels"),
    ],
)
def test_what_json_cannot_carry_is_refused_with_its_place(value: Any, path: str, problem: str) -> None:
    """The path leads to the value, whatever its kind; the text can be printed anywhere."""
    with pytest.raises(InvalidJob) as caught:
        check_payload(value)

    assert path == caught.value.field
    assert str(caught.value).startswith(f"{path}: {problem}")
    assert str(caught.value).encode()


def test_the_deepest_nesting_is_accepted() -> None:
    """The limit itself is within it."""
    assert check_payload(nested(MAX_DEPTH)) is False


def test_subclasses_of_containers_are_accepted() -> None:
    """An ordered or a default dictionary is an object like any other."""
    value = collections.OrderedDict(a=collections.defaultdict(int, b=1), c=collections.Counter("x"))

    assert check_payload(value) is False


def test_the_field_can_be_named() -> None:
    """For what is no payload and must be JSON all the same."""
    with pytest.raises(InvalidJob) as caught:
        check_payload({"a": [math.nan]}, field="result")

    assert caught.value.field == "result.a[0]"
