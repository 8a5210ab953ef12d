"""For those who run it: dead letters, the queue, health, metrics."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from allocator.api.answers import ViewRoute
from allocator.api.problems import Problem, not_found, responses
from allocator.api.services import Opened
from allocator.api.uploads import Limit
from allocator.api.views import (
    CountView,
    DeadLettersView,
    DeadLetterView,
    PartView,
    QueueView,
    ReadyView,
    WorkersView,
)
from allocator.supervisor.requeueing import requeue_dead

UNTOLD = "does not work; show a key to learn more"

router = APIRouter()
letters = APIRouter(prefix="/api/v1/dead-letters", tags=["dead letters"], route_class=ViewRoute)

OfType = Annotated[str | None, Query(description="Only jobs of this type.", examples=["media"])]
WithError = Annotated[str | None, Query(description="Only errors that contain this text.")]
All = Annotated[Literal["true"], Query(description="Must be said: all of them, narrowed by type and error.")]


@letters.get("", summary="List dead letters", responses=responses(403, 410, 421, 422, 503))
def list_dead(
    services: Opened,
    limit: Limit = 100,
    after: Annotated[str | None, Query(description="`next` of the page before.")] = None,
    type: OfType = None,
    error: WithError = None,
) -> DeadLettersView:
    """A page of the jobs that were given up, oldest first, with every failed attempt."""
    try:
        page = services.queue.dead_letters(limit, after or None, type, error)
    except KeyError as gone:
        raise Problem(410, str(gone.args[0])) from None
    return DeadLettersView(
        dead_letters=[DeadLetterView.of(letter) for letter in page],
        next=page[-1].job.id if len(page) == limit else None,
    )


@letters.post("/requeue", summary="Put back many", responses=responses(403, 421, 422, 503, 507))
def requeue_many(services: Opened, all: All, type: OfType = None, error: WithError = None) -> CountView:
    """Put dead letters back, each with a fresh retry budget."""
    return CountView(count=requeue_dead(services.queue, services.archive.store, all=True, type=type, error=error))


@letters.post("/{job_id}/requeue", summary="Put back one", responses=responses(403, 404, 421, 422, 503, 507))
def requeue_one(job_id: str, services: Opened) -> CountView:
    """Put a dead letter back, with a fresh retry budget."""
    return _moved(requeue_dead(services.queue, services.archive.store, job_id))


@letters.delete("", summary="Purge many", responses=responses(403, 421, 422, 503, 507))
def purge_many(services: Opened, all: All, type: OfType = None, error: WithError = None) -> CountView:
    """Delete dead letters for good. The files that they are about stay."""
    return CountView(count=services.queue.purge_dead(all=True, type=type, error=error))


@letters.delete("/{job_id}", summary="Purge one", responses=responses(403, 404, 421, 422, 503, 507))
def purge_one(job_id: str, services: Opened) -> CountView:
    """Delete a dead letter for good. The file that it is about stays."""
    return _moved(services.queue.purge_dead(job_id))


def _moved(count: int) -> CountView:
    if not count:
        raise not_found("dead letter of this job id")
    return CountView(count=count)


@router.get("/api/v1/queue", tags=["operations"], summary="Figures of the queue", responses=responses(403, 421, 503))
def queue(services: Opened) -> QueueView:
    """How many jobs are in which state, and what the workers of this server do."""
    supervisor = None
    if services.supervisor is not None:
        stats = services.supervisor.stats()
        fields = {name: getattr(stats, name) for name in WorkersView.model_fields if name != "workers"}
        supervisor = WorkersView(**fields, workers=[worker.state for worker in stats.workers])
    return QueueView(name=services.queue.name, counts=services.queue.counts(), supervisor=supervisor)


@router.get("/live", tags=["operations"], summary="Does the server answer?", responses=responses(403, 421))
async def live() -> dict[str, bool]:
    """Answers as long as the server does; asks no other part."""
    return {"live": True}


@router.get(
    "/ready",
    tags=["operations"],
    summary="Does every part work?",
    responses={
        503: {"model": ReadyView, "description": "A part does not work; `parts` says which."},
        **responses(403, 421),
    },
)
def ready(services: Opened, request: Request, response: Response) -> ReadyView:
    """
    Reads the database, writes a file, has a job through the queue, and looks for the workers.

    Where keys are asked for, what is wrong is told to those who show one.
    """
    is_told = not services.settings.asks_for_key or hasattr(request.state, "api_key")
    parts = {
        part: PartView(ok=trouble is None, problem=trouble if trouble is None or is_told else UNTOLD)
        for part, trouble in services.troubles().items()
    }
    is_ready = all(part.ok for part in parts.values())
    response.status_code = 200 if is_ready else 503
    return ReadyView(ready=is_ready, parts=parts)


@router.get(
    "/metrics",
    tags=["operations"],
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **responses(403, 421)},
)
def metrics(services: Opened) -> Response:
    """Of the workers of this server, and of the queue."""
    return Response(generate_latest(services.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
