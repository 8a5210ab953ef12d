"""
Uploads, their assets, and where each asset was put.

An asset's state is not written down: it is done once it was placed, and until then its job's row says how it stands.
All instants are seconds since the epoch.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import cache, partial
from typing import Any, NamedTuple, assert_never

import msgspec
from sqlalchemy import (
    ARRAY,
    BindParameter,
    ColumnElement,
    Connection,
    Integer,
    Select,
    Text,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal_column,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import BigInteger, Double, LargeBinary

from allocator.domain.errors import AllocatorError
from allocator.domain.job import Job, prepare
from allocator.persistence.records import Dispatcher, StoredJob
from allocator.persistence.rows import MAX_CHUNK_ROWS, new_row
from allocator.persistence.statements import Batch, Kinds, Lookup
from allocator.persistence.states import UNFINISHED, JobState
from allocator.persistence.store import Store
from allocator.persistence.tables import assets, jobs, uploads

MAX_WORD_CHARS = 200
"""Of an id, an owner, a key: an index of PostgreSQL takes no entry of more than 2,704 bytes."""

MAX_COMMENTS_CHARS = 4000
"""Each asset of an upload keeps them, and has them in its text to look for."""

MAX_SEARCH_CHARS = 1000
"""Of a text to look for; SQLite refuses patterns of 50,000 bytes."""

AGAIN_BATCH = 100
"""Jobs read and enqueued at a time when an upload comes again; each may have a payload of a MiB."""


class AssetState(StrEnum):
    """How an asset stands. Failed: it was given up or cancelled, and nothing more happens to it by itself."""

    QUEUED = "queued"
    PROCESSING = "processing"
    DONE = "done"
    FAILED = "failed"


class Upload(msgspec.Struct, kw_only=True):
    """
    What came in with one request: the parent of its assets.

    Args:
        key: The sender's idempotency key. The owner's own: another owner's may be the same.
        digest: Of all that was sent; tells a repetition from something else under the same key.
    """

    id: str
    owner: str
    comments: str | None = None
    key: str | None = None
    digest: str
    created_at: float


class Asset(msgspec.Struct, kw_only=True):
    """
    One file or document of an upload.

    Args:
        job_id: The job that identifies and places it.
        name: As the sender called it.
        sha256: Of its bytes, in hexadecimal.
        kind: The processor's word for what it is. None until identified, as is `type`.
        type: The media type, by content.
        placed_at: When it was put where it is. None before, as are `path` and `rule`.
        path: Where it is, below the root of the library.
        rule: The name of the rule that put it there.
        facts_json: What was found in it, as strict JSON.
        state: Derived, as are `error` and `attempts`; not looked at by `Assets.accept`.
        error: Why it failed; of one that is to be tried again, why the last attempt did.
        attempts: Number of the last attempt that was begun; 0 before the first. None where its job's record is no
            longer kept.
    """

    id: str
    upload_id: str
    job_id: str
    owner: str
    comments: str | None = None
    name: str
    size_bytes: int
    sha256: str
    kind: str | None = None
    type: str | None = None
    received_at: float
    placed_at: float | None = None
    path: str | None = None
    rule: str | None = None
    facts_json: bytes | None = None
    state: AssetState = AssetState.QUEUED
    error: str | None = None
    attempts: int | None = 0


class Standing(NamedTuple):
    """
    How an upload stands.

    Args:
        counts: How many of its assets are queued, processing, done, failed; and in total.
        assets: A page of them.
    """

    upload: Upload
    counts: dict[str, int]
    assets: list[Asset]


class Known(NamedTuple):
    """An asset, and the upload that it came with."""

    asset_id: str
    upload_id: str


class Placed(NamedTuple):
    """As much of a placed asset as the tree is made of."""

    path: str
    sha256: str
    id: str


class KeyReused(AllocatorError):
    """An idempotency key came again with other content. Nothing was changed; `upload_id` has the earlier upload."""

    def __init__(self, earlier: Upload) -> None:
        said = f"the upload id {earlier.id}" if earlier.key is None else f"the idempotency key {earlier.key!r}"
        super().__init__(
            f"{said} of {earlier.owner!r} was used before, for upload {earlier.id} with other content; nothing was "
            "changed. Send the same content again, or use a new key"
        )
        self.key = earlier.key
        self.upload_id = earlier.id


class AssetBusy(AllocatorError):
    """An asset cannot be deleted while its job has not ended; `state` is the job's."""

    def __init__(self, asset_id: str, job_id: str, state: str) -> None:
        super().__init__(
            f"asset {asset_id} is not deleted: its job {job_id} is {state}. Wait until it has ended, or cancel it first"
        )
        self.asset_id = asset_id
        self.job_id = job_id
        self.state = state


