"""`/v1/traces` and `/v1/logs`: OTLP/HTTP, as any OpenTelemetry SDK or collector sends it.

https://opentelemetry.io/docs/specs/otlp/#otlphttp: answers in the request's media type, refusals as google.rpc.Status.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import prometheus_client
from fastapi import Request
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.responses import Response

from services.detection.application.otlp import Taken, take_in
from services.detection.otlp import gunzip, records_of
from shared.auth import requires
from shared.errors import DomainError, TooManyRequests, Unavailable
from shared.http import read_body
from shared.problems import status_of
from shared.runtime import Runtime
from shared.service import router as make_router

traces_router = make_router("/v1/traces", "telemetry")
logs_router = make_router("/v1/logs", "telemetry")

_PROTOBUF = "application/x-protobuf"
_JSON = "application/json"
_CODES = {400: 3, 413: 3, 415: 3, 429: 8, 503: 14}
"""HTTP status -> google.rpc.Code: INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNAVAILABLE."""
_LARGE_BYTES = 65_536

TELEMETRY_RECORDS = prometheus_client.Counter(
    "colonnade_detection_telemetry_records_total",
    "Spans and log records taken in, by what became of them.",
    ["signal", "outcome"],
)


class NotUnderstood(DomainError):
    """This media type is not understood here."""


def _refused(description: str, schema: dict[str, Any], binary: dict[str, Any]) -> dict[str, Any]:
    problem = {"$ref": "#/components/schemas/Problem"}
    # The gateway's own refusals are problems, as everywhere.
    content = {
        _JSON: {"schema": schema},
        _PROTOBUF: {"schema": binary},
        "application/problem+json": {"schema": problem},
    }
    return {"description": description, "content": content}


def _documented(signal: str) -> dict[str, Any]:
    """What OpenAPI says of a route whose body is no model of ours."""
    held = {"traces": "resourceSpans", "logs": "resourceLogs"}[signal]
    # Null is the field left out, as in all JSON of protobuf.
    request = {"type": "object", "properties": {held: {"type": ["array", "null"], "items": {"type": "object"}}}}
    answer = {"type": "object", "properties": {"partialSuccess": {"type": "object"}}}
    refusal = {"type": "object", "properties": {"code": {"type": "integer"}, "message": {"type": "string"}}}
    binary = {"type": "string", "format": "binary"}

    def response(description: str, schema: dict[str, Any]) -> dict[str, Any]:
        content = {_JSON: {"schema": schema}, _PROTOBUF: {"schema": binary}}
        return {"description": description, "content": content}

    refusals = {
        "400": "Not OTLP.",
        "413": "Too much for one request.",
        "415": "Neither protobuf nor JSON, or packed otherwise than by gzip.",
        "503": "The stream takes nothing now; Retry-After says when to try again.",
    }
    return {
        "requestBody": {
            "required": True,
            "content": {_JSON: {"schema": request}, _PROTOBUF: {"schema": binary}},
        },
        "responses": {
            "200": response("Stored, to be inspected. `partialSuccess` says what was not.", answer),
            **{status: _refused(why, refusal, binary) for status, why in refusals.items()},
        },
    }


@traces_router.post("", openapi_extra=_documented("traces"))
@requires("telemetry:write")
async def export_traces(request: Request) -> Response:
    """Take in spans. What they tell of models, agents and tools is inspected within a second or so."""
    return await _export("traces", request)


@logs_router.post("", openapi_extra=_documented("logs"))
@requires("telemetry:write")
async def export_logs(request: Request) -> Response:
    """Take in log records; those that are events of models, agents and tools are inspected."""
    return await _export("logs", request)


async def _export(signal: str, request: Request) -> Response:
    media_type = request.headers.get("content-type", "").split(";", 1)[0].strip().lower()
    is_json = media_type == _JSON
    try:
        if media_type not in (_JSON, _PROTOBUF):
            raise NotUnderstood(f"send {_PROTOBUF} or {_JSON}")
        body = await _unpacked(request)
        runtime: Runtime = request.app.state.runtime
        memory, publisher = runtime.resources["live"], runtime.resources["publisher"]
        records = records_of(signal, body, is_json=is_json)
        taken = await take_in(records, request.state.caller, memory, publisher)
    except DomainError as refused:
        return _refusal(refused, is_json=is_json)
    for outcome, number in (("told", taken.told), ("ignored", taken.ignored), ("rejected", taken.rejected)):
        TELEMETRY_RECORDS.labels(signal, outcome).inc(number)
    return _answer(signal, taken, is_json=is_json)


async def _unpacked(request: Request) -> bytes:
    settings = request.app.state.runtime.settings
    body = await read_body(request, settings.body_limit_bytes)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise NotUnderstood("send gzip, or no encoding")
    if len(body) < _LARGE_BYTES // 8:
        return gunzip(body, settings.telemetry_unpacked_bytes)
    return await asyncio.to_thread(gunzip, body, settings.telemetry_unpacked_bytes)


def _answer(signal: str, taken: Taken, *, is_json: bool) -> Response:
    if is_json:
        partial: dict[str, Any] = {}
        if taken.rejected:
            name = "rejectedSpans" if signal == "traces" else "rejectedLogRecords"
            partial[name] = str(taken.rejected)
        if taken.reason:
            partial["errorMessage"] = taken.reason
        return Response(orjson.dumps({"partialSuccess": partial} if partial else {}), media_type=_JSON)
    answer: Any = ExportTraceServiceResponse() if signal == "traces" else ExportLogsServiceResponse()
    if taken.rejected and signal == "traces":
        answer.partial_success.rejected_spans = taken.rejected
    elif taken.rejected:
        answer.partial_success.rejected_log_records = taken.rejected
    if taken.reason:
        answer.partial_success.error_message = taken.reason
    return Response(answer.SerializeToString(), media_type=_PROTOBUF)


def _refusal(refused: DomainError, *, is_json: bool) -> Response:
    status = 415 if isinstance(refused, NotUnderstood) else status_of(refused)
    headers = {}
    if isinstance(refused, Unavailable | TooManyRequests):
        headers["Retry-After"] = str(refused.retry_after_seconds)
    code = _CODES.get(status, 2)
    if is_json or status == 415:
        document = orjson.dumps({"code": code, "message": refused.detail})
        return Response(document, status, headers, media_type=_JSON)
    told = Status(code=code, message=refused.detail)
    return Response(told.SerializeToString(), status, headers, media_type=_PROTOBUF)
