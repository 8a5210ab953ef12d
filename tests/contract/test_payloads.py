"""Point 8: payloads are strict JSON, encoded once and decoded afresh; the rest is refused in the caller."""

import datetime
import decimal
import enum
import json
import math
import random
import string
from typing import Any

import pytest

from allocator import Backoff, InvalidJob, Queue
from allocator.domain.job import MAX_META_BYTES, MAX_PAYLOAD_BYTES
from tests.contract.builders import a_job, bury, counts, take


class Colour(enum.IntEnum):
    """An integer that is more than one."""

    RED = 1


def nested(depth: int) -> Any:
    """Lists and objects in one another, so many levels of them."""
    value: Any = "core"
    for level in range(depth):
        value = [value] if level % 2 else {"in": value}
    return value


ROUND_TRIPS = {
    "null": None,
    "true": True,
    "false": False,
    "nought": 0,
    "negative": -7,
    "float": 0.1,
    "tiny": 5e-324,
    "huge": 1.7976931348623157e308,
    "minus-nought": -0.0,
    "int64": 2**63,
    "int-beyond-double": 2**53 + 1,
    "int-200-digits": 10**199 + 7,
    "int-negative-long": -(2**200),
    "empty-text": "",
    "text": "plain",
    "nul": "a\0b",
    "controls": "".join(map(chr, range(32))) + "\x7f\x85\u2028\u2029",
    "unicode": "Grüße, 世界 😀 \u0301 \uffff \U0010ffff",
    "quotes": "\"'\\/ </script> %s {} $1 ;--",
    "empty-list": [],
    "empty-object": {},
    "list": [1, "two", 3.0, None, True, [], {}],
    "object": {"a": {"b": [{"c": None}]}, "": 0, "ü\0": "ü\0", "🔑": []},
    "number-keys-as-text": {"1": 1, "1.0": 2, "true": 3},
    "order-of-keys": {"z": 1, "a": 2, "m": 3},
    "looks-like-json": '{"a": 1}',
    "long-list": list(range(5000)),
    "deep": nested(200),
}


@pytest.mark.parametrize("payload", ROUND_TRIPS.values(), ids=ROUND_TRIPS.keys())
def test_a_payload_comes_back_as_it_was(queue: Queue, payload: Any) -> None:
    """Value for value and type for type, in the lease and in the dead letter."""
    queue.enqueue(a_job(payload=payload))

    lease = take(queue)
    queue.nack(lease, "broken", dead=True)
    (letter,) = queue.dead_letters()

    for came in (lease.job.payload, letter.job.payload):
        assert payload == came
        assert repr(payload) == repr(came)


def test_a_list_of_payloads_comes_back_as_it_was(queue: Queue) -> None:
    """The way through lists of jobs is the same."""
    stored = queue.enqueue_many([a_job(payload=payload) for payload in ROUND_TRIPS.values()])

    leases = queue.dequeue_many(100, timeout=0)

    assert list(ROUND_TRIPS.values()) == [job.payload for job in stored]
    assert list(map(repr, ROUND_TRIPS.values())) == [repr(lease.job.payload) for lease in leases]


def test_random_payloads_come_back_as_they_were(queue: Queue) -> None:
    """Whatever a JSON document may hold."""
    source = random.Random(8)
    alphabet = string.printable + "äöüß€😀\0\u2028"

    def value(depth: int) -> Any:
        kind = source.randrange(8 if depth else 5)
        if kind < 5:
            text = "".join(source.choices(alphabet, k=source.randrange(9)))
            return [None, source.random() * 10 ** source.randint(-9, 9), source.getrandbits(80), text, True][kind]
        if kind < 6:
            return [value(depth - 1) for _ in range(source.randrange(5))]
        return {"".join(source.choices(alphabet, k=3)): value(depth - 1) for _ in range(source.randrange(5))}

    payloads = [value(5) for _ in range(200)]
    queue.enqueue_many([a_job(payload=payload) for payload in payloads])

    leases = queue.dequeue_many(200, timeout=0)

    assert payloads == [lease.job.payload for lease in leases]


def test_tuples_become_lists(queue: Queue) -> None:
    """In the stored job as in the lease; the caller's own is left alone."""
    given = a_job(payload={"a": (1, (2, [3, ()]))})

    stored = queue.enqueue(given)
    lease = take(queue)

    assert {"a": [1, [2, [3, []]]]} == stored.payload == lease.job.payload
    assert given.payload["a"] == (1, (2, [3, ()]))


