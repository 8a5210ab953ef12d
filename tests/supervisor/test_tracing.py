"""Traces through a real queue and supervisor, seen by the exporter of OpenTelemetry's SDK."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from allocator import Backoff, InvalidJob, Queue
from allocator.domain.job import MAX_META_BYTES
from allocator.supervisor import Context, GiveUp, Supervisor
from allocator.tracing import producing, traced
from tests.contract.builders import BOUND_S, Clients, a_job, counts, take

SPANS = InMemorySpanExporter()


@pytest.fixture(scope="session", autouse=True)
def provider() -> None:
    """The SDK of this process; it can be set only once."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(SPANS))
    trace.set_tracer_provider(provider)


@pytest.fixture(autouse=True)
def no_spans() -> None:
    """None of the tests before."""
    SPANS.clear()


@pytest.fixture
def eager_queue(open_client: Clients) -> Queue:
    """Real time, and no pause before the next attempt."""
    return open_client(clock=None, backoff=Backoff(base=0.0))


def spans(kind: SpanKind) -> list[ReadableSpan]:
    """Those of a kind that have ended, in the order of their starts."""
    return sorted(
        (span for span in SPANS.get_finished_spans() if span.kind == kind), key=lambda span: span.start_time or 0
    )


def drain(queue: Queue, processor: Any, **options: Any) -> None:
    """Let a supervisor do what waits."""
    with Supervisor(queue, {"json": processor}, **options) as supervisor:
        assert supervisor.drain(BOUND_S), supervisor.stats()


def context_of(span: ReadableSpan) -> trace.SpanContext:
    """The ids of a span."""
    context = span.get_span_context()
    assert context is not None
    return context


def test_an_attempt_is_a_span_below_the_producers(eager_queue: Queue) -> None:
    """In the same trace, named and described by the conventions for messaging."""
    with producing(a_job(), eager_queue.name) as given:
        job = eager_queue.enqueue(given)

    drain(eager_queue, traced(lambda context: None))

    (sent,), (processed,) = spans(SpanKind.PRODUCER), spans(SpanKind.CONSUMER)
    assert sent.name == f"send {eager_queue.name}"
    assert sent.parent is None
    assert processed.name == "process json"
    assert processed.parent is not None
    assert processed.parent.span_id == context_of(sent).span_id
    assert context_of(processed).trace_id == context_of(sent).trace_id
    assert processed.status.status_code == StatusCode.UNSET
    assert dict(processed.attributes or {}) == {
        "messaging.system": "allocator",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.message.id": job.id,
        "allocator.job.type": "json",
        "allocator.job.attempt": 1,
    }
    assert (sent.attributes or {})["messaging.message.id"] == job.id


def test_what_a_processor_traces_is_below_its_attempt(eager_queue: Queue) -> None:
    """As with a database or an HTTP client that is traced too; the producer's span is below the one around it."""
    tracer = trace.get_tracer("test")

    @traced
    def inner(context: Context) -> None:
        with tracer.start_as_current_span("inner"):
            pass

    with tracer.start_as_current_span("outer"), producing(a_job()) as given:
        eager_queue.enqueue(given)
    drain(eager_queue, inner)

    by_name = {span.name: span for span in SPANS.get_finished_spans()}
    path = ["inner", "process json", "send default", "outer"]
    parents = [by_name[name].parent for name in path]
    assert [parent and parent.span_id for parent in parents] == [
        *(context_of(by_name[name]).span_id for name in path[1:]),
        None,
    ]


def test_every_attempt_is_a_span(eager_queue: Queue) -> None:
    """Below the same producer's; what failed carries the exception and the status."""
    with producing(a_job()) as given:
        eager_queue.enqueue(given)

    @traced
    def second_time_lucky(context: Context) -> None:
        if context.attempt == 1:
            raise ValueError("no such colour")

    drain(eager_queue, second_time_lucky)

    (sent,), (failed, done) = spans(SpanKind.PRODUCER), spans(SpanKind.CONSUMER)
    assert {context_of(span).trace_id for span in (sent, failed, done)} == {context_of(sent).trace_id}
    assert [(span.attributes or {})["allocator.job.attempt"] for span in (failed, done)] == [1, 2]
    assert failed.status.status_code == StatusCode.ERROR
    assert failed.status.description == "ValueError: no such colour"
    assert (failed.attributes or {})["error.type"] == "ValueError"
    (event,) = failed.events
    assert (event.attributes or {})["exception.message"] == "no such colour"
    assert done.status.status_code == StatusCode.UNSET
    assert eager_queue.counts() == counts(done=1)


@pytest.mark.parametrize("error", [GiveUp("not an image"), SystemExit(4)])
def test_whatever_ends_an_attempt_is_recorded(eager_queue: Queue, error: BaseException) -> None:
    """Giving up, and what no worker survives; the job fares as without a trace."""
    eager_queue.enqueue(a_job(max_retries=0))

    @traced
    def end(context: Context) -> None:
        raise error

    drain(eager_queue, end, workers=1)

    (processed,) = spans(SpanKind.CONSUMER)
    assert processed.status.status_code == StatusCode.ERROR
    assert len(processed.events) == 1
    assert eager_queue.counts() == counts(dead=1)


