"""Uploads: taken in, and how they stand until all their objects are placed."""

import asyncio
from operator import itemgetter
from typing import Annotated

import anyio
from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import StringConstraints

from allocator.api.answers import ViewRoute
from allocator.api.multipart import Form, FormReader
from allocator.api.problems import Problem, later, not_found, responses
from allocator.api.services import Opened, Services
from allocator.api.settings import ApiSettings
from allocator.api.views import (
    AcceptedView,
    KnownFilesView,
    KnownView,
    ObjectView,
    ProgressView,
    StatusView,
    utc,
)
from allocator.ingest.intake import ANONYMOUS, Accepted, documents_of
from allocator.persistence import MAX_COMMENTS_CHARS

GATHERED_BYTES = 256 * 1024
"""Read before a thread is asked to write it: going there costs more than writing a few kilobytes."""

router = APIRouter(prefix="/api/v1/ingest", tags=["ingest"], route_class=ViewRoute)

TEXT = {"type": "string", "pattern": "^[^\\u0000]*$"}
"""Without NUL, which no database takes."""

FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "additionalProperties": False,
                    "anyOf": [{"required": ["files[]"]}, {"required": ["payload"]}],
                    "properties": {
                        "files[]": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                            "description": "Any number of files.",
                        },
                        "payload": {
                            "anyOf": [
                                {"type": "object"},
                                {"type": "array", "items": {"type": "object"}},
                            ],
                            "description": "A JSON object, or an array of some: each becomes an object of its own.",
                        },
                        "owner": {**TEXT, "maxLength": 200, "default": ANONYMOUS},
                        "comments": {
                            **TEXT,
                            "maxLength": MAX_COMMENTS_CHARS,
                            "description": "Kept with every object; can be searched.",
                        },
                        "idempotency_key": {
                            **TEXT,
                            "maxLength": 200,
                            "description": "As the header Idempotency-Key.",
                        },
                    },
                },
                "encoding": {"payload": {"contentType": "application/json"}},
                "example": {"payload": {"title": "a document"}, "owner": "ada", "comments": "first try"},
            }
        },
    }
}


@router.post(
    "",
    status_code=202,
    response_model=AcceptedView,
    summary="Send files and documents",
    responses={
        202: {
            "headers": {
                "Location": {"description": "Where its status is.", "schema": {"type": "string"}},
                "Retry-After": {"description": "Seconds until a look is worth while.", "schema": {"type": "integer"}},
            }
        },
        **responses(400, 403, 408, 409, 413, 415, 421, 422, 429, 503, 507),
    },
    openapi_extra=FORM,
)
async def ingest(
    request: Request,
    services: Opened,
    idempotency_key: Annotated[
        str | None,
        Header(description="The same key with the same content gives the same upload again.", max_length=200),
    ] = None,
) -> Response:
    """
    Store what is sent, durably, and have it identified and placed.

    When this answers 202, files and record are on the disk: no crash takes them away. The same bytes are stored once.
    """
    settings = services.settings
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > settings.max_body_bytes:
        raise _too_long(settings.max_body_bytes)
    if services.uploads >= settings.max_uploads:
        raise later(429, f"{settings.max_uploads} uploads are being read already; try again in a moment")
    if len(set(request.headers.getlist("idempotency-key"))) > 1:
        raise Problem(422, "Idempotency-Key: was given twice, with different keys; give one of them")
    services.uploads += 1
    try:
        accepted = await _take(request, services, idempotency_key)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or not services.stopping.is_set():
            raise
        # The grace is over. It may have been accepted at this very moment: under its key it is known again.
        task.uncancel()
        raise later(503, "the server ends, and this upload came too late for it; send it again") from None
    finally:
        services.uploads -= 1
    upload = accepted.upload
    view = AcceptedView(job_id=upload.id, system_ids=accepted.asset_ids, created_at=utc(upload.created_at))
    headers = {"Location": f"{router.prefix}/{upload.id}/status", "Retry-After": "1"}
    # Written here: it was made as the view says, and need not be looked through again.
    return Response(view.model_dump_json(), 202, headers, "application/json")


async def _take(request: Request, services: Services, key: str | None) -> Accepted:
    """Read the body into the object store, then have it accepted; a file that was begun goes when that fails."""
    reader = FormReader(request.headers.get("content-type", ""), services.archive.objects, services.settings)
    try:
        rest = await _read(request, reader, services)
        return await to_thread.run_sync(_accept, services, reader, rest, key)
    finally:
        # A thread costs more than most requests: none is asked for nothing.
        if reader.is_writing:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(reader.close)


async def _read(request: Request, reader: FormReader, services: Services) -> bytes:
    """Feed the body to the reader, in large pieces; gives the last one, which is not fed yet."""
    settings = services.settings
    gathered: list[bytes] = []
    size = total = 0
    waited_s = 0.0
    began_at = anyio.current_time()
    while True:
        asked_at = anyio.current_time()
        patience_s, said = _patience(settings, total, waited_s, asked_at - began_at)
        with anyio.move_on_after(patience_s) as waiting:
            message = await request.receive()
        # Bytes that are there already are given without a wait, which then cannot be too long.
        if waiting.cancelled_caught or patience_s <= 0:
            raise Problem(408, f"{said}; nothing of it is kept", {"Connection": "close"})
        if message["type"] == "http.disconnect":
            # Nobody reads it; it is for the log.
            raise Problem(400, "the client hung up in the middle of the upload; nothing of it is kept")
        # What writing takes is not the client's doing.
        waited_s += anyio.current_time() - asked_at
        chunk = message.get("body", b"")
        gathered.append(chunk)
        size += len(chunk)
        total += len(chunk)
        if total > settings.max_body_bytes:
            raise _too_long(settings.max_body_bytes)
        if not message.get("more_body", False):
            return b"".join(gathered)
        if size >= GATHERED_BYTES:
            await to_thread.run_sync(reader.feed, b"".join(gathered))
            gathered, size = [], 0


