"""Uploads followed live, by server-sent events."""

import json
from collections.abc import AsyncIterator
from typing import Annotated

import anyio
from fastapi import APIRouter, Header, Response
from fastapi.responses import StreamingResponse

from allocator.api.problems import not_found, responses
from allocator.api.services import Opened, Services
from allocator.api.watching import Watch
from allocator.domain.errors import AllocatorError

STREAM_S = 300.0
"""Longest life of a stream of events; browsers connect again by themselves."""

ALIVE_S = 15.0
"""Longest silence in a stream of events, so that no proxy takes it for dead."""

RETRY_MS = 2000
"""When a browser whose stream has broken connects again."""

STEP_S = 1.0
"""Longest sleep, after which it is seen that the server ends."""

router = APIRouter(prefix="/api/v1/ingest", tags=["ingest"])


@router.get(
    "/{job_id}/events",
    summary="Follow an upload",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events: at every change an `object` for each one that has changed, all of them "
            "at first, then `progress`; `end` when everything has ended; `problem` where it cannot be told any more. "
            "After some minutes the stream ends; connect again.",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": "id: 6d1b9c0f3a5e7788\nevent: progress\n"
                    'data: {"status":"processing","queued":0,"processing":1,"done":0,"failed":0,"total":1}\n\n',
                }
            },
        },
        204: {"description": "Everything has ended, and the client of this Last-Event-ID knows: it may stop asking."},
        **responses(403, 404, 421, 422, 503),
    },
)
async def events(
    job_id: str,
    services: Opened,
    last_event_id: Annotated[
        str | None, Header(description="`id` of the last event that came; browsers give it by themselves.")
    ] = None,
) -> Response:
    """Counts and objects of the upload whenever they change, until everything has ended."""
    watch = services.watches.of(job_id)
    standing = await watch.standing()
    if not standing.objects:
        raise not_found("upload of this id; its objects may have been deleted")
    if standing.ended and standing.id == last_event_id:
        return Response(status_code=204)
    return StreamingResponse(
        _follow(services, watch, last_event_id),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _follow(services: Services, watch: Watch, seen: str | None) -> AsyncIterator[str]:
    told: dict[str, str] = {}
    spoke_at = anyio.current_time()
    ends_at = spoke_at + STREAM_S
    yield f"retry: {RETRY_MS}\n\n"
    while anyio.current_time() < ends_at and not services.stopping.is_set():
        try:
            standing = await watch.standing()
        except AllocatorError as error:
            # The status line has long been sent.
            yield _event("problem", json.dumps({"detail": str(error)}))
            return
        if not standing.objects:
            yield _event("problem", json.dumps({"detail": "the objects of this upload have been deleted"}))
            return
        progress = standing.progress
        said = f'{{"status":"{progress.status}",{progress.model_dump_json()[1:]}'
        if standing.id != seen:
            spoke_at = anyio.current_time()
            for object_id, view in standing.objects.items():
                if told.get(object_id) != view:
                    yield _event("object", view)
            # Only with this one all has been told.
            yield _event("progress", said, standing.id)
        elif anyio.current_time() - spoke_at >= ALIVE_S:
            spoke_at = anyio.current_time()
            yield ": still here\n\n"
        seen, told = standing.id, standing.objects
        if standing.ended:
            yield _event("end", said)
            return
        await _rest(services, watch, ends_at)


async def _rest(services: Services, watch: Watch, ends_at: float) -> None:
    """Until the next look; in short steps, for the server may stop."""
    until = min(watch.next_at, ends_at)
    while (left_s := until - anyio.current_time()) > 0 and not services.stopping.is_set():
        await anyio.sleep(min(left_s, STEP_S))


def _event(name: str, data: str, event_id: str | None = None) -> str:
    return (f"id: {event_id}\n" if event_id else "") + f"event: {name}\ndata: {data}\n\n"