class Assets:
    """
    The uploads and assets of a store. Thread-safe, and open for as long as the store is.

    As with the store itself, each call is one transaction, may raise StoreUnavailable, and may then be called again.
    """

    def __init__(self, store: Store) -> None:
        # A part of the store that has a module of its own: it works inside the store's transactions.
        self._store = store
        self._statements = _statements_for(store.engine.dialect.name)

    # Accept, place, delete

    def accept(self, queue: Dispatcher, upload: Upload, brought: Sequence[Asset], submitted: Sequence[Job]) -> Upload:
        """
        Accept an upload with its assets and their jobs into the store, durably and as a whole, then enqueue the jobs.

        The same key of the same owner again, or the same id: with the same digest nothing is written, and those of the
        stored upload's jobs that have not ended are enqueued (which changes nothing where the queue knows them).

        Args:
            brought: In the order in which `assets_of` is to give them, which is that of their ids.
            submitted: The job of each asset, by its `job_id`.
        Returns:
            The upload as stored: the earlier one where there was one.
        Raises:
            KeyReused: The key, or the id, was used with another digest. Nothing was changed.
            ValueError: The parts do not fit together, or a text is none that a database takes. Nothing was changed.
            InvalidJob: Naming the field. Nothing was changed.
            StoreUnavailable: Nothing was accepted, unless the connection broke during the commit. The same upload may
                be accepted again.
            QueueClosed: Nothing was accepted.
            QueueUnavailable: The store has the upload (see `upload` and `keyed`), and the reconciler will enqueue.
        """
        _check_fit(upload, brought, submitted)
        store = self._store
        if queue.closed and submitted:
            queue.enqueue_many(submitted)
        fresh = {job.id: (job, record) for job, record in map(prepare, submitted)}
        now = (queue.clock or store._clock).now()
        asset_rows = [_new_row(asset) for asset in brought]
        job_rows = [new_row(queue.identity, job, record, now, now + job.delay) for job, record in fresh.values()]
        earlier, known = store._together(partial(self._write_new, upload, asset_rows, job_rows), durable=True)
        if earlier is None:
            store._enqueue_new(queue, fresh, known, now)
            return upload
        if earlier.digest != upload.digest:
            raise KeyReused(earlier)
        self._enqueue_again(queue, earlier.id, now)
        return earlier

    def _write_new(
        self,
        upload: Upload,
        asset_rows: Sequence[tuple[Any, ...]],
        job_rows: Sequence[tuple[Any, ...]],
        connection: Connection,
    ) -> tuple[Upload | None, dict[str, StoredJob]]:
        """Write it all; or give the upload that was there before it. Gives also the jobs that were known."""
        earlier = self._write_upload(connection, upload)
        if earlier is not None:
            return earlier, {}
        for start in range(0, len(asset_rows), MAX_CHUNK_ROWS):
            self._statements.insert_assets.run(connection, asset_rows[start : start + MAX_CHUNK_ROWS])
        return None, self._store._write_new(connection, job_rows, [row[0] for row in job_rows])

    def _write_upload(self, connection: Connection, upload: Upload) -> Upload | None:
        """Write it; or give the one that was there before it, with its key or its id."""
        # Who comes second waits here for the first one's commit, and then sees it.
        while self._statements.insert_uploads.run(connection, [msgspec.structs.astuple(upload)]) == 0:
            found = None
            if upload.key is not None:
                by_key = {"owner": upload.owner, "key": upload.key}
                found = connection.execute(_UPLOAD_BY_KEY, by_key).one_or_none()
            found = found or connection.execute(_UPLOAD_BY_ID, {"id": upload.id}).one_or_none()
            # It may have been deleted in between.
            if found is not None:
                return _upload(found)
        return None

    def _enqueue_again(self, queue: Dispatcher, upload_id: str, now: float) -> None:
        after_id = ""
        while True:
            with self._store._read() as connection:
                given = {"upload_id": upload_id, "after_id": after_id, "limit": AGAIN_BATCH}
                rows = connection.execute(_JOBS_OF_UPLOAD, given).all()
                stored = self._store._read_jobs(connection, [row.job_id for row in rows])
            # The jobs of another queue are not this one's to run.
            left = [job.job(now) for job in stored if not job.ended and job.queue == queue.identity]
            if left:
                queue.enqueue_many(left)
            if len(rows) < AGAIN_BATCH:
                return
            after_id = rows[-1].id

    def place(
        self,
        asset_id: str,
        token: str,
        kind: str,
        type: str,
        path: str,
        rule: str,
        facts_json: bytes | None,
        at: float,
    ) -> bool:
        """
        Record what an asset is and where it was put; a later attempt's word replaces an earlier one's.

        Args:
            token: Of the lease under which the asset's job is being worked on.
        Returns:
            Whether it was recorded. False, and nothing was changed: the job is not processing under this token (any
            more), or there is no such asset. The same call again gives the same answer while the attempt runs.
        Raises:
            ValueError: A text is none that a database takes.
        """
        _check_words(kind=kind, type=type)
        _check_texts(path=path, rule=rule)
        if not _is_storable(asset_id):
            return False
        row = (asset_id, token, kind, type, at, path, rule, facts_json)
        with self._store._write() as connection:
            if not self._store.has_one_writer:
                # Locked, and before the asset is: no later attempt begins until this is written.
                self._job_of(connection, asset_id)
            return self._statements.place.run(connection, [row]) == 1

    def delete(self, asset_id: str) -> Asset | None:
        """
        Forget an asset, durably; returns it as it was, None if there is none. Its bytes are the object store's matter.

        Its upload gives up its key, so that the same content can be sent again, and goes with its last asset.

        Raises:
            AssetBusy: Its job has not ended; nothing was changed.
        """
        if not _is_storable(asset_id):
            return None
        # Durable, for what the caller removes next does not come back with a transaction that was forgotten.
        with self._store._write(durable=True) as connection:
            state, _ = self._job_of(connection, asset_id)
            rows = self._statements.one_asset.rows(connection, {"asset_id": asset_id})
            if not rows:
                return None
            asset = _asset(rows[0])
            if state in UNFINISHED:
                raise AssetBusy(asset_id, asset.job_id, state)
            if connection.execute(_DELETE_ASSET, {"asset_id": asset_id}).rowcount == 0:
                return None
            # First the update, whose lock lets two who delete the last two assets come one after the other.
            connection.execute(_GIVE_UP_KEY, {"upload_id": asset.upload_id})
            connection.execute(_DELETE_EMPTY_UPLOAD, {"upload_id": asset.upload_id})
        return asset

    def _job_of(self, connection: Connection, asset_id: str) -> tuple[str, str | None]:
        """State and token of an asset's job, which is locked until the transaction ends; always before the asset is."""
        job_id = connection.execute(_JOB_OF, {"asset_id": asset_id}).scalar()
        known = self._store._look(connection, [job_id]).get(job_id) if job_id else None
        return ("", None) if known is None else (known.state, known.token)

    # Look

    def upload(self, upload_id: str) -> Upload | None:
        """An upload; None if there is none."""
        return self._one_upload(_UPLOAD_BY_ID, id=upload_id)

    def keyed(self, owner: str, key: str) -> Upload | None:
        """The upload that has this idempotency key of this owner; None if there is none."""
        return self._one_upload(_UPLOAD_BY_KEY, owner=owner, key=key)

    def _one_upload(self, query: Select[Any], **given: str) -> Upload | None:
        if not all(map(_is_storable, given.values())):
            return None
        with self._store._read() as connection:
            row = connection.execute(query, given).one_or_none()
        return None if row is None else _upload(row)

    def standing(self, upload_id: str, limit: int = 100, after: str | None = None) -> Standing | None:
        """
        An upload, how many of its assets are in which state, and a page of them, in one look; None if there is none.

        Args:
            limit, after: As for `assets_of`.
        """
        if not _is_storable(upload_id):
            return None
        with self._store._read() as connection:
            found = connection.execute(_UPLOAD_BY_ID, {"id": upload_id}).one_or_none()
            if found is None:
                return None
            counts = dict(connection.execute(COUNTS, {"upload_id": upload_id}).one()._mapping)
            return Standing(_upload(found), counts, self._page(connection, upload_id, limit, after or ""))

    def assets_of(self, upload_id: str, limit: int = 100, after: Asset | str | None = None) -> list[Asset]:
        """
        A page of the assets of an upload, in the order of their ids.

        Args:
            after: The last asset of the page before, or its id.
        """
        with self._store._read() as connection:
            return self._page(connection, upload_id, limit, after.id if isinstance(after, Asset) else after or "")

    def _page(self, connection: Connection, upload_id: str, limit: int, after_id: str) -> list[Asset]:
        if not (_is_storable(upload_id) and _is_storable(after_id)):
            return []
        given = {"upload_id": upload_id, "after_id": after_id, "limit": limit}
        return [_asset(row) for row in connection.execute(ASSETS_OF_UPLOAD, given)]

    def asset(self, asset_id: str) -> Asset | None:
        """An asset; None if there is none."""
        if not _is_storable(asset_id):
            return None
        with self._store._read_at_once() as connection:
            rows = self._statements.one_asset.rows(connection, {"asset_id": asset_id})
        return _asset(rows[0]) if rows else None

    def shown_at(self, path: str, sha256: str) -> str | None:
        """The id of an asset that was placed at this path in the library with these bytes; None if there is none."""
        query = select(assets.c.id).where(assets.c.sha256 == sha256, assets.c.path == path).limit(1)
        with self._store._read() as connection:
            return connection.execute(query).scalar()

    def find(
        self,
        owner: str | None = None,
        kind: str | None = None,
        type: str | None = None,
        received_after: float | None = None,
        received_before: float | None = None,
        text: str | None = None,
        limit: int = 100,
        after: Asset | tuple[float, str] | None = None,
    ) -> list[Asset]:
        """
        A page of the assets that fit, newest first: by when they were received, then by id.

        A page of all, of one owner or of one kind costs the same however many assets there are and however far down it
        is; what narrows it further is looked for one by one, until the page is full.

        Args:
            type: The media type, as a whole.
            received_after: Received at this instant or later.
            received_before: Received earlier than this.
            text: What name or comments contain. The case of letters does not matter, nor how accents are encoded.
            limit: Most assets on the page.
            after: The last asset of the page before, or when that was received and its id. It need not exist any more.
        Raises:
            ValueError: A text that no database takes, or of more than MAX_SEARCH_CHARS.
        """
        given = {"owner": owner, "kind": kind, "type": type, "text": text}
        _check_texts(**given)
        if text is not None and len(text) > MAX_SEARCH_CHARS:
            raise ValueError(f"text: {len(text)} characters is more than {MAX_SEARCH_CHARS}; look for a part of it")
        place = (after.received_at, after.id) if isinstance(after, Asset) else after
        if place is not None:
            _check_texts(after=place[1])
        query = page_of(owner, kind, type, received_after, received_before, text, place).limit(limit)
        with self._store._read() as connection:
            return [_asset(row) for row in connection.execute(query)]

    def known(self, files: Iterable[tuple[str, str]], owner: str, comments: str | None) -> dict[tuple[str, str], Known]:
        """
        Those of an owner's files, by name and hash, that an asset is of which came with these comments.

        Args:
            files: A thousand at most.
        Returns:
            The last received of each.
        """
        wanted = {file for file in files if all(map(_is_storable, file))}
        if not wanted or not _is_storable(owner) or not _is_storable(comments or ""):
            return {}
        query = (
            select(assets.c.id, assets.c.upload_id, assets.c.name, assets.c.sha256)
            .where(
                assets.c.sha256.in_({sha256 for _, sha256 in wanted}),
                assets.c.name.in_({name for name, _ in wanted}),
                assets.c.owner == owner,
                assets.c.comments.is_not_distinct_from(comments),
            )
            .order_by(assets.c.received_at, assets.c.id)
        )
        with self._store._read() as connection:
            found = {(row.name, row.sha256): Known(row.id, row.upload_id) for row in connection.execute(query)}
        return {file: known for file, known in found.items() if file in wanted}

    def referenced(self, sha256s: Iterable[str]) -> set[str]:
        """Those of these hashes that some asset has."""
        wanted = {sha256 for sha256 in sha256s if _is_storable(sha256)}
        with self._store._read() as connection:
            found = connection.execute(self._statements.referenced, self._store._statements.ids(wanted))
            return set(found.scalars())

    def digests(self, after: str = "", limit: int = 1000) -> list[str]:
        """A page of the hashes that assets have, each once, in their order."""
        query = select(assets.c.sha256).where(assets.c.sha256 > after).distinct().order_by(assets.c.sha256).limit(limit)
        with self._store._read() as connection:
            return list(connection.execute(query).scalars())

    def move(self, placed: Placed, path: str) -> bool:
        """Record another path of an asset that was placed; False, and nothing is changed, where it is not there now."""
        _check_texts(path=path)
        change = update(assets).where(assets.c.id == placed.id, assets.c.path == placed.path).values(path=path)
        with self._store._write() as connection:
            return connection.execute(change).rowcount == 1

    def placed(self, after_id: str = "", limit: int = 1000) -> list[Placed]:
        """A page of all assets that were placed, in the order of ids."""
        with self._store._read() as connection:
            return [Placed(*row) for row in connection.execute(PLACED, {"after_id": after_id, "limit": limit})]


