"""What the API answers, as it is documented. Instants are UTC."""

from datetime import UTC, datetime
from typing import Any, Literal, Self

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from allocator.domain.deadletter import DeadLetter
from allocator.persistence import Asset, AssetState, StoredJob

SOME_ID = "019ad3c5-7c5e-7a41-b2c8-0f6d5a1e9b77"
ANOTHER_ID = "019ad3c5-7c5e-7b02-8d11-4c2f9e7a6053"


MAX_LEVELS = 200
"""Of facts: pydantic writes 255, and the schema of a document has two for each of the document's own."""


class View(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(frozen=True)


class AcceptedView(View):
    """An upload was accepted: files and record are on the disk, and the jobs will be done."""

    job_id: str = Field(description="Of the upload as a whole; what status and events go by.", examples=[SOME_ID])
    system_ids: list[str] = Field(
        description="Of the objects, files first, in the order sent.", examples=[[ANOTHER_ID]]
    )
    status: Literal["accepted"] = "accepted"
    created_at: datetime


class KnownView(View):
    """An object that is there."""

    id: str = Field(examples=[ANOTHER_ID])
    upload_id: str = Field(description="The upload it came with.", examples=[SOME_ID])


class KnownFilesView(View):
    """Which of the files are there, in the order asked."""

    objects: list[KnownView | None] = Field(description="null: to be sent.")


class ProgressView(View):
    """How many objects of an upload are in which state."""

    queued: int = Field(examples=[0])
    processing: int = Field(examples=[1])
    done: int = Field(examples=[2])
    failed: int = Field(examples=[0])
    total: int = Field(examples=[3])

    @property
    def status(self) -> Literal["queued", "processing", "done", "failed"]:
        """Of the upload: done when all is, failed when all has ended and something failed."""
        if self.done + self.failed == self.total:
            return "failed" if self.failed else "done"
        return "queued" if self.queued == self.total else "processing"


class ObjectView(View):
    """A file or document that was sent."""

    id: str = Field(examples=[ANOTHER_ID])
    upload_id: str = Field(description="The upload it came with.", examples=[SOME_ID])
    job_id: str = Field(description="The job that identifies and places it, as in the dead letters.")
    name: str = Field(description="As it was sent.", examples=["holiday.jpg"])
    size_bytes: int
    sha256: str
    owner: str
    comments: str | None
    kind: str | None = Field(description="By content: media, json or other.", examples=["media"])
    type: str | None = Field(description="Media type, by content.", examples=["image/jpeg"])
    state: AssetState
    error: str | None = Field(description="Why it failed; before another try, why the last one did.")
    attempts: int | None = Field(description="Number of the last attempt; null where the job's record has gone.")
    received_at: datetime
    placed_at: datetime | None
    path: str | None = Field(description="Below the library's root.", examples=["media/2026/11/holiday.jpg"])
    rule: str | None = Field(description="Name of the rule that decided.")

    @classmethod
    def of(cls, asset: Asset, **more: Any) -> Self:
        """The view of an asset."""
        # Of the class that all share: pydantic looks its fields up in the slowest way, and what else there is is given.
        fields = {name: getattr(asset, name) for name in ObjectView.model_fields}
        fields["received_at"] = utc(asset.received_at)
        fields["placed_at"] = None if asset.placed_at is None else utc(asset.placed_at)
        return cls(**fields, **more)


class StepView(View):
    """Something that happened to an object, and when."""

    step: str = Field(description="received, leased, started, done, failed, released, cancelled, lost, placed")
    at: datetime
    attempt: int | None = None
    worker: str | None = None
    error: str | None = None


class DetailView(ObjectView):
    """An object with all that was found in it and happened to it."""

    facts: dict[str, Any] | None = Field(
        description=f"What its processor found in it; what lies deeper than {MAX_LEVELS} levels is shown as …"
    )
    steps: list[StepView]

    @classmethod
    def whole(cls, asset: Asset, job: StoredJob | None) -> Self:
        """The view of an asset and its job."""
        facts = None if asset.facts_json is None else _shallow(msgspec.json.decode(asset.facts_json), MAX_LEVELS)
        return cls.of(asset, facts=facts, steps=_steps(asset, job))


class StatusView(View):
    """How an upload stands; its objects come page by page."""

    job_id: str = Field(examples=[SOME_ID])
    status: Literal["queued", "processing", "done", "failed"]
    created_at: datetime
    owner: str
    comments: str | None
    progress: ProgressView
    objects: list[ObjectView]
    next: str | None = Field(description="Give it as `after` for the next page; null: this is the last one.")


class ObjectsView(View):
    """A page of objects, the last received first."""

    objects: list[ObjectView]
    next: str | None = Field(description="Give it as `after` for the next page; null: this is the last one.")


class FailureView(View):
    """One failed attempt."""

    number: int
    error: str
    worker: str
    leased_at: datetime
    failed_at: datetime


class DeadLetterView(View):
    """A job that was given up. The file that it was about is kept."""

    job_id: str
    type: str
    object_id: str | None = Field(description="What it was about.")
    error: str = Field(examples=["This is no image/png that can be read: no header that holds."])
    dead_at: datetime
    attempt_count: int
    attempts: list[FailureView]

    @classmethod
    def of(cls, letter: DeadLetter) -> Self:
        """The view of a dead letter."""
        payload = letter.job.payload
        return cls(
            job_id=letter.job.id,
            type=letter.job.type,
            object_id=str(payload["asset_id"]) if isinstance(payload, dict) and "asset_id" in payload else None,
            error=letter.error,
            dead_at=utc(letter.dead_at),
            attempt_count=letter.attempt_count,
            attempts=[
                FailureView(
                    number=attempt.number,
                    error=attempt.error,
                    worker=attempt.worker,
                    leased_at=utc(attempt.leased_at),
                    failed_at=utc(attempt.failed_at),
                )
                for attempt in letter.attempts
            ],
        )


class DeadLettersView(View):
    """A page of dead letters, oldest first."""

    dead_letters: list[DeadLetterView]
    next: str | None = Field(description="Give it as `after` for the next page; null: this is the last one.")


class CountView(View):
    """How many were moved or deleted."""

    count: int = Field(examples=[1])


class WorkersView(View):
    """What the supervisor of this server does."""

    running: int
    buffered: int
    done: int
    retried: int
    dead: int
    done_per_s: float
    wait_s: dict[str, float]
    service_s: dict[str, float]
    workers: list[str] = Field(description="State of each: idle, running, stuck, gone.")


class QueueView(View):
    """The jobs of the queue by state, and the workers of this server."""

    name: str
    counts: dict[str, int] = Field(
        examples=[{"ready": 3, "scheduled": 0, "leased": 2, "dead": 1, "done": 120, "cancelled": 0, "purged": 0}]
    )
    supervisor: WorkersView | None = Field(description="null: others work on the queue.")


class PartView(View):
    """Whether a part works, and if not, what is wrong."""

    ok: bool
    problem: str | None


class ReadyView(View):
    """Whether the server can take and do work."""

    ready: bool
    parts: dict[str, PartView]


def utc(at: float) -> datetime:
    """Seconds since 1970 as an instant."""
    return datetime.fromtimestamp(at, UTC)


def _shallow(value: Any, levels: int) -> Any:
    """The same without what lies deeper."""
    if not isinstance(value, dict | list):
        return value
    if not levels:
        return "…"
    if isinstance(value, list):
        return [_shallow(item, levels - 1) for item in value]
    return {key: _shallow(item, levels - 1) for key, item in value.items()}


def _steps(asset: Asset, job: StoredJob | None) -> list[StepView]:
    steps = [StepView(step="received", at=utc(asset.received_at))]
    for attempt in () if job is None else job.attempts:
        common: dict[str, Any] = {"attempt": attempt.number, "worker": attempt.worker}
        steps.append(StepView(step="leased", at=utc(attempt.leased_at), **common))
        if attempt.started_at is not None:
            steps.append(StepView(step="started", at=utc(attempt.started_at), **common))
        if attempt.finished_at is not None:
            steps.append(
                StepView(step=attempt.outcome, at=utc(attempt.finished_at), error=attempt.error or None, **common)
            )
    if asset.placed_at is not None:
        steps.append(StepView(step="placed", at=utc(asset.placed_at)))
    return sorted(steps, key=lambda step: step.at)
