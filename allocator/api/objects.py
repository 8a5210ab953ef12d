"""Objects: found again, looked at, given back, deleted."""

import logging
import time
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Annotated
from urllib.parse import quote

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BeforeValidator
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from allocator.api.answers import ViewRoute
from allocator.api.problems import Problem, not_found, responses
from allocator.api.services import Opened, Services
from allocator.api.uploads import Limit
from allocator.api.views import DetailView, ObjectsView, ObjectView
from allocator.domain.errors import AllocatorError
from allocator.ingest import Kind, ObjectMissing
from allocator.persistence import Asset, AssetBusy, AssetState

log = logging.getLogger(__name__)

SETTLE_S = 1.0
"""How long a deletion waits for the last step of a job whose object is placed."""

CURSOR = r"^[0-9]{1,11}\.[0-9]{1,17}~[0-9A-Za-z_.-]{1,200}$"
"""A place in the list: when an object was received, in seconds, and its id."""


def _no_number(text: object) -> object:
    if isinstance(text, str) and text.replace(".", "", 1).lstrip("+-").isdigit():
        raise ValueError("is no instant such as 2026-01-31T12:00:00Z")
    return text


Instant = Annotated[datetime, BeforeValidator(_no_number)]
"""As RFC 3339 has it. Numbers, which pydantic takes for seconds or milliseconds, are none."""

router = APIRouter(prefix="/api/v1/objects", tags=["objects"], route_class=ViewRoute)


@router.get("", summary="List and find objects", responses=responses(403, 421, 422, 503))
def find(
    services: Opened,
    owner: Annotated[str | None, Query(description="Of this owner.", examples=["ada"])] = None,
    kind: Annotated[Kind | None, Query(description="Of this kind, by content.")] = None,
    type: Annotated[str | None, Query(description="Of this media type, by content.", examples=["image/png"])] = None,
    received_after: Annotated[Instant | None, Query(description="Received then or later; UTC if no zone.")] = None,
    received_before: Annotated[Instant | None, Query(description="Received earlier; UTC if no zone.")] = None,
    text: Annotated[str | None, Query(description="In name or comments, in any case.", max_length=1000)] = None,
    limit: Limit = 100,
    after: Annotated[str | None, Query(description="`next` of the page before.", pattern=CURSOR)] = None,
) -> ObjectsView:
    """A page of the objects that fit, the last received first. Every page costs the same, however far down."""
    try:
        page = services.archive.assets.find(
            owner=owner,
            kind=kind,
            type=type,
            received_after=_seconds(received_after),
            received_before=_seconds(received_before),
            text=text,
            limit=limit,
            after=_place(after) if after else None,
        )
    except ValueError as error:
        raise Problem(422, str(error)) from None
    return ObjectsView(
        objects=[ObjectView.of(asset) for asset in page], next=_cursor(page[-1]) if len(page) == limit else None
    )


@router.get("/{object_id}", summary="What is known of an object", responses=responses(403, 404, 421, 422, 503))
def look(object_id: str, services: Opened) -> DetailView:
    """Its metadata, what was found in it, and every step with its time."""
    asset = _asset(services, object_id)
    return DetailView.whole(asset, services.archive.store.job(asset.job_id))


@router.get(
    "/{object_id}/content",
    summary="Get an object back",
    response_class=FileResponse,
    responses={
        200: {"description": "Its bytes, as sent.", "content": {"*/*": {}}},
        206: {"description": "The range asked for.", "content": {"*/*": {}}},
        304: {"description": "They are those that If-None-Match names."},
        **responses(400, 403, 404, 410, 416, 421, 422, 503),
    },
)
@router.head("/{object_id}/content", include_in_schema=False)
async def content(object_id: str, services: Opened, request: Request) -> Response:
    """Its bytes as they were sent, whole or a range; the ETag is their SHA-256."""
    asset = await to_thread.run_sync(_asset, services, object_id)
    path = services.archive.objects.path(asset.sha256)
    if not await to_thread.run_sync(path.exists):
        raise ObjectMissing(asset.sha256, services.archive.objects.root)
    tag = f'"{asset.sha256}"'
    if {tag, "*"} & {known.strip().removeprefix("W/") for known in request.headers.get("if-none-match", "").split(",")}:
        return Response(status_code=304, headers={"ETag": tag})
    return _Content(
        path,
        headers={
            "Content-Type": asset.type or "application/octet-stream",
            "Content-Disposition": _disposition(asset.name),
            "ETag": tag,
            # What someone sent must never run as a page of this server.
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "sandbox; default-src 'none'",
        },
    )


@router.delete(
    "/{object_id}", status_code=204, summary="Delete an object", responses=responses(403, 404, 409, 421, 422, 503)
)
def delete(object_id: str, services: Opened) -> Response:
    """
    Forget an object and its place in the library; its bytes go with the last object that has them.

    Bytes that came within the last hour stay on the disk until they are swept. 409 while its job has not ended.
    """
    asset = _delete(services, object_id)
    if asset is None:
        raise not_found("object of this id")
    try:
        services.queue.purge_dead(asset.job_id)
    except AllocatorError as error:
        # Put back, it would find nothing to do.
        log.warning("a dead letter of job %s may be left of a deleted object: %s", asset.job_id, error)
    return Response(status_code=204)


class _Content(FileResponse):
    """A file, whose wrong ranges are problems as all errors are."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See Starlette."""
        refused = False
        # A unit that is not known is as if there was none (RFC 9110, 14.2).
        known = [
            (name, value) for name, value in scope["headers"] if name != b"range" or value[:6].lower() == b"bytes="
        ]
        scope = {**scope, "headers": known}

        async def tell(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] in (400, 416):
                refused = True
                headers = Headers(raw=message["headers"])
                kept = {"Content-Range": headers["content-range"]} if "content-range" in headers else {}
                said = (
                    "ends before that range begins" if message["status"] == 416 else "was asked for a range of no form"
                )
                await Problem(message["status"], f"the file {said}", kept).response()(scope, receive, send)
            elif not refused:
                await send(message)

        await super().__call__(scope, receive, tell)


def _delete(services: Services, object_id: str) -> Asset | None:
    until = time.monotonic() + SETTLE_S
    while True:
        try:
            return services.archive.delete(object_id)
        except AssetBusy:
            # One that was placed, and is done to its owner, has a job that ends any moment.
            asset = services.archive.assets.asset(object_id)
            if asset is None or asset.state != AssetState.DONE or time.monotonic() >= until:
                raise
            time.sleep(0.01)


def _asset(services: Services, object_id: str) -> Asset:
    asset = services.archive.assets.asset(object_id)
    if asset is None:
        raise not_found("object of this id")
    return asset


def _disposition(name: str) -> str:
    """To be saved, under the last part of its name; percent-encoded, so that nothing in it ends the header."""
    last = PurePosixPath(name.replace("\\", "/")).name or "unnamed"
    return f"attachment; filename*=UTF-8''{quote(last, safe='')}"


def _seconds(when: datetime | None) -> float | None:
    if when is None:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _cursor(asset: Asset) -> str:
    return f"{asset.received_at!r}~{asset.id}"


def _place(cursor: str) -> tuple[float, str]:
    at, _, asset_id = cursor.partition("~")
    return float(at), asset_id
