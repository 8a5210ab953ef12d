"""Strict JSON: what may be a payload, and why the rest is refused."""

import math

from allocator.domain.errors import InvalidJob

MAX_DEPTH = 200
"""Deepest nesting of lists and objects. Far below the recursion limits of the encoder and of every reader."""


PLAIN_TYPES = frozenset({int, bool, type(None)})
"""Types of which every value is JSON."""


class _Refused(Exception):
    """Carries the path to the offending value up through the recursion."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path: list[str] = []


def check_payload(payload: object, field: str = "payload") -> bool:
    """
    Refuse what strict JSON cannot carry unchanged, naming the place (`payload.rows[3].when`).

    Returns:
        Whether the payload holds a tuple, which comes back as a list.
    Raises:
        InvalidJob: NaN or an infinity, a key that is not a string, a lone surrogate, any type that is not
            JSON's own (bytes, dates, sets, enums, …), or nesting deeper than MAX_DEPTH.
    """
    try:
        return _check(payload, 0)
    except _Refused as refused:
        # A key may be what was wrong, and an error that cannot be printed explains nothing.
        place = "".join(reversed(refused.path)).encode("utf-8", "backslashreplace").decode()
        raise InvalidJob(field + place, refused.problem) from None


def _check(value: object, depth: int) -> bool:
    kind = type(value)
    if kind is str:
        # ASCII is known without looking; only other text can hold a lone surrogate.
        if not value.isascii():  # type: ignore[attr-defined]
            _check_text(value)  # type: ignore[arg-type]
        return False
    if kind is int or kind is bool or value is None:
        return False
    if kind is float:
        if not math.isfinite(value):  # type: ignore[arg-type]
            raise _Refused(f"{value!r} is not JSON; send null or a string instead")
        return False
    if depth >= MAX_DEPTH:
        raise _Refused(f"nested deeper than {MAX_DEPTH} levels")
    depth += 1
    if isinstance(value, dict):
        tuples = False
        for key, item in value.items():
            if type(key) is not str:
                raise _Refused(f"key {key!r} is a {type(key).__name__}; JSON keys are strings")
            if key.isascii() and type(item) in PLAIN_TYPES:
                continue
            try:
                _check_text(key)
                if _check(item, depth):
                    tuples = True
            except _Refused as refused:
                refused.path.append(f".{key}")
                raise
        return tuples
    if isinstance(value, list | tuple):
        tuples = isinstance(value, tuple)
        for index, item in enumerate(value):
            try:
                if _check(item, depth):
                    tuples = True
            except _Refused as refused:
                refused.path.append(f"[{index}]")
                raise
        return tuples
    raise _Refused(f"a {kind.__name__} is not JSON; convert it first (text, number, list or object)")


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _Refused(f"a lone surrogate at position {error.start} is not valid text") from None
