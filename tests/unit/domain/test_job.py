"""A job, its rules and its record."""

import math
from typing import Any

import msgspec
import pytest

from allocator import AllocatorError, Backoff, InvalidJob, Job
from allocator.domain.job import MAX_DELAY_S, MAX_META_BYTES, MAX_PAYLOAD_BYTES, check_id, prepare, restore


def test_a_job_needs_only_a_type() -> None:
    """The rest has the defaults that the contract names."""
    job = Job(type="json")

    assert (
        job.payload,
        job.priority,
        job.max_retries,
        job.delay,
        job.timeout,
        job.meta,
        job.id,
        job.backoff,
        job.failed_count,
        job.enqueued_at,
    ) == (None, 0, 3, 0.0, None, {}, "", None, 0, None)


def test_fields_are_given_by_name() -> None:
    """Positions would be guessed."""
    with pytest.raises(TypeError):
        Job("json")  # type: ignore[call-arg]


def test_meta_is_of_each_job_its_own() -> None:
    """A default is not shared."""
    one, other = Job(type="json"), Job(type="json")

    one.meta["a"] = "b"

    assert other.meta == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "x"},
        {"type": "x" * 200},
        {"type": "ünï"},
        {"priority": -1000},
        {"priority": 1000},
        {"max_retries": 0},
        {"max_retries": 1_000_000},
        {"delay": 0},
        {"delay": MAX_DELAY_S},
        {"timeout": 0.001},
        {"timeout": MAX_DELAY_S},
        {"id": "a"},
        {"id": "x" * 200},
        {"backoff": Backoff(base=2.0)},
        {"failed_count": 1_000_000},
        {"meta": {"": ""}},
        {"meta": {"k": "v" * (MAX_META_BYTES - len('{"k":""}'))}},
        {"payload": "x" * (MAX_PAYLOAD_BYTES - 2)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_is_within_bounds_is_accepted(changes: dict[str, Any]) -> None:
    """The bounds included."""
    job = Job(**{"type": "json", **changes})

    stored, record = prepare(job)

    assert record
    for field, value in changes.items():
        assert value == getattr(stored, field)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("type", ["", None, 7, b"json", "x" * 201, "\ud800"]),
        ("priority", [-1001, 1001, 0.0, False, 1.5, "1", None, True, math.nan, 10**30]),
        ("max_retries", [-1, 1_000_001, 1.0, None, True, "3"]),
        ("failed_count", [-1, 1_000_001, 1.0, 0.0, None, True, False, ""]),
        ("delay", [-1, -0.001, MAX_DELAY_S + 1, math.nan, math.inf, "1", "", None, True, False]),
        ("timeout", [0, -1.0, MAX_DELAY_S + 1, math.nan, math.inf, "1", True]),
        ("backoff", [2.0, (1, 2), {"base": 1}, "1-2-4"]),
        ("id", ["a b", "a\n", "\t", "a\0", "x" * 201, None, 7, 0, b"a", b"", "\ud800", "\u2028"]),
        ("meta", [None, [], (), "", "a", 0, 7, {"k": "v" * (MAX_META_BYTES - len('{"k":""}') + 1)}]),
        ("payload", ["x" * (MAX_PAYLOAD_BYTES - 1), math.nan, b"x", {1}]),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_name(field: str, values: list[Any]) -> None:
    """Every field, whatever the kind of wrong; the error is a ValueError too."""
    for value in values:
        with pytest.raises(InvalidJob, match=f"^{field}: ") as caught:
            prepare(Job(**{"type": "json", field: value}))
        assert field == caught.value.field
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value, AllocatorError)


@pytest.mark.parametrize(
    ("meta", "field"),
    [
        ({"n": 1}, "meta.n"),
        ({"n": None}, "meta.n"),
        ({"n": ["a"]}, "meta.n"),
        ({1: "n"}, "meta.1"),
        ({"n": "\ud800"}, "meta.n"),
        ({"\ud800": "n"}, "meta.'\\ud800'"),
    ],
)
def test_meta_maps_text_to_text(meta: Any, field: str) -> None:
    """The error names the entry."""
    with pytest.raises(InvalidJob) as caught:
        prepare(Job(type="json", meta=meta))

    assert field == caught.value.field


@pytest.mark.parametrize("field", ["priority", "delay", "type"])
def test_the_error_shows_what_came(field: str) -> None:
    """And what would be right."""
    job = Job(**{"type": "json", field: -12345})  # type: ignore[arg-type]

    with pytest.raises(InvalidJob, match=r"must be .*, not -12345$"):
        prepare(job)


def test_the_record_is_strict_json_without_id_and_instants() -> None:
    """Defaults take no room; what is stored elsewhere is not in it."""
    job = Job(type="json", payload={"n": 1, "ü": [None, 2**70]}, id="a", enqueued_at=5.0)

    _, record = prepare(job)

    assert '{"type":"json","payload":{"n":1,"ü":[null,1180591620717411303424]}}'.encode() == record


def test_preparing_leaves_the_callers_job_as_it_was() -> None:
    """It may be enqueued again, as another job."""
    job = Job(type="json", payload=(1, 2))

    first, _ = prepare(job)
    second, _ = prepare(job)

    assert Job(type="json", payload=(1, 2)) == job
    assert first.id != second.id
    assert first.payload == [1, 2]


def test_a_record_becomes_the_job_again() -> None:
    """With what is known besides it."""
    stored, record = prepare(Job(type="json", payload=[1], priority=3, delay=2.0, meta={"a": "b"}, id="x"))

    job = restore("x", record, 2, 99.5)

    assert msgspec.structs.replace(stored, failed_count=2, enqueued_at=99.5) == job


def test_unknown_fields_of_a_record_are_passed_over() -> None:
    """A later release may add some."""
    job = restore("x", b'{"type":"json","payload":1,"colour":{"of":"later"}}', 0, 1.0)

    assert Job(type="json", payload=1, id="x", enqueued_at=1.0) == job


@pytest.mark.parametrize("record", [b"", b"{", b"[]", b"{}", b'{"type":7}', b'{"type":"a","priority":"b"}', b"\xff"])
def test_a_damaged_record_is_an_error(record: bytes) -> None:
    """Of one kind, for the backend to catch."""
    with pytest.raises(msgspec.DecodeError):
        restore("x", record, 0, 1.0)


def test_an_empty_id_asks_for_a_new_one() -> None:
    """Any other is the caller's."""
    assert check_id("") == ""
    assert prepare(Job(type="json", id="given"))[0].id == "given"
    assert len(prepare(Job(type="json"))[0].id) == 36
