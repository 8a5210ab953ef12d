"""
What the jobs of assets do: tell what a file is, decide where it belongs, link it there, and record both.

`media`, `json` and `other` are what worker processes call, one for each kind. They find the archive by the environment,
as every process of an installation does: `ALLOCATOR_DATA` and `ALLOCATOR_STORE_URL`. All are idempotent: an attempt
that was cut off anywhere is made good by the next one.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, Self

import msgspec

from allocator.domain.job import Job
from allocator.ingest.errors import Unreadable
from allocator.ingest.identify import Identity, Kind, identify
from allocator.ingest.library import Library
from allocator.ingest.objects import ObjectStore
from allocator.ingest.rules import Rules, Subject, load_rules
from allocator.ingest.sweeping import enrol, others
from allocator.persistence import Asset, Assets, Store, open_store

MEMORY_BYTES = 1024 * 1024 * 1024
"""Address space of a process that reads files."""

MAX_TOGETHER = 500
"""Documents of one upload, its first ones, over which a common schema is inferred."""


class Attempt(Protocol):
    """As much of a supervisor's context as is needed here."""

    job: Job
    token: str


@dataclass(frozen=True)
class Archive:
    """
    The files of an installation and the record of them.

    Args:
        objects: Where the bytes are.
        library: Where they are shown.
        rules: By which they are placed.
        store: Open for as long as this is used.
    """

    objects: ObjectStore
    library: Library
    rules: Rules
    store: Store
    assets: Assets

    @classmethod
    def open(cls, data: Path, store_url: str | None = None, *, to_look: bool = False) -> Self:
        """
        Open what lies in a folder, making what is missing.

        Args:
            data: The object store is the folder itself (objects/ and incoming/ in it), the library is library/ in it,
                and rules.toml in it, if there is one, replaces the default rules.
            store_url: See `open_store`.
            to_look: Nothing is to be recorded: the database may be the wrong one, and does not enrol.
        Raises:
            ObjectStoreUnavailable, OutOfSpace, LibraryUnavailable, WrongRules, StoreUnavailable, ValueError: See there.
        """
        objects = ObjectStore(data)
        library = Library(objects.root / "library", objects)
        own_rules = objects.root / "rules.toml"
        rules = load_rules(own_rules if own_rules.exists() else None)
        store = open_store(store_url)
        try:
            if not to_look:
                enrol(objects, store)
        except BaseException:
            store.close()
            raise
        return cls(objects, library, rules, store, Assets(store))

    def process(self, context: Attempt, facts_of: Callable[[Path, Identity, Asset], dict[str, Any]]) -> dict[str, Any]:
        """
        Identify, place, link and record the asset that a job is about.

        Returns:
            `path` and `rule`; empty where the asset was deleted, or the attempt overtaken by another one.
        Raises:
            Unreadable: No further attempt can help. The bytes stay as sent.
        """
        asset = self.assets.asset(context.job.payload["asset_id"])
        if asset is None:
            return {}
        file = self.objects.path(asset.sha256)
        # By the bytes, again: what is recorded is what this release sees in them.
        identity = identify(file, asset.name)
        facts = facts_of(file, identity, asset)
        taken_at = facts.get("taken_at")
        placement = self.rules.place(
            Subject(
                name=asset.name,
                kind=identity.kind,
                type=identity.type,
                size_bytes=asset.size_bytes,
                owner=asset.owner,
                received_at=asset.received_at,
                taken_at=taken_at,
                sha256=asset.sha256,
            )
        )
        path = self.library.link(placement.path, asset.sha256, asset.id)
        is_recorded = self.assets.place(
            asset.id,
            context.token,
            identity.kind,
            identity.type,
            path,
            placement.rule,
            msgspec.json.encode(facts),
            time.time(),
        )
        if not is_recorded:
            self.hide(path, asset.sha256)
            return {}
        # Whoever hid the same bytes at the same path a moment ago may not have seen the record.
        self.library.link_again(path, asset.sha256, asset.id)
        if asset.path is not None and asset.path != path:
            self.hide(asset.path, asset.sha256)
        return {"path": path, "rule": placement.rule}

    def delete(self, asset_id: str) -> Asset | None:
        """
        Forget an asset, its place in the library, and its bytes where nothing else has them.

        Bytes that were committed within the last hour stay until a sweep takes them, and so do all while another
        database may refer to them.

        Returns:
            The asset as it was; None if there is none.
        Raises:
            AssetBusy: Its job has not ended; nothing was changed.
        """
        asset = self.assets.delete(asset_id)
        if asset is None:
            return None
        if asset.path is not None:
            self.hide(asset.path, asset.sha256)
        if not others(self.objects, self.store):
            self.objects.remove(asset.sha256, self.assets.referenced)
        return asset

    def hide(self, path: str, sha256: str) -> None:
        """Remove the link at a path, unless an asset of these bytes is recorded there."""
        if self.assets.shown_at(path, sha256) is not None:
            return
        self.library.unlink(path)
        # One that was recorded in between linked before it was, and finds its link here again.
        asset_id = self.assets.shown_at(path, sha256)
        if asset_id is not None:
            self.library.link(path, sha256, asset_id)

    def close(self) -> None:
        """Let go of the database."""
        self.store.close()


# What worker processes call


def media(context: Attempt) -> dict[str, Any]:
    """Place a picture, a sound or a video."""
    return _archive().process(context, _facts)


def json(context: Attempt) -> dict[str, Any]:
    """Place a JSON document; the first one of several in an upload also tells what all of them have in common."""
    archive = _archive()

    def facts_of(file: Path, identity: Identity, asset: Asset) -> dict[str, Any]:
        facts = _facts(file, identity, asset)
        if context.job.payload.get("is_first"):
            facts["upload"] = _together(archive, asset.upload_id)
        return facts

    return archive.process(context, facts_of)


def other(context: Attempt) -> dict[str, Any]:
    """Place any other file."""
    return _archive().process(context, _facts)


@lru_cache(maxsize=1)
def _archive() -> Archive:
    """The archive of this worker process, opened once; from then on the process is bound in its memory."""
    from allocator.ingest.facts import bound_memory

    archive = Archive.open(Path(os.environ["ALLOCATOR_DATA"]), os.environ.get("ALLOCATOR_STORE_URL"))
    bound_memory(MEMORY_BYTES)
    return archive


def _facts(file: Path, identity: Identity, asset: Asset) -> dict[str, Any]:
    return facts_of(file, identity, asset.sha256)


def facts_of(file: Path, identity: Identity, sha256: str) -> dict[str, Any]:
    """What a file says of itself, whichever processor its first look has brought it to. Raises Unreadable, OSError."""
    # Imported where files are read: it loads Pillow and MediaInfo, which the server needs not.
    from allocator.ingest.facts import json_facts, media_facts, other_facts

    match identity.kind:
        case Kind.MEDIA:
            return media_facts(file, identity)
        case Kind.JSON:
            return json_facts([file])
        case Kind.OTHER:
            return other_facts(file, sha256)


def _together(archive: Archive, upload_id: str) -> dict[str, Any]:
    """Facts over all JSON documents of an upload, of which one that cannot be read does not harm the others."""
    from allocator.ingest.facts import json_facts

    found = archive.assets.assets_of(upload_id, MAX_TOGETHER)
    files = [archive.objects.path(asset.sha256) for asset in found if asset.kind == Kind.JSON]
    try:
        return {"files": len(files), **json_facts(files)}
    except (Unreadable, OSError) as error:
        return {"files": len(files), "parsed": False, "reason": f"not taken together: {error}"}