def _patience(settings: ApiSettings, total: int, waited_s: float, taken_s: float) -> tuple[float, str]:
    """How long an upload of which so much has come may be waited for now, and what is wrong if nothing comes."""
    return min(
        (settings.stall_s, f"nothing came for {settings.stall_s:g} s"),
        # Bytes one by one would hold a place among the few that there are for as long as someone likes.
        (
            settings.stall_s + total / settings.min_bytes_per_s - waited_s,
            f"{total:,} bytes came in {waited_s:.0f} s, less than {settings.min_bytes_per_s:,.0f} a second",
        ),
        (
            settings.max_upload_s - taken_s,
            f"the upload took longer than {settings.max_upload_s:g} s; send fewer files at a time",
        ),
        key=itemgetter(0),
    )


def _too_long(limit: int) -> Problem:
    return Problem(413, f"the body is longer than {limit:,} bytes; send fewer files at a time", limit=limit)


def _accept(services: Services, reader: FormReader, rest: bytes, header_key: str | None) -> Accepted:
    reader.feed(rest)
    form = reader.finish()
    key = _key(form, header_key)
    owner = form.text("owner") or ANONYMOUS
    comments = form.text("comments")
    # Checked before any document is written.
    documents = documents_of(form.texts["payload"]) if form.texts.get("payload") else []
    limit = services.settings.max_files
    if len(form.files) + len(documents) > limit:
        raise Problem(413, f"more than {limit} files and documents in one request", limit=limit)
    if not form.files and not documents:
        raise Problem(422, "nothing was sent: give at least one file in files[], or a payload")
    brought = list(form.files)
    for number, document in enumerate(documents, 1):
        name = "payload.json" if len(documents) == 1 else f"payload-{number}.json"
        brought.append(services.intake.put(name, document, services.settings.max_file_bytes))
    try:
        return services.intake.accept(brought, owner, comments, key)
    except ValueError as error:
        raise Problem(422, str(error)) from None


def _key(form: Form, header_key: str | None) -> str | None:
    field_key = form.text("idempotency_key")
    if header_key and field_key and header_key != field_key:
        raise Problem(422, "idempotency_key: the field and the header Idempotency-Key differ; give one of them")
    return header_key or field_key


Limit = Annotated[int, Query(ge=1, le=1000, description="Most entries of a page.")]


@router.get("", summary="Find an upload by its key", responses=responses(403, 404, 421, 422, 503))
def keyed(
    services: Opened,
    key: Annotated[str, Query(description="The idempotency key that it came under.", min_length=1, max_length=200)],
    owner: Annotated[str, Query(description="Whose it is: keys are their owner's own.", max_length=200)] = ANONYMOUS,
) -> StatusView:
    """As the status of that upload; 404 tells that the same content is still to be sent."""
    upload = services.archive.assets.keyed(owner or ANONYMOUS, key)
    if upload is None:
        raise not_found("upload of this owner under this key")
    return status(upload.id, services)


@router.get("/known", summary="Which files are there", responses=responses(403, 421, 422, 503))
def known(
    services: Opened,
    file: Annotated[
        list[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}:[^\x00]+$")]],
        Query(
            description="SHA-256 of the bytes, a colon, and the name as it would be sent.",
            min_length=1,
            max_length=100,
            examples=[[f"{'0' * 64}:a.txt"]],
        ),
    ],
    owner: Annotated[str, Query(description="Whose they are.", max_length=200)] = ANONYMOUS,
    comments: Annotated[
        str | None, Query(description="As they would be sent with.", max_length=MAX_COMMENTS_CHARS)
    ] = None,
) -> KnownFilesView:
    """
    Those of an owner's files, by name and bytes, that came with the same comments and were not deleted since.

    So who has many files sends those alone that are new or have changed.
    """
    asked = [(name, sha256) for sha256, _, name in (each.partition(":") for each in file)]
    found = services.archive.assets.known(asked, owner or ANONYMOUS, comments or None)
    return KnownFilesView(
        objects=[
            KnownView(id=found[each].asset_id, upload_id=found[each].upload_id) if each in found else None
            for each in asked
        ]
    )


@router.get("/{job_id}/status", summary="How an upload stands", responses=responses(403, 404, 421, 422, 503))
def status(
    job_id: str,
    services: Opened,
    limit: Limit = 100,
    after: Annotated[str | None, Query(description="`next` of the page before.")] = None,
) -> StatusView:
    """Counts over the whole upload, and a page of its objects in the order in which they were sent."""
    standing = services.archive.assets.standing(job_id, limit, after)
    if standing is None:
        raise not_found("upload of this id; its objects may have been deleted")
    upload, counts, page = standing
    progress = ProgressView(**counts)
    return StatusView(
        job_id=upload.id,
        status=progress.status,
        created_at=utc(upload.created_at),
        owner=upload.owner,
        comments=upload.comments,
        progress=progress,
        objects=[ObjectView.of(asset) for asset in page],
        next=page[-1].id if len(page) == limit else None,
    )
