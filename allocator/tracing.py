"""
Traces that go through the queue, by OpenTelemetry: `pip install allocator[otel]`.

Who enqueues opens a span and puts its W3C trace context into the job's `meta`; a processor that is `traced` goes on
from there, in whichever thread, process or machine it runs:

    with producing(Job(type="resize", payload={"path": "a.png"}), queue.name) as job:
        queue.enqueue(job)

    @traced
    def resize(context): ...

Every attempt is a span of its own below the producer's. Which spans are kept, and where they are sent, is up to the SDK
that the application sets up, in worker processes too. A worker process ends at once when its supervisor stops: a span
processor that sends batches should do so often there.

Names and attributes follow the semantic conventions for messaging. The consumer does not know its queue's name, so its
span is called by the job's type.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, cast

import msgspec

from allocator.domain.errors import AllocatorError
from allocator.domain.ids import new_id
from allocator.domain.job import MAX_META_BYTES, Job

F = TypeVar("F", bound=Callable[..., Any])

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"


class TracingUnavailable(AllocatorError, ImportError):
    """OpenTelemetry is not installed."""


class Tried(Protocol):
    """As much of a processor's context as a span needs."""

    @property
    def job(self) -> Job:
        """Whose `meta` may hold a trace context."""
        ...

    @property
    def attempt(self) -> int:
        """1, 2, …"""
        ...


@contextmanager
def producing(job: Job, queue: str = "default") -> Iterator[Job]:
    """
    A PRODUCER span around the enqueueing of a job, "send QUEUE", below the current span.

    Gives the job to enqueue: a copy with an id, and with `traceparent` and `tracestate` in its `meta`, in the place of
    older ones. What does not fit into the 4 KiB of `meta` is left out, the state first: a trace is no reason to refuse
    a job. What is raised inside is recorded in the span.

    Args:
        queue: The name of the queue, for the span.
    Raises:
        TracingUnavailable: OpenTelemetry is not installed.
    """
    _require()
    from opentelemetry import trace

    job_id = job.id or new_id()
    with trace.get_tracer("allocator").start_as_current_span(
        f"send {queue}",
        kind=trace.SpanKind.PRODUCER,
        attributes={
            "messaging.system": "allocator",
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.destination.name": queue,
            "messaging.message.id": job_id,
            "allocator.job.type": job.type,
        },
    ):
        yield msgspec.structs.replace(job, id=job_id, meta=_with_trace(job.meta))


def traced(processor: F) -> F:
    """
    A processor, function or coroutine function, that runs each attempt in a CONSUMER span, "process TYPE".

    Its parent is the producer's span, out of the job's `meta`; without one, or with one that is damaged, it begins a
    trace of its own. What the processor raises is recorded, and is the span's error.

    Raises:
        TracingUnavailable: OpenTelemetry is not installed. Raised here, at the import of the processor's module.
    """
    _require()
    if inspect.iscoroutinefunction(processor):

        @functools.wraps(processor)
        async def run_async(context: Tried) -> Any:
            with _processing(context):
                return await processor(context)

        return cast(F, run_async)

    @functools.wraps(processor)
    def run(context: Tried) -> Any:
        with _processing(context):
            return processor(context)

    return cast(F, run)


@contextmanager
def _processing(context: Tried) -> Iterator[None]:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    job = context.job
    with trace.get_tracer("allocator").start_as_current_span(
        f"process {job.type}",
        # Of this job and nothing else, whatever the thread was at before.
        context=TraceContextTextMapPropagator().extract(job.meta, Context()),
        kind=trace.SpanKind.CONSUMER,
        attributes={
            "messaging.system": "allocator",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.message.id": job.id,
            "allocator.job.type": job.type,
            "allocator.job.attempt": context.attempt,
        },
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except BaseException as error:
            # Left to itself the span would pass over SystemExit and its like, which fail an attempt as well.
            span.record_exception(error)
            span.set_attribute("error.type", type(error).__qualname__)
            span.set_status(trace.StatusCode.ERROR, f"{type(error).__name__}: {error}")
            raise


def _with_trace(meta: dict[str, str]) -> dict[str, str]:
    """The tags with the current span's context, as much of it as fits."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    trace: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(trace)
    if not trace:
        return meta
    tags = {key: value for key, value in meta.items() if key not in (TRACEPARENT, TRACESTATE)}
    for with_trace in ({**tags, **trace}, {**tags, TRACEPARENT: trace[TRACEPARENT]}):
        if _fits(with_trace):
            return with_trace
    return tags


def _fits(meta: dict[str, str]) -> bool:
    try:
        return len(msgspec.json.encode(meta)) <= MAX_META_BYTES
    except (TypeError, ValueError):
        # Not what the queue takes; it will say so, naming the field.
        return False


def _require() -> None:
    try:
        import opentelemetry.trace  # noqa: F401
    except ImportError as error:
        raise TracingUnavailable(
            f"tracing needs OpenTelemetry, which cannot be imported ({error}): pip install allocator[otel]"
        ) from error
