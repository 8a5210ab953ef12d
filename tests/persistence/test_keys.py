"""API keys: made once, known by a hash, used until they are revoked."""

import hashlib

import pytest
from sqlalchemy import text

from allocator.domain.clock import ManualClock
from allocator.persistence import Keys, Store
from tests.persistence.builders import NOW, Opener


@pytest.fixture
def clock() -> ManualClock:
    """Of the store."""
    return ManualClock(NOW)


@pytest.fixture
def store(opener: Opener, clock: ManualClock) -> Store:
    """Its time is moved by hand."""
    return opener(clock=clock)


@pytest.fixture
def keys(store: Store) -> Keys:
    """Of an empty store."""
    return Keys(store)


def test_a_key_is_known_again_and_no_other_is(keys: Keys) -> None:
    """Not one with a letter changed, of another id, or of no form of ours."""
    made, secret = keys.create("backup")
    other, other_secret = keys.create("backup")
    last = "A" if secret[-1] != "A" else "B"
    swapped = secret.replace(made.id, other.id)

    known = keys.check(secret)

    assert known is not None
    assert (known.id, known.name, known.created_at) == (made.id, "backup", NOW)
    assert secret != other_secret
    for wrong in (secret[:-1] + last, swapped, made.id, "", "alc_", secret + "\n", " " + secret, "\0", "ä" * 64):
        assert keys.check(wrong) is None


def test_only_a_hash_is_kept(keys: Keys, store: Store) -> None:
    """Whoever reads the database cannot use the API."""
    made, secret = keys.create("backup")

    with store.engine.connect() as connection:
        row = connection.execute(text("SELECT * FROM api_keys")).one()

    assert bytes(row.digest) == hashlib.sha256(secret.encode()).digest()
    assert secret.split("_", 2)[2] not in repr(row)
    assert secret.startswith(f"alc_{made.id}_")


def test_a_revoked_key_is_refused_from_then_on(keys: Keys, clock: ManualClock) -> None:
    """By every object on the store; it is still listed, and revoking it again changes nothing."""
    made, secret = keys.create("backup")
    clock.advance(5)

    revoked = keys.revoke(made.id)
    clock.advance(5)
    again = keys.revoke(made.id)

    assert keys.check(secret) is None
    assert revoked == again
    assert revoked is not None
    assert revoked.revoked_at == NOW + 5
    assert keys.all() == [revoked]
    for unknown in ("0123456789abcdef", "nobody", "\0"):
        assert keys.revoke(unknown) is None


def test_when_a_key_was_used_is_noted_once_a_minute(keys: Keys, clock: ManualClock) -> None:
    """One that is used all the time does not cost a write each time."""
    _, secret = keys.create("backup")
    noted = []

    for seconds in (1, 59, 1):
        clock.advance(seconds)
        keys.check(secret)
        noted.append(keys.all()[0].last_used_at)

    assert noted == [NOW + 1, NOW + 1, NOW + 61]


@pytest.mark.parametrize("name", ["", "n" * 201, "two\nlines", "nul\0", "\ud800", "\x1b[31m"])
def test_a_name_that_cannot_be_shown_is_refused(keys: Keys, name: str) -> None:
    """Naming the field; nothing is made."""
    with pytest.raises(ValueError, match="name: must have"):
        keys.create(name)

    assert keys.all() == []
