"""
API keys: who may use the API, known by a hash alone.

A key reads `alc_<id>_<secret>`: the id finds its row, and tells people which key it is; the secret is 256 random bits,
so that a plain SHA-256 of the key gives nobody a way back to it.
"""

import hashlib
import hmac
import logging
import re
import secrets

import msgspec
from sqlalchemy import bindparam, insert, or_, select, update

from allocator.persistence.errors import StoreUnavailable
from allocator.persistence.store import Store
from allocator.persistence.tables import api_keys

log = logging.getLogger(__name__)

MAX_NAME_CHARS = 200

USED_EVERY_S = 60.0
"""How exact `last_used_at` is: a key that is used all the time is written this often, not with every request."""

_FORM = re.compile(r"alc_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")


class ApiKey(msgspec.Struct, kw_only=True):
    """
    What is known of a key; not the key itself.

    Args:
        id: In the key too, so that one that is found somewhere can be told and revoked.
        name: For people: who or what has it.
        created_at: Seconds since the epoch, as are the others.
        last_used_at: To within a minute; None: never.
        revoked_at: From then on it opens nothing; None: it is good.
    """

    id: str
    name: str
    created_at: float
    last_used_at: float | None = None
    revoked_at: float | None = None


class Keys:
    """
    The API keys of a store. Thread-safe, and open for as long as the store is.

    As with the store itself, each call is one transaction, may raise StoreUnavailable, and may then be called again.
    """

    def __init__(self, store: Store) -> None:
        # A part of the store that has a module of its own: it works inside the store's transactions.
        self._store = store

    def create(self, name: str) -> tuple[ApiKey, str]:
        """
        Make a key, durably; gives what is known of it, and the key itself, which nobody can find out again.

        Raises:
            ValueError: The name is empty, longer than MAX_NAME_CHARS, or has characters that cannot be printed.
        """
        if not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable():
            raise ValueError(f"name: must have 1 to {MAX_NAME_CHARS} characters, all printable, not {name[:80]!a}")
        key = ApiKey(id=secrets.token_hex(8), name=name, created_at=self._store._clock.now())
        secret = f"alc_{key.id}_{secrets.token_urlsafe(32)}"
        with self._store._write(durable=True) as connection:
            connection.execute(insert(api_keys), {**msgspec.structs.asdict(key), "digest": _digest(secret)})
        return key, secret

    def all(self) -> list[ApiKey]:
        """Every key, also the revoked ones, oldest first."""
        query = select(*_ROW).order_by(api_keys.c.created_at, api_keys.c.id)
        with self._store._read() as connection:
            return [ApiKey(**row._mapping) for row in connection.execute(query)]

    def revoke(self, key_id: str) -> ApiKey | None:
        """
        Make a key useless from the next request on, durably; gives it as it is now, None if there is none of this id.

        One that was revoked before stays as it is.
        """
        if not _is_id(key_id):
            return None
        with self._store._write(durable=True) as connection:
            connection.execute(_REVOKE, {"key_id": key_id, "at": self._store._clock.now()})
            row = connection.execute(_ONE, {"key_id": key_id}).one_or_none()
        return None if row is None else ApiKey(**row._mapping)

    def check(self, secret: str) -> ApiKey | None:
        """The key that this is, if it is good; None if it is none of ours, or was revoked. Notes that it was used."""
        found = _FORM.fullmatch(secret)
        if found is None:
            return None
        with self._store._read() as connection:
            row = connection.execute(_WITH_DIGEST, {"key_id": found[1]}).one_or_none()
        # In a time that does not tell how much of the digest fits.
        if row is None or not hmac.compare_digest(row.digest, _digest(secret)):
            return None
        key = ApiKey(**{name: row._mapping[name] for name in ApiKey.__struct_fields__})
        if key.revoked_at is not None:
            return None
        self._note_use(key)
        return key

    def _note_use(self, key: ApiKey) -> None:
        now = self._store._clock.now()
        if key.last_used_at is not None and now - key.last_used_at < USED_EVERY_S:
            return
        try:
            with self._store._write() as connection:
                connection.execute(_USED, {"key_id": key.id, "at": now, "before": now - USED_EVERY_S})
        except StoreUnavailable as error:
            # A full disk must not keep people from reading.
            log.warning("that key %s was used could not be noted: %s", key.id, error)


_ROW = [api_keys.c[name] for name in ApiKey.__struct_fields__]
_IS_IT = api_keys.c.id == bindparam("key_id")
_ONE = select(*_ROW).where(_IS_IT)
_WITH_DIGEST = select(*_ROW, api_keys.c.digest).where(_IS_IT)
_REVOKE = update(api_keys).where(_IS_IT, api_keys.c.revoked_at.is_(None)).values(revoked_at=bindparam("at"))
_USED = (
    update(api_keys)
    .where(_IS_IT, or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at <= bindparam("before")))
    .values(last_used_at=bindparam("at"))
)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _is_id(text: str) -> bool:
    """Whether it may be an id of ours; what is none is found nowhere."""
    return re.fullmatch(r"[0-9a-f]{16}", text) is not None
