"""What can go wrong with a store, each with what to do about it."""

from allocator.domain.errors import AllocatorError


class StoreUnavailable(AllocatorError, ConnectionError):
    """
    The database could not do what was asked. Nothing was changed, unless the connection broke during the commit.

    `begin`, `settle`, `submit` with ids and the rest may be called again: what a lost commit did is recognised.

    Args:
        where: The database, without its password.
        reason: One of down, full, read-only, locked, refused, damaged.
        detail: What the database said.
        remedy: What to do.
    """

    def __init__(self, where: str, reason: str, detail: str, remedy: str) -> None:
        super().__init__(f"the store {where} is {_SAID[reason]}: {detail}. {remedy}")
        self.where = where
        self.reason = reason


_SAID = {
    "down": "not reachable",
    "full": "full",
    "read-only": "read-only",
    "locked": "locked by someone else",
    "refused": "not open to us",
    "damaged": "damaged, or no store of this package",
}


class StoreClosed(AllocatorError, RuntimeError):
    """This store object was closed; open it again."""


class StoreForked(AllocatorError, RuntimeError):
    """A store object made before a fork was used in the child; open one of its own there."""


class StoreLocked(AllocatorError):
    """Another process, or another object of this one, holds the lock of this name; `owner` says who, if known."""

    def __init__(self, name: str, where: str, owner: str) -> None:
        super().__init__(
            f"the lock {name!r} of the store {where} is held by {owner or 'another process'}: "
            "stop that process, or give this one a store or a queue name of its own"
        )
        self.name = name
        self.owner = owner
