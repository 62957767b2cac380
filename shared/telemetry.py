"""Traces, metrics and logs: one trace from an HTTP request through outbox, NATS and consumers.

Nothing is exported unless an OTLP endpoint is set; trace ids exist all the same, for problems and logs.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from prometheus_client import Counter, Gauge, Histogram

HTTP_SECONDS = Histogram(
    "colonnade_http_request_duration_seconds",
    "Time from request received to response sent.",
    ["service", "method", "route", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
EVENTS_PUBLISHED = Counter("colonnade_events_published_total", "Events the relay got acknowledged.", ["service"])
EVENTS_CONSUMED = Counter("colonnade_events_consumed_total", "Events applied.", ["service", "stream"])
EVENTS_DEAD = Counter("colonnade_events_dead_lettered_total", "Events set aside as poison.", ["service"])
EVENT_LAG = Gauge("colonnade_event_lag_seconds", "Age of the newest applied event when it was applied.", ["service"])
OUTBOX_PENDING = Gauge("colonnade_outbox_pending_events", "Events found waiting at the relay's last look.", ["service"])
TASKS_DONE = Counter("colonnade_tasks_total", "Side effects tried, by outcome.", ["service", "kind", "outcome"])

_provider: TracerProvider | None = None
_tracer = trace.get_tracer("colonnade")
"""Looks for the provider when it is first used, which is after `configure`."""


def _add_trace_id(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The trace id that a problem shows is what its log lines are found by."""
    current = trace_id()
    if current is not None:
        event.setdefault("trace_id", current)
    return event


def configure(service: str, *, otlp_endpoint: str, log_level: str, processor: SpanProcessor | None = None) -> None:
    """Set up this process's traces and logs; the first caller decides, as OpenTelemetry's provider is global."""
    global _provider
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _add_trace_id,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[log_level]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    if _provider is not None:
        return
    exporting = bool(otlp_endpoint) or processor is not None
    _provider = TracerProvider(
        resource=Resource.create({"service.name": f"colonnade-{service}", "service.namespace": "colonnade"}),
        # Unsampled spans still carry trace ids but cost a few microseconds instead of tens.
        sampler=ParentBased(ALWAYS_ON) if exporting else ALWAYS_OFF,
    )
    if processor is not None:
        _provider.add_span_processor(processor)
    if otlp_endpoint:
        # Imported here: it brings requests and protobuf, 15 MB that a process without a collector should not hold.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        endpoint = otlp_endpoint.rstrip("/") + "/v1/traces"
        _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    trace.set_tracer_provider(_provider)


def shutdown() -> None:
    """Send what is still buffered."""
    if _provider is not None:
        _provider.force_flush(2_000)


def logger() -> Any:
    return structlog.get_logger()


def parse_traceparent(text: str | None) -> SpanContext | None:
    """W3C Trace Context `traceparent`; None when absent or not valid, as the recommendation asks."""
    if not text or len(text) < 55:
        return None
    parts = text.split("-")
    if len(parts) < 4 or len(parts[1]) != 32 or len(parts[2]) != 16 or parts[0] == "ff":
        return None
    try:
        context = SpanContext(int(parts[1], 16), int(parts[2], 16), True, TraceFlags(int(parts[3], 16)))
    except ValueError:
        return None
    return context if context.is_valid else None


@contextmanager
def span(name: str, kind: SpanKind, parent: str | None = None, **attributes: str | int) -> Iterator[trace.Span]:
    """A span below `parent` (a traceparent) or below the current one."""
    remote = parse_traceparent(parent)
    context = trace.set_span_in_context(NonRecordingSpan(remote)) if remote else None
    with _tracer.start_as_current_span(name, context=context, kind=kind, attributes=attributes) as current:
        yield current


def traceparent() -> str | None:
    """The current span as a `traceparent`, to go with an event or a call; None outside any trace."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def trace_id() -> str | None:
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None
