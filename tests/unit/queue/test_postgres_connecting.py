"""What stands between the backend and libpq: URLs, binary values, the signatures of the SQL files, error codes."""

from importlib import resources

import pytest

from allocator import NewerVersion, QueueDamaged, QueueFull, QueueUnavailable
from allocator.queue.postgres.connecting import (
    ENCODERS,
    SCHEMA,
    addresses,
    explained,
    instant,
    integer,
    statements,
)
from allocator.queue.sessions import ConnectionLost, masked

WHERE = "postgresql://localhost/base"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hunter2@localhost:5432/base",
        "postgresql://localhost/base?user=me&password=hunter2",
        "host=localhost user=me password=hunter2",
    ],
)
def test_a_password_is_never_shown(url: str) -> None:
    """Wherever it stands in the URL; the rest is."""
    shown = masked(url)

    assert "hunter2" not in shown
    assert "localhost" in shown
    assert "me" in shown


def test_each_host_is_tried_by_itself() -> None:
    """With its own port where there are several, so that a silent one does not use up the time of the next."""
    one, other = addresses("postgresql://first:1,second:2/base")

    assert ("host=first" in one, "port=1" in one, "second" in one) == (True, True, False)
    assert ("host=second" in other, "port=2" in other, "first" in other) == (True, True, False)


def test_what_the_url_says_goes_before_our_defaults() -> None:
    """A longer time to connect, or another name of the application."""
    (address,) = addresses("postgresql://localhost/base?application_name=mine")

    assert "application_name=mine" in address


def test_arrays_of_equal_and_of_different_values_look_alike() -> None:
    """The short way for equal values writes the same bytes."""
    encode = ENCODERS["integer[]"]

    three, mixed = encode([7, 7, 7]), encode([7, 7, 8])

    assert three[:-4] == mixed[:-4]
    assert integer(three[-4:]) == 7
    assert integer(mixed[-4:]) == 8


def test_no_values_are_an_empty_array() -> None:
    """Which has no dimensions."""
    assert ENCODERS["text[]"]([]) == bytes(8) + (25).to_bytes(4)


def test_keywords_are_no_url() -> None:
    """Only a URL can be shown, compared and put into a job store without what is secret."""
    with pytest.raises(ValueError, match="url:") as caught:
        addresses("host=localhost password=hunter2")

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("value", [0.0, 1.5, 1_700_000_000.000001])
def test_instants_keep_every_digit(value: float) -> None:
    """They travel as they are, not as text."""
    assert instant(ENCODERS["double precision"](value)) == value


def test_every_operation_has_a_statement_of_its_name() -> None:
    """The signatures in the SQL files are all that the client knows of the functions."""
    folder = resources.files("allocator.queue.postgres") / "sql"
    for file in folder.iterdir():
        name = file.name.removesuffix(".sql")
        if name != "schema":
            assert name in statements(file.read_text("utf-8"))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("57P01", ConnectionLost),
        ("57P03", ConnectionLost),
        ("08006", ConnectionLost),
        ("40P01", ConnectionLost),
        ("40001", ConnectionLost),
        ("25006", ConnectionLost),
        ("53300", ConnectionLost),
        ("53100", QueueFull),
        ("53200", QueueFull),
        ("42501", QueueUnavailable),
        ("26000", QueueUnavailable),
        ("42P01", QueueDamaged),
        ("42703", QueueDamaged),
        ("42804", QueueDamaged),
        ("AL001", NewerVersion),
        ("AL002", NewerVersion),
    ],
)
def test_an_error_code_becomes_an_error_of_ours(code: str, kind: type[Exception]) -> None:
    """What passes is tried again; what does not says where and what to do."""
    error = explained(code, "schema 9", WHERE)

    assert type(error) is kind
    if kind is not ConnectionLost:
        assert WHERE in str(error)
    if code == "AL001":
        assert f"this client knows version {SCHEMA}" in str(error)
