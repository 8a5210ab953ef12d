"""A traced processor that worker processes run by name."""

import json
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan

from allocator.supervisor import Context
from allocator.tracing import traced


@traced
def write_span(context: Context) -> None:
    """Write down which span this process runs in."""
    span = trace.get_current_span()
    assert isinstance(span, ReadableSpan)
    assert span.parent is not None
    told = {
        "trace": trace.format_trace_id(span.get_span_context().trace_id),
        "parent": trace.format_span_id(span.parent.span_id),
        "kind": span.kind.name,
    }
    Path(context.job.payload["path"]).write_text(json.dumps(told))