def test_a_coroutine_is_traced_as_well(eager_queue: Queue) -> None:
    """From its beginning to its end, not to its first await."""

    @traced
    async def co(context: Context) -> None:
        await asyncio.sleep(0)
        raise GiveUp("not an image")

    with producing(a_job()) as given:
        eager_queue.enqueue(given)
    drain(eager_queue, co)

    (sent,), (processed,) = spans(SpanKind.PRODUCER), spans(SpanKind.CONSUMER)
    assert processed.parent is not None
    assert processed.parent.span_id == context_of(sent).span_id
    assert processed.status.status_code == StatusCode.ERROR


@pytest.mark.on_redis
def test_a_worker_process_goes_on_with_the_trace(
    eager_queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an SDK of its own, which is set up there."""
    monkeypatch.setenv("OTEL_PYTHON_TRACER_PROVIDER", "sdk_tracer_provider")
    path = tmp_path / "span"
    with producing(a_job(payload={"path": str(path)})) as given:
        eager_queue.enqueue(given)

    drain(eager_queue, "tests.supervisor.traced_programs:write_span", processes=1)

    (sent,) = spans(SpanKind.PRODUCER)
    assert json.loads(path.read_text()) == {
        "trace": trace.format_trace_id(context_of(sent).trace_id),
        "parent": trace.format_span_id(context_of(sent).span_id),
        "kind": "CONSUMER",
    }


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"traceparent": ""},
        {"traceparent": "00-zz"},
        {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"},
        {"traceparent": "ff-" + "1" * 32 + "-" + "1" * 16 + "-01"},
        {"traceparent": "\x00" * 600, "tracestate": "=,=,"},
        {"tracestate": "a=b"},
    ],
)
def test_a_damaged_context_harms_nothing(eager_queue: Queue, meta: dict[str, str]) -> None:
    """The attempt begins a trace of its own."""
    eager_queue.enqueue(a_job(meta=meta))

    drain(eager_queue, traced(lambda context: None))

    (processed,) = spans(SpanKind.CONSUMER)
    assert processed.parent is None
    assert eager_queue.counts() == counts(done=1)


def test_tags_stay_and_an_older_context_goes(queue: Queue) -> None:
    """The caller's job is left as it was."""
    job = a_job(meta={"owner": "me", "traceparent": "old", "tracestate": "old=1"})

    with producing(job) as given:
        queue.enqueue(given)

    (sent,) = spans(SpanKind.PRODUCER)
    meta = take(queue).job.meta
    assert meta.keys() == {"owner", "traceparent"}
    assert trace.format_span_id(context_of(sent).span_id) in meta["traceparent"]
    assert job.meta["traceparent"] == "old"
    assert job.id == ""


@pytest.mark.parametrize(("room", "kept"), [(200, {"traceparent", "tracestate"}), (80, {"traceparent"}), (40, set())])
def test_a_context_that_does_not_fit_is_left_out(queue: Queue, room: int, kept: set[str]) -> None:
    """The state first; the job is accepted in any case."""
    tag = "x" * (MAX_META_BYTES - len('{"tag":""}') - room)
    state = trace.TraceState([("vendor", "v" * 60)])
    around = trace.NonRecordingSpan(
        trace.SpanContext(1, 1, is_remote=True, trace_flags=trace.TraceFlags(1), trace_state=state)
    )

    with trace.use_span(around), producing(a_job(meta={"tag": tag})) as given:
        queue.enqueue(given)

    assert take(queue).job.meta.keys() == {"tag", *kept}


def test_a_job_that_is_refused_is_an_error_of_the_producer(queue: Queue) -> None:
    """And the queue says why, as without a trace."""
    with pytest.raises(InvalidJob, match=r"meta\.owner"), producing(a_job(meta={"owner": "\ud800"})) as given:
        queue.enqueue(given)

    (sent,) = spans(SpanKind.PRODUCER)
    assert sent.status.status_code == StatusCode.ERROR


def test_without_opentelemetry_it_says_what_to_install() -> None:
    """In a process that cannot import it; the module itself needs nothing."""
    program = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from allocator import tracing\n"
        "try: tracing.traced(print)\n"
        "except tracing.TracingUnavailable as error: print(error)\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert "pip install allocator[otel]" in done.stdout, done.stderr


def test_without_an_sdk_nothing_is_recorded_and_nothing_fails() -> None:
    """The job has no trace context then."""
    program = (
        "from allocator import Job, tracing\n"
        "with tracing.producing(Job(type='json')) as job: print(job.meta)\n"
        "class Context: job, attempt = job, 1\n"
        "print(tracing.traced(lambda context: context.attempt)(Context))\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.stdout == "{}\n1\n", done.stderr