def test_a_payload_of_exactly_one_mebibyte_is_accepted(queue: Queue) -> None:
    """Measured as encoded JSON, quotes included."""
    payload = "x" * (MAX_PAYLOAD_BYTES - 2)
    queue.enqueue(a_job(payload=payload, meta={"beside": "it"}))

    lease = take(queue)

    assert 1024 * 1024 == MAX_PAYLOAD_BYTES == len(json.dumps(payload))
    assert payload == lease.job.payload
    queue.nack(lease, "broken", dead=True)
    assert payload == queue.dead_letters()[0].job.payload


@pytest.mark.parametrize("payload", ["x" * (MAX_PAYLOAD_BYTES - 1), ["ü" * (MAX_PAYLOAD_BYTES // 2)]])
def test_a_payload_over_one_mebibyte_is_refused(queue: Queue, payload: Any) -> None:
    """One byte is enough; bytes count, not characters. The text says what to do instead."""
    with pytest.raises(InvalidJob, match=r"payload: 1,048,5\d\d bytes of JSON .* send a reference") as caught:
        queue.enqueue(a_job(payload=payload))

    assert caught.value.field == "payload"
    assert counts() == queue.counts()


def test_a_list_of_large_payloads_is_accepted(queue: Queue) -> None:
    """The limit is for a job and not for a call."""
    queue.enqueue_many([a_job(payload="x" * 1_000_000) for _ in range(8)])

    leases = queue.dequeue_many(8, timeout=0)

    assert [len(lease.job.payload) for lease in leases] == [1_000_000] * 8
    assert queue.settle(acks=leases) == []


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "nan": ({"payload": {"a": [1, math.nan]}}, "payload.a[1]"),
    "infinity": ({"payload": math.inf}, "payload"),
    "minus-infinity": ({"payload": [-math.inf]}, "payload[0]"),
    "bytes": ({"payload": {"raw": b"x"}}, "payload.raw"),
    "bytearray": ({"payload": bytearray(b"x")}, "payload"),
    "date": ({"payload": {"on": datetime.date(2026, 1, 1)}}, "payload.on"),
    "datetime": ({"payload": [datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)]}, "payload[0]"),
    "decimal": ({"payload": decimal.Decimal("1.5")}, "payload"),
    "set": ({"payload": {1, 2}}, "payload"),
    "enum": ({"payload": {"colour": Colour.RED}}, "payload.colour"),
    "object": ({"payload": object()}, "payload"),
    "integer-key": ({"payload": {"a": {1: "x"}}}, "payload.a"),
    "none-key": ({"payload": {None: "x"}}, "payload"),
    "tuple-key": ({"payload": {("a", "b"): "x"}}, "payload"),
    "surrogate": ({"payload": {"file": ["\udce4"]}}, "payload.file[0]"),
    "surrogate-key": ({"payload": {"\ud800": 1}}, "payload.\\ud800"),
    "too-deep": ({"payload": nested(201)}, "payload" + ".in[0]" * 100),
    "priority-high": ({"priority": 1001}, "priority"),
    "priority-low": ({"priority": -1001}, "priority"),
    "priority-float": ({"priority": 1.0}, "priority"),
    "priority-bool": ({"priority": True}, "priority"),
    "priority-text": ({"priority": "1"}, "priority"),
    "delay-negative": ({"delay": -0.001}, "delay"),
    "delay-nan": ({"delay": math.nan}, "delay"),
    "delay-infinite": ({"delay": math.inf}, "delay"),
    "delay-false": ({"delay": False}, "delay"),
    "delay-text": ({"delay": "1"}, "delay"),
    "type-empty": ({"type": ""}, "type"),
    "type-none": ({"type": None}, "type"),
    "type-long": ({"type": "x" * 201}, "type"),
    "type-surrogate": ({"type": "a\udc00"}, "type"),
    "retries-negative": ({"max_retries": -1}, "max_retries"),
    "retries-float": ({"max_retries": 1.5}, "max_retries"),
    "timeout-nought": ({"timeout": 0}, "timeout"),
    "timeout-negative": ({"timeout": -1.0}, "timeout"),
    "backoff": ({"backoff": 2.0}, "backoff"),
    "id-space": ({"id": "a b"}, "id"),
    "id-newline": ({"id": "a\n"}, "id"),
    "id-long": ({"id": "x" * 201}, "id"),
    "id-none": ({"id": None}, "id"),
    "id-number": ({"id": 7}, "id"),
    "meta-number": ({"meta": {"n": 1}}, "meta.n"),
    "meta-key": ({"meta": {1: "n"}}, "meta.1"),
    "meta-none": ({"meta": None}, "meta"),
    "meta-list": ({"meta": ["n"]}, "meta"),
    "meta-surrogate": ({"meta": {"file": "\udce4"}}, "meta.file"),
    "meta-long": ({"meta": {"x": "y" * MAX_META_BYTES}}, "meta"),
    "failed-none": ({"failed_count": None}, "failed_count"),
    "failed-negative": ({"failed_count": -1}, "failed_count"),
}


@pytest.mark.parametrize(("changes", "field"), REFUSED.values(), ids=REFUSED.keys())
def test_wrong_input_is_refused_in_the_caller(queue: Queue, changes: dict[str, Any], field: str) -> None:
    """The error names the field, down to the place in the payload, and nothing has left the process."""
    with pytest.raises(InvalidJob) as caught:
        queue.enqueue(a_job(**changes))

    assert field == caught.value.field
    assert str(caught.value).startswith(f"{field}: ")
    assert counts() == queue.counts()


def test_a_payload_that_holds_itself_is_refused(queue: Queue) -> None:
    """As nested too deeply, and not with a crash."""
    loop: list[Any] = []
    loop.append(loop)

    with pytest.raises(InvalidJob, match="nested deeper than 200"):
        queue.enqueue(a_job(payload=loop))


def test_meta_comes_back_as_it_was(queue: Queue) -> None:
    """Up to four kibibytes of text of any kind."""
    meta = {"": "", "traceparent": "00-" + "0" * 32, "ü\0": "NUL \0 and 世界 😀", "quotes": "\"'\\%s{}"}
    meta["fill"] = "x" * (
        MAX_META_BYTES - len(json.dumps(meta | {"fill": ""}, ensure_ascii=False, separators=(",", ":")).encode())
    )
    queue.enqueue(a_job(meta=meta))

    lease = take(queue)

    assert MAX_META_BYTES == 4096
    assert meta == lease.job.meta


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "x" * 200},
        {"type": "media/übung 😀 \0"},
        {"max_retries": 1_000_000},
        {"timeout": 0.001},
        {"timeout": 3600},
        {"backoff": Backoff(base=0.1, factor=1.5, cap=9.0, jitter=0.25, seed=3)},
        {"backoff": Backoff()},
        {"priority": -1000},
        {"priority": 1000},
    ],
    ids=["long-type", "unicode-type", "retries", "short-timeout", "timeout", "backoff", "plain-backoff", "low", "high"],
)
def test_every_field_survives_its_bounds(queue: Queue, changes: dict[str, Any]) -> None:
    """In the lease, and in the dead letter."""
    given = a_job(**changes)
    queue.enqueue(given)
    lease = take(queue)
    queue.nack(lease, "broken", dead=True)
    (letter,) = queue.dead_letters()

    for field, value in changes.items():
        assert value == getattr(lease.job, field)
        assert value == getattr(letter.job, field)


def test_a_dead_payload_is_the_one_that_was_enqueued(queue: Queue) -> None:
    """Not what a worker made of it."""
    queue.enqueue(a_job(payload={"n": 1}))
    lease = take(queue)
    lease.job.payload["n"] = 2
    queue.nack(lease, "broken", dead=True)

    assert queue.dead_letters()[0].job.payload == {"n": 1}


def test_a_payload_may_look_like_anything(queue: Queue) -> None:
    """Text that is a command, a record or a pattern elsewhere is text here."""
    texts = ["FLUSHALL", "1 0000000000000001 0 3 0\n{}", "*", "\\x00", "NULL", "\r\n$-1\r\n", "--", "€" * 500]
    bury(queue, *(a_job(payload=text, type=text[:200], meta={text: text}) for text in texts))

    letters = queue.dead_letters()

    assert texts == [letter.job.payload for letter in letters]
    assert [text[:200] for text in texts] == [letter.job.type for letter in letters]
    assert [{text: text} for text in texts] == [letter.job.meta for letter in letters]
