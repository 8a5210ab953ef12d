"""Intake: from committed bytes to an upload with its assets and jobs, accepted as a whole."""

import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import msgspec

from allocator.domain.errors import AllocatorError
from allocator.domain.ids import new_id
from allocator.domain.job import Job
from allocator.ingest.errors import ObjectMissing, SweptAway
from allocator.ingest.identify import Identity, Kind, identify_head
from allocator.ingest.objects import Incoming, ObjectStore, Stored
from allocator.persistence import Asset, Assets, Dispatcher, StoreUnavailable, Upload

ANONYMOUS = "anonymous"
"""Whose an upload is that names no owner."""

JOB_TIMEOUT_S = 300.0
"""For one attempt at one file: hashing aside, nothing reads more of it than some MiB."""


MAX_PARSED_BYTES = 1024 * 1024
"""Of what begins like JSON and is larger than this, only the beginning is looked at here: parsing takes memory."""


class NoDocument(AllocatorError, ValueError):
    """A payload is neither a JSON object nor an array of such; the text says where."""


@dataclass(frozen=True)
class Brought:
    """
    One file of an upload, whose bytes are in the object store.

    Args:
        name: As its owner calls it; any text that a database takes.
        stored: What the commit gave.
        identity: Which processor is to look at it. That one looks at the whole of it, and has the last word.
    """

    name: str
    stored: Stored
    identity: Identity

    @classmethod
    def of(cls, name: str, incoming: Incoming) -> Self:
        """Commit a file that was written; raises as that does."""
        stored = incoming.commit()

        def read_rest() -> bytes:
            with incoming.store.open(stored.sha256) as file:
                file.seek(len(incoming.head))
                return file.read()

        # What was written is at hand: a file is not opened again to learn what its first bytes say.
        identity = identify_head(bytes(incoming.head), stored.size_bytes, name, read_rest, MAX_PARSED_BYTES)
        return cls(name, stored, identity)


class Accepted(NamedTuple):
    """
    What became of an upload.

    Args:
        upload: As stored: the earlier one where the idempotency key was known.
        asset_ids: Of its assets, in the order in which they came.
        is_repeat: It was there before.
    """

    upload: Upload
    asset_ids: list[str]
    is_repeat: bool


class Intake:
    """
    Accepts uploads. Thread-safe.

    Args:
        objects: Where the bytes are.
        assets: Where uploads and assets are recorded.
        queue: Which dispatches their jobs.
        timeout_s: Of each job.
    """

    def __init__(
        self, objects: ObjectStore, assets: Assets, queue: Dispatcher, timeout_s: float = JOB_TIMEOUT_S
    ) -> None:
        self._objects = objects
        self._assets = assets
        self._queue = queue
        self._timeout_s = timeout_s

    def put(self, name: str, content: bytes, max_bytes: int | None = None) -> Brought:
        """Commit bytes that are at hand; raises as `Incoming` does."""
        with self._objects.incoming(max_bytes) as incoming:
            incoming.write(content)
            return Brought.of(name, incoming)

    def accept(
        self,
        brought: Sequence[Brought],
        owner: str = ANONYMOUS,
        comments: str | None = None,
        key: str | None = None,
    ) -> Accepted:
        """
        Record an upload with an asset and a job for each file, then enqueue the jobs.

        Where the queue cannot be reached the upload is accepted all the same: the reconciler enqueues its jobs.

        Args:
            brought: At least one.
            key: The sender's idempotency key. The same key of the same owner with the same content gives the earlier
                upload; names, sizes, hashes, comments and their order are the content.
        Raises:
            KeyReused, StoreUnavailable, QueueClosed: See `Assets.accept`.
            SweptAway: Some of it was committed so long ago that it is gone; nothing was accepted.
            ValueError: A text is none that a database takes, or too long.
        """
        now = time.time()
        upload = Upload(
            id=new_id(), owner=owner, comments=comments, key=key, digest=digest_of(brought, comments), created_at=now
        )
        self._keep(brought)
        kinds = Counter(one.identity.kind for one in brought)
        has_first = kinds[Kind.JSON] < 2
        assets: list[Asset] = []
        jobs: list[Job] = []
        # They are given back in the order of their ids; those of one millisecond are made in any.
        asset_ids = sorted(new_id() for _ in brought)
        for one, asset_id in zip(brought, asset_ids, strict=True):
            identity = one.identity
            asset = Asset(
                id=asset_id,
                upload_id=upload.id,
                job_id=new_id(),
                owner=owner,
                comments=comments,
                name=one.name,
                size_bytes=one.stored.size_bytes,
                sha256=one.stored.sha256,
                kind=identity.kind,
                type=identity.type,
                received_at=now,
            )
            payload: dict[str, str | bool] = {"asset_id": asset.id}
            if identity.kind is Kind.JSON and not has_first:
                payload["is_first"] = has_first = True
            assets.append(asset)
            jobs.append(Job(type=identity.kind, payload=payload, id=asset.job_id, timeout=self._timeout_s))
        stored = self._accept(upload, assets, jobs)
        if stored.id == upload.id:
            return Accepted(stored, asset_ids, False)
        return Accepted(stored, list(self._ids_of(stored.id)), True)

    def _accept(self, upload: Upload, assets: list[Asset], jobs: list[Job]) -> Upload:
        try:
            return self._assets.accept(self._queue, upload, assets, jobs)
        except StoreUnavailable:
            raise
        except AllocatorError:
            # Whatever the queue said: what the store has is accepted, and will be enqueued.
            stored = self._assets.upload(upload.id)
            if stored is None and upload.key is not None:
                stored = self._assets.keyed(upload.owner, upload.key)
            if stored is None or stored.digest != upload.digest:
                raise
            return stored

    def _keep(self, brought: Sequence[Brought]) -> None:
        """However long the upload took: from here on there is time enough to record it."""
        for one in brought:
            try:
                self._objects.keep(one.stored.sha256)
            except ObjectMissing:
                raise SweptAway(one.name) from None

    def _ids_of(self, upload_id: str) -> Iterable[str]:
        after: Asset | None = None
        while page := self._assets.assets_of(upload_id, 1000, after):
            yield from (asset.id for asset in page)
            after = page[-1]


def digest_of(brought: Sequence[Brought], comments: str | None) -> str:
    """Tells the content of one upload from another's, in 64 hexadecimal digits."""
    content = [comments, [[one.name, one.stored.size_bytes, one.stored.sha256] for one in brought]]
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()


def documents_of(payload: bytes) -> list[bytes]:
    """
    The documents of a payload, byte by byte as they were sent: an object is one, of an array each item is one.

    Raises:
        NoDocument: It is no strict JSON, or neither an object nor an array of objects.
    """
    try:
        payload.decode()
        whole = msgspec.json.decode(payload, type=msgspec.Raw)
        if bytes(whole)[:1] == b"{":
            return [bytes(whole)]
        if bytes(whole)[:1] != b"[":
            raise NoDocument("payload: must be a JSON object, or an array of objects")
        items = [bytes(item) for item in msgspec.json.decode(payload, type=list[msgspec.Raw])]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NoDocument(f"payload: is no JSON: {error}") from None
    for index, item in enumerate(items):
        if item[:1] != b"{":
            raise NoDocument(f"payload[{index}]: must be a JSON object; an array holds one object for each asset")
    if not items:
        raise NoDocument("payload: an empty array holds nothing to keep")
    return items
