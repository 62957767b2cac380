"""OTLP requests as records: protobuf and JSON, of spans and of logs, with bounded work whatever is sent.

A request is taken apart span by span, by hand down to the span: parsed as a whole, sixteen megabytes of empty spans
would be a gigabyte of objects. Strings are read as bytes and decoded leniently, by descriptors of our own: an
application that cuts a text in the middle of a character, or an attacker who adds half of one, must not keep a span
from being read.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from services.detection.domain.genai import Record
from services.detection.domain.genai_messages import DEPTH_LIMIT
from shared.errors import DomainError, TooLarge

RECORDS_A_REQUEST = 50_000
"""An SDK exports 512 at a time, a collector some thousands."""
RECORD_BYTES = 4 * 1024 * 1024
RESOURCE_BYTES = 256 * 1024
GZIP_MEMBERS = 16
"""A compressor writes one, and one more where a body was put together from several."""
JSON_MARKS = 600_000
"""Brackets and commas, of which every JSON value but the first costs one at least: 8,000 spans of 15 attributes."""
STATUS_ERROR = 2
"""StatusCode of a span that failed."""
_GZIP = 31  # zlib's window bits for a gzip header


class MalformedTelemetry(DomainError):
    """The request is not OTLP as its media type has it."""


class TooMuchTelemetry(TooLarge):
    """The request holds more than is read at once; send smaller batches."""


def gunzip(body: bytes, limit_bytes: int) -> bytes:
    """The content, read no further than the limit.

    Raises:
        MalformedTelemetry, TooMuchTelemetry
    """
    found = bytearray()
    rest = memoryview(body)
    try:
        for _ in range(GZIP_MEMBERS):
            # A gzip file may have several members, one after another.
            unpacker = zlib.decompressobj(_GZIP)
            found += unpacker.decompress(rest, limit_bytes + 1 - len(found))
            if len(found) > limit_bytes:
                raise TooMuchTelemetry(f"unpacked, a request may hold {limit_bytes} bytes", limit_bytes=limit_bytes)
            if not unpacker.eof:
                raise MalformedTelemetry("the gzip data ends in its middle")
            rest = rest[len(rest) - len(unpacker.unused_data) :]
            if not rest:
                return bytes(found)
    except zlib.error as error:
        raise MalformedTelemetry(f"not gzip: {error}") from error
    # zlib hands out a copy of what follows each member: thousands of empty ones would be copied thousands of times.
    raise MalformedTelemetry(f"the gzip data has more than {GZIP_MEMBERS} members")


def records_of(signal: str, body: bytes, *, is_json: bool) -> Iterator[Record]:
    """The records of a request, one after another; what comes before one that is malformed has been given then.

    Args:
        signal: traces or logs.

    Raises:
        MalformedTelemetry, TooMuchTelemetry
    """
    found = _of_json(signal, body) if is_json else _of_protobuf(signal, body)
    for number, record in enumerate(found):
        if number >= RECORDS_A_REQUEST:
            raise TooMuchTelemetry(f"a request may hold {RECORDS_A_REQUEST} records", limit=RECORDS_A_REQUEST)
        yield record


# -- protobuf ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _lenient() -> Callable[[str], Any]:
    """Message classes of OTLP in which every string is bytes: a string's bytes are not looked at by the parser."""
    pool = descriptor_pool.DescriptorPool()
    for module in (common_pb2, resource_pb2, trace_pb2, logs_pb2):
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        _without_strings(file.message_type)
        pool.Add(file)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"opentelemetry.proto.{name}"))


def _without_strings(messages: Sequence[Any]) -> None:
    for message in messages:
        for field in message.field:
            if field.type == field.TYPE_STRING:
                field.type = field.TYPE_BYTES
        _without_strings(message.nested_type)


def _of_protobuf(signal: str, body: bytes) -> Iterator[Record]:
    classes = _lenient()
    record_class = classes("trace.v1.Span" if signal == "traces" else "logs.v1.LogRecord")
    resource_class = classes("resource.v1.Resource")
    convert = _span if signal == "traces" else _log
    try:
        for resource_start, resource_end in _fields(body, 0, len(body), 1):
            resource: dict[str, Any] = {}
            for start, end in _fields(body, resource_start, resource_end, 1):
                if end - start > RESOURCE_BYTES:
                    raise TooMuchTelemetry(f"a resource may hold {RESOURCE_BYTES} bytes", limit_bytes=RESOURCE_BYTES)
                resource |= _attributes(resource_class.FromString(body[start:end]).attributes)
            for scope_start, scope_end in _fields(body, resource_start, resource_end, 2):
                for start, end in _fields(body, scope_start, scope_end, 2):
                    if end - start > RECORD_BYTES:
                        raise TooMuchTelemetry(f"a record may hold {RECORD_BYTES} bytes", limit_bytes=RECORD_BYTES)
                    yield convert(record_class.FromString(body[start:end]), resource)
    except (DecodeError, IndexError, RecursionError) as error:
        raise MalformedTelemetry(f"not OTLP in protobuf: {error}") from error