def page_of(
    owner: str | None = None,
    kind: str | None = None,
    type: str | None = None,
    received_after: float | None = None,
    received_before: float | None = None,
    text: str | None = None,
    after: tuple[float, str] | None = None,
) -> Select[Any]:
    """The assets that fit, the last received first; see `Assets.find`."""
    query = select(*_ROW).select_from(_ASSETS_AND_JOBS)
    for column, value in ((assets.c.owner, owner), (assets.c.kind, kind), (assets.c.type, type)):
        if value is not None:
            query = query.where(column == value)
    if received_after is not None:
        query = query.where(assets.c.received_at >= received_after)
    # One upper bound, the nearer one: with two, SQLite might take the other for its way into the index, and pass over
    # all the pages before.
    if after is not None and (received_before is None or after[0] < received_before):
        query = query.where(tuple_(assets.c.received_at, assets.c.id) < tuple_(*after))
    elif received_before is not None:
        query = query.where(assets.c.received_at < received_before)
    if text:
        query = query.where(assets.c.search_text.contains(folded(text), autoescape=True))
    return query.order_by(assets.c.received_at.desc(), assets.c.id.desc())


def folded(text: str) -> str:
    """Text as it is looked for: cases are one, and so are the ways to write an accented letter."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


# Statements

_ASSETS_AND_JOBS = assets.outerjoin(jobs, jobs.c.id == assets.c.job_id)


def _word(text: str) -> ColumnElement[str]:
    return literal_column(f"'{text}'", Text())


_limit: BindParameter[int] = bindparam("limit", type_=Integer())
_asset_state = case(
    (assets.c.placed_at.is_not(None), _word(AssetState.DONE)),
    (jobs.c.state == _word(JobState.QUEUED), _word(AssetState.QUEUED)),
    (jobs.c.state == _word(JobState.PROCESSING), _word(AssetState.PROCESSING)),
    else_=_word(AssetState.FAILED),
)

_STORED = [name for name in Asset.__struct_fields__ if name not in ("facts_json", "state", "error", "attempts")]
_ROW = [
    *(assets.c[name] for name in _STORED),
    assets.c.facts.label("facts_json"),
    _asset_state.label("state"),
    jobs.c.error,
    jobs.c.attempt.label("attempts"),
    jobs.c.state.label("job_state"),
]
_ROW_NAMES = [column.name for column in _ROW]
_UPLOAD = [uploads.c[name] for name in Upload.__struct_fields__]

_UPLOAD_BY_ID = select(*_UPLOAD).where(uploads.c.id == bindparam("id"))
_UPLOAD_BY_KEY = select(*_UPLOAD).where(
    uploads.c.owner == bindparam("owner"), uploads.c.key == bindparam("key"), uploads.c.key.is_not(None)
)
_ONE_ASSET = select(*_ROW).select_from(_ASSETS_AND_JOBS).where(assets.c.id == bindparam("asset_id"))
_JOB_OF = select(assets.c.job_id).where(assets.c.id == bindparam("asset_id"))
_JOBS_OF_UPLOAD = (
    select(assets.c.id, assets.c.job_id)
    .where(assets.c.upload_id == bindparam("upload_id"), assets.c.id > bindparam("after_id"))
    .order_by(assets.c.id)
    .limit(_limit)
)
ASSETS_OF_UPLOAD = (
    select(*_ROW)
    .select_from(_ASSETS_AND_JOBS)
    .where(assets.c.upload_id == bindparam("upload_id"), assets.c.id > bindparam("after_id"))
    .order_by(assets.c.id)
    .limit(_limit)
)
COUNTS = (
    select(
        *(func.count().filter(_asset_state == _word(state)).label(state) for state in AssetState),
        func.count().label("total"),
    )
    .select_from(_ASSETS_AND_JOBS)
    .where(assets.c.upload_id == bindparam("upload_id"))
)
PLACED = (
    select(assets.c.path, assets.c.sha256, assets.c.id)
    .where(assets.c.id > bindparam("after_id"), assets.c.path.is_not(None))
    .order_by(assets.c.id)
    .limit(_limit)
)
_DELETE_ASSET = delete(assets).where(assets.c.id == bindparam("asset_id"))
_GIVE_UP_KEY = update(uploads).where(uploads.c.id == bindparam("upload_id")).values(key=None)
_DELETE_EMPTY_UPLOAD = delete(uploads).where(
    uploads.c.id == bindparam("upload_id"), ~exists().where(assets.c.upload_id == bindparam("upload_id"))
)

_TEXT = Text()
_FLOAT: Double[float] = Double()
_NEW_UPLOAD: Kinds = {
    "id": _TEXT,
    "owner": _TEXT,
    "comments": _TEXT,
    "key": _TEXT,
    "digest": _TEXT,
    "created_at": _FLOAT,
}
"""The columns of an upload, which are the fields of `Upload`."""

_PLACED: Kinds = {
    "asset_id": _TEXT,
    "token": _TEXT,
    "kind": _TEXT,
    "type": _TEXT,
    "placed_at": _FLOAT,
    "path": _TEXT,
    "rule": _TEXT,
    "facts": LargeBinary(),
}
"""What `_Statements.place` needs."""

_NEW: Kinds = {
    "id": _TEXT,
    "upload_id": _TEXT,
    "job_id": _TEXT,
    "owner": _TEXT,
    "comments": _TEXT,
    "name": _TEXT,
    "size_bytes": BigInteger(),
    "sha256": _TEXT,
    "kind": _TEXT,
    "type": _TEXT,
    "received_at": _FLOAT,
    "search_text": _TEXT,
}


class _Statements:
    """Those whose form depends on the database."""

    def __init__(self, dialect: str) -> None:
        is_postgres = dialect == "postgresql"
        self.insert_uploads = Batch(
            dialect,
            _NEW_UPLOAD,
            lambda given, rows: (
                sqlite.insert(uploads).values(**given).on_conflict_do_nothing()
                if rows is None
                else postgresql.insert(uploads).from_select(list(given), rows).on_conflict_do_nothing()
            ),
        )
        self.insert_assets = Batch(
            dialect,
            _NEW,
            lambda given, rows: (
                sqlite.insert(assets).values(**given)
                if rows is None
                else postgresql.insert(assets).from_select(list(given), rows)
            ),
        )
        self.place = Batch(
            dialect,
            _PLACED,
            lambda given, _: (
                update(assets)
                .where(
                    assets.c.id == given["asset_id"],
                    exists().where(jobs.c.id == assets.c.job_id, jobs.c.token == given["token"]),
                )
                .values({name: given[name] for name in ("kind", "type", "placed_at", "path", "rule", "facts")})
            ),
        )
        self.one_asset = Lookup(dialect, _ONE_ASSET)
        # One look into the index for each hash, however many assets have it.
        wanted: ColumnElement[str]
        if is_postgres:
            wanted = func.unnest(bindparam("ids", type_=ARRAY(Text))).column_valued("wanted")
        else:
            wanted = func.json_each(bindparam("ids", type_=Text)).table_valued("value", name="wanted").c.value
        self.referenced = select(wanted).where(exists().where(assets.c.sha256 == wanted))


@cache
def _statements_for(dialect: str) -> _Statements:
    return _Statements(dialect)


# Between rows and structs


def _upload(row: Any) -> Upload:
    return Upload(**row._mapping)


def _new_row(asset: Asset) -> tuple[Any, ...]:
    search_text = folded(f"{asset.name}\n{asset.comments or ''}")
    return *(getattr(asset, name) for name in _NEW if name != "search_text"), search_text


def _asset(row: Any) -> Asset:
    values = dict(zip(_ROW_NAMES, row, strict=True))
    job_state = values.pop("job_state")
    asset = Asset(**values)
    asset.state = AssetState(asset.state)
    match asset.state:
        case AssetState.DONE:
            asset.error = None
        case AssetState.FAILED:
            asset.error = _why_failed(job_state, asset)
        case AssetState.QUEUED | AssetState.PROCESSING:
            pass
        case _:
            assert_never(asset.state)
    return asset


def _why_failed(job_state: str | None, asset: Asset) -> str:
    if job_state is None:
        return (
            f"the record of its job {asset.job_id} is no longer kept, and it was never placed: why is not known any "
            "more. Its bytes are as sent; send them again to have them placed"
        )
    if job_state == JobState.DONE:
        return f"its job {asset.job_id} is done, and yet did not place it"
    return asset.error or ("cancelled" if job_state == JobState.CANCELLED else "given up, for a reason nobody recorded")


# What databases take


def _check_fit(upload: Upload, brought: Sequence[Asset], submitted: Sequence[Job]) -> None:
    _check_words(id=upload.id, owner=upload.owner, key=upload.key, digest=upload.digest)
    _check_comments(upload.comments)
    for asset in brought:
        _check_words(id=asset.id, job_id=asset.job_id, sha256=asset.sha256, kind=asset.kind, type=asset.type)
        _check_texts(name=asset.name)
        if asset.comments != upload.comments:
            _check_comments(asset.comments)
        if (asset.upload_id, asset.owner) != (upload.id, upload.owner):
            raise ValueError(
                f"asset {asset.id}: it is of upload {asset.upload_id} and {asset.owner!r}, not of {upload}"
            )
    wanted = [asset.job_id for asset in brought]
    if len(set(wanted)) < len(wanted) or sorted(wanted) != sorted(job.id for job in submitted):
        raise ValueError(
            f"jobs: each of the {len(wanted)} assets has one of its own, whose id is the asset's job_id; given were "
            f"{len(submitted)}"
        )


def _check_comments(comments: str | None) -> None:
    _check_texts(comments=comments)
    if comments is not None and len(comments) > MAX_COMMENTS_CHARS:
        raise ValueError(f"comments: must have at most {MAX_COMMENTS_CHARS:,} characters, not {len(comments):,}")


def _check_words(**given: str | None) -> None:
    _check_texts(**given)
    for field, word in given.items():
        if word is not None and not 0 < len(word) <= MAX_WORD_CHARS:
            raise ValueError(f"{field}: must have 1 to {MAX_WORD_CHARS} characters, not {len(word)}")


def _check_texts(**given: str | None) -> None:
    for field, text in given.items():
        if text is not None and not _is_storable(text):
            raise ValueError(f"{field}: {text!a} has a NUL or a lone surrogate, which no database takes")


def _is_storable(text: str) -> bool:
    """Whether it is text to a database; what is not cannot have been stored, and is not found."""
    if text.isascii():
        return "\0" not in text
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)
