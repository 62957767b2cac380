"""OTLP requests as SDKs send them, built from the protocol's own messages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

PROTOBUF = {"Content-Type": "application/x-protobuf"}
AT = 1_795_000_000_000_000_000


def any_value(value: Any) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    found = AnyValue()
    if isinstance(value, dict):
        found.kvlist_value.SetInParent()
        found.kvlist_value.values.extend(attributes(value))
    elif isinstance(value, list):
        found.array_value.SetInParent()
        found.array_value.values.extend(any_value(one) for one in value)
    return found


def attributes(given: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=name, value=any_value(value)) for name, value in given.items()]


def message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def chat(*said: tuple[str, str], answer: str = "", session: str | None = None, **more: Any) -> dict[str, Any]:
    """Attributes of a call of a model in the current conventions."""
    found: dict[str, Any] = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai"}
    found["gen_ai.request.model"] = "gpt-5"
    found["gen_ai.input.messages"] = json.dumps([message(*one) for one in said])
    if answer:
        found["gen_ai.output.messages"] = json.dumps([message("assistant", answer)])
    if session is not None:
        found["gen_ai.conversation.id"] = session
    return found | {name.replace("__", "."): value for name, value in more.items()}


def ids(name: str) -> tuple[bytes, bytes]:
    """A trace id and a span id that belong to a name."""
    digest = hashlib.sha256(name.encode()).digest()
    return digest[:16], digest[16:24]


def traces(
    *spans: tuple[str, dict[str, Any]], resource: dict[str, Any] | None = None, kind: int = 3
) -> ExportTraceServiceRequest:
    """A request of spans, each a name that its ids come from (`trace/span` shares a trace) and its attributes."""
    request = ExportTraceServiceRequest()
    holder = request.resource_spans.add()
    holder.resource.attributes.extend(attributes(resource or {}))
    scope = holder.scope_spans.add()
    for name, given in spans:
        trace_id, span_id = ids(name.partition("/")[0])[0], ids(name)[1]
        span = scope.spans.add(trace_id=trace_id, span_id=span_id, name=name, kind=kind, end_time_unix_nano=AT)
        span.attributes.extend(attributes(given))
    return request


def logs(*records: tuple[str, str, dict[str, Any], Any]) -> ExportLogsServiceRequest:
    """A request of log records: the span's name, the event's, its attributes and its body."""
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for name, event, given, body in records:
        trace_id, span_id = ids(name.partition("/")[0])[0], ids(name)[1]
        record = scope.log_records.add(trace_id=trace_id, span_id=span_id, event_name=event, time_unix_nano=AT)
        record.attributes.extend(attributes(given))
        if body is not None:
            record.body.CopyFrom(any_value(body))
    return request


def trace_id_of(name: str) -> str:
    return ids(name.partition("/")[0])[0].hex()


def in_batches(spans: Sequence[tuple[str, dict[str, Any]]], size: int) -> list[bytes]:
    return [traces(*spans[at : at + size]).SerializeToString() for at in range(0, len(spans), size)]