def _fields(body: bytes, start: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Where the length-delimited fields of a number lie in a message (protobuf's encoding document).

    Raises:
        DecodeError, IndexError: it is no message.
    """
    at = start
    while at < end:
        tag, at = _varint(body, at)
        number, kind = tag >> 3, tag & 7
        if kind == 2:
            length, at = _varint(body, at)
            if at + length > end:
                raise DecodeError("a field is longer than what holds it")
            if number == wanted:
                yield at, at + length
            at += length
        elif kind == 0:
            _, at = _varint(body, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise DecodeError(f"wire type {kind}")
        if number == 0:
            raise DecodeError("field number 0")
    if at != end:
        raise DecodeError("a field is longer than what holds it")


def _varint(body: bytes, at: int) -> tuple[int, int]:
    byte = body[at]
    if byte < 0x80:
        return byte, at + 1
    value, shift = byte & 0x7F, 7
    while shift < 64:
        at += 1
        byte = body[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + 1
        shift += 7
    raise DecodeError("a number is longer than ten bytes")


def _span(span: Any, resource: Mapping[str, Any]) -> Record:
    return Record(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        name=_string(span.name),
        at=(span.end_time_unix_nano or span.start_time_unix_nano) / 1e9,
        attributes=_attributes(span.attributes),
        resource=resource,
        kind=span.kind,
        events=[(_string(event.name), _attributes(event.attributes)) for event in span.events],
        failed=span.status.code == STATUS_ERROR,
        status=_string(span.status.message),
    )


def _log(log: Any, resource: Mapping[str, Any]) -> Record:
    attributes = _attributes(log.attributes)
    name = _string(log.event_name) or attributes.get("event.name")
    return Record(
        trace_id=log.trace_id.hex(),
        span_id=log.span_id.hex(),
        name=name if isinstance(name, str) else "",
        at=(log.time_unix_nano or log.observed_time_unix_nano) / 1e9,
        attributes=attributes,
        resource=resource,
        body=_value(log.body) if log.HasField("body") else None,
        is_log=True,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        value = pair.value
        # Strings are most of them.
        if value.HasField("string_value"):
            found[_string(pair.key)] = _string(value.string_value)
        else:
            found[_string(pair.key)] = _value(value)
    return found


def _value(value: Any) -> Any:
    match value.WhichOneof("value"):
        case "string_value":
            return _string(value.string_value)
        case "int_value":
            return value.int_value
        case "double_value":
            return value.double_value
        case "bool_value":
            return value.bool_value
        case "array_value":
            return [_value(one) for one in value.array_value.values]
        case "kvlist_value":
            return _attributes(value.kvlist_value.values)
        case "bytes_value":
            return _string(value.bytes_value)
    return None


def _string(value: bytes) -> str:
    return value.decode("utf-8", "replace")


# -- JSON --------------------------------------------------------------------------------------------------------------


def _of_json(signal: str, body: bytes) -> Iterator[Record]:
    """Records of OTLP/JSON: ids are hex here, where protobuf's own JSON has base64, and names are lowerCamelCase.

    The parser makes all objects at once and holds the interpreter while it does, in whichever thread: what it may be
    given is bounded before. Sixteen megabytes of `{},` would be 400 MB and a quarter of a second; at the limit it is a
    tenth of that. Marks within texts count too, so that nothing has to be read to count them.
    """
    if sum(body.count(mark) for mark in (b"{", b"[", b",")) > JSON_MARKS:
        raise TooMuchTelemetry(f"a request in JSON may hold {JSON_MARKS} brackets and commas", limit=JSON_MARKS)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            # Bytes that are no UTF-8 are replaced, as in protobuf.
            document = orjson.loads(body.decode("utf-8", "replace"))
        except orjson.JSONDecodeError as error:
            raise MalformedTelemetry(f"not JSON: {error}") from error
    spans = signal == "traces"
    names = ("resourceSpans", "scopeSpans", "spans") if spans else ("resourceLogs", "scopeLogs", "logRecords")
    convert = _json_span if spans else _json_log
    for holder in _list(_object(document, "the body"), names[0]):
        inner = _object(holder, names[0])
        resource = _json_attributes(_object(inner.get("resource") or {}, "resource"))
        for scope in _list(inner, names[1]):
            for record in _list(_object(scope, names[1]), names[2]):
                yield convert(_object(record, names[2]), resource)


def _json_span(span: Mapping[str, Any], resource: Mapping[str, Any]) -> Record:
    kind = span.get("kind")
    status = _object(span.get("status") or {}, "status")
    return Record(
        trace_id=_hex(span, "traceId"),
        span_id=_hex(span, "spanId"),
        name=str(span.get("name") or ""),
        at=(_integer(span, "endTimeUnixNano") or _integer(span, "startTimeUnixNano")) / 1e9,
        attributes=_json_attributes(span),
        resource=resource,
        kind=kind if isinstance(kind, int) else 3 if kind == "SPAN_KIND_CLIENT" else 0,
        events=[
            (str(_object(event, "events").get("name") or ""), _json_attributes(event))
            for event in _list(span, "events")
        ],
        failed=status.get("code") in (STATUS_ERROR, "STATUS_CODE_ERROR"),
        status=str(status.get("message") or ""),
    )  # fmt: skip


def _json_log(log: Mapping[str, Any], resource: Mapping[str, Any]) -> Record:
    attributes = _json_attributes(log)
    name = log.get("eventName") or attributes.get("event.name")
    body = log.get("body")
    return Record(
        trace_id=_hex(log, "traceId"),
        span_id=_hex(log, "spanId"),
        name=name if isinstance(name, str) else "",
        at=(_integer(log, "timeUnixNano") or _integer(log, "observedTimeUnixNano")) / 1e9,
        attributes=attributes,
        resource=resource,
        body=_json_value(_object(body, "body"), 0) if body is not None else None,
        is_log=True,
    )


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise MalformedTelemetry(f"{where}: an object is expected", field=where)
    return value


def _list(holder: Mapping[str, Any], name: str) -> list[Any]:
    value = holder.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise MalformedTelemetry(f"{name}: a list is expected", field=name)
    return value


def _hex(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name) or ""
    lengths = (0, 32 if name == "traceId" else 16)
    if not isinstance(value, str) or len(value) not in lengths:
        raise MalformedTelemetry(f"{name}: {lengths[1]} hexadecimal digits are expected", field=name)
    try:
        return bytes.fromhex(value).hex()
    except ValueError as error:
        raise MalformedTelemetry(f"{name}: {error}", field=name) from error


def _integer(record: Mapping[str, Any], name: str) -> int:
    """A 64-bit integer, which JSON has as text or as a number."""
    value = record.get(name) or 0
    try:
        return max(0, int(value))
    except (TypeError, ValueError, OverflowError) as error:
        raise MalformedTelemetry(f"{name}: an integer is expected", field=name) from error


def _json_attributes(holder: Mapping[str, Any], depth: int = 0, name: str = "attributes") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in _list(holder, name):
        key = _object(pair, name).get("key")
        if not isinstance(key, str):
            raise MalformedTelemetry(f"{name}: a key is missing", field=name)
        found[key] = _json_value(_object(pair.get("value") or {}, name), depth)
    return found


def _json_value(value: Mapping[str, Any], depth: int) -> Any:
    if depth > DEPTH_LIMIT:
        raise MalformedTelemetry(f"a value is nested deeper than {DEPTH_LIMIT} levels", field="attributes")
    for name, inner in value.items():
        match name:
            case "stringValue" | "boolValue" | "doubleValue":
                return inner
            case "intValue":
                return (
                    int(inner)
                    if isinstance(inner, str) and inner.lstrip("-").isdecimal() and len(inner) < 21
                    else inner
                )
            case "arrayValue":
                values = _list(_object(inner, name), "values")
                return [_json_value(_object(one, name), depth + 1) for one in values]
            case "kvlistValue":
                return _json_attributes(_object(inner, name), depth + 1, "values")
            case "bytesValue":
                try:
                    return base64.b64decode(inner, validate=True).decode("utf-8", "replace")
                except (TypeError, ValueError, binascii.Error) as error:
                    raise MalformedTelemetry(f"bytesValue: {error}", field="attributes") from error
    return None
