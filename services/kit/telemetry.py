"""Traces: spans of OpenTelemetry, exported to a collector or to a file.

Without an exporter there is only the API's empty span. Spans carry names, counts, sizes and
statuses, never what was said: text, arguments and answers stay out.

A trace goes on across processes by W3C Trace Context: `span` tells `services.contracts.context`
of the span in force, whose clients send it as `traceparent`.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from opentelemetry import context, trace
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags, Tracer
from opentelemetry.util.types import AttributeValue

from services.contracts.context import current_traceparent, trace_scope
from services.contracts.errors import FailedPrecondition, ServiceError

Attributes = Mapping[str, AttributeValue]
_EXPORT_EVERY_MS = 1_000.0  # a person who looks at the file waits for it
_tracer: Tracer | None = None


def is_tracing() -> bool:
    """Spans are kept; where they are not, a caller can save itself their attributes."""
    return _tracer is not None


@contextmanager
def span(
    name: str, *, kind: SpanKind = SpanKind.INTERNAL, attributes: Attributes | None = None
) -> Iterator[Span]:
    """A span around the block, below the one in force; an exception is noted as `error.type`.

    Not for a block with a `yield` in it, which may end in another context than it began in; see
    `started`.

    Args:
        name: Few different ones: an operation, not its arguments.
        kind: Side of a call, see OpenTelemetry.
        attributes: What is known at the start.
    """
    with started(name, kind=kind, attributes=attributes) as begun, current(begun):
        yield begun


@contextmanager
def started(
    name: str, *, kind: SpanKind = SpanKind.INTERNAL, attributes: Attributes | None = None
) -> Iterator[Span]:
    """As `span`, but not in force inside the block; `current` puts it in force for a part."""
    if _tracer is None:
        yield trace.INVALID_SPAN
        return
    begun = _tracer.start_span(name, _parent(), kind, attributes)
    try:
        yield begun
    except GeneratorExit:  # a reader that leaves is no error
        raise
    except BaseException as exc:
        note_error(begun, _error_type(exc))
        raise
    finally:
        begun.end()


@contextmanager
def current(begun: Span) -> Iterator[None]:
    """Put a span in force for the block: spans and requests that begin in it are below it."""
    if not begun.is_recording():
        yield
        return
    token = context.attach(trace.set_span_in_context(begun))
    try:
        with trace_scope(_traceparent(begun.get_span_context())):
            yield
    finally:
        context.detach(token)


def note_error(begun: Span, error_type: str) -> None:
    """Mark a span as failed, by a class of errors and without its message."""
    begun.set_attribute("error.type", error_type)
    begun.set_status(Status(StatusCode.ERROR))


@contextmanager
def recording(tracer: Tracer) -> Iterator[None]:
    """Make the spans of this process with a tracer for the duration of the block."""
    global _tracer
    before, _tracer = _tracer, tracer
    try:
        yield
    finally:
        _tracer = before


@contextmanager
def open_telemetry(
    service: str, *, endpoint: str | None = None, file: Path | None = None
) -> Iterator[None]:
    """Export this process's spans for the duration of the block; without a target, do nothing.

    Args:
        service: `service.name` of the process.
        endpoint: OTLP over HTTP: base URL of a collector, `/v1/traces` is added where it lacks.
        file: Gets one span per line as JSON, appended; mode 0600.

    Raises:
        FailedPrecondition: A target is named, and OpenTelemetry's SDK is not installed or the
            file cannot be written.
    """
    if endpoint is None and file is None:
        yield
        return
    try:
        # Here, because most processes export nothing and start faster without it.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
    except ImportError as exc:
        raise FailedPrecondition(
            f"traces need a package that is missing ({exc.name}); install toolwright[telemetry]"
        ) from exc
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    if endpoint is not None:
        url = f"{endpoint.rstrip('/').removesuffix('/v1/traces')}/v1/traces"
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
    out = None if file is None else os.fdopen(_appended(file), "w", encoding="utf-8")
    if out is not None:
        lines = ConsoleSpanExporter(out=out, formatter=lambda s: s.to_json(indent=None) + "\n")
        processor = BatchSpanProcessor(lines, schedule_delay_millis=_EXPORT_EVERY_MS)
        provider.add_span_processor(processor)
    try:
        with recording(provider.get_tracer("toolwright")):
            yield
    finally:
        provider.shutdown()
        if out is not None:
            out.close()


def _appended(file: Path) -> int:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise FailedPrecondition(
            f"cannot write traces to {str(file)!r}: {exc.strerror}; set TOOLWRIGHT_TRACE_FILE to "
            "another path"
        ) from exc


def _parent() -> context.Context | None:
    """Above a new span: the one in force, else the caller's in another process."""
    if trace.get_current_span().get_span_context().is_valid:
        return None  # means the context in force
    header = current_traceparent()
    if header is None:
        return None
    _, trace_id, span_id, flags = header.split("-")
    above = SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16)))
    return trace.set_span_in_context(trace.NonRecordingSpan(above))


def _traceparent(above: SpanContext) -> str:
    return f"00-{above.trace_id:032x}-{above.span_id:016x}-{above.trace_flags:02x}"


def _error_type(exc: BaseException) -> str:
    return exc.code if isinstance(exc, ServiceError) else type(exc).__name__
