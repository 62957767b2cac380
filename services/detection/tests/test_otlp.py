"""OTLP over HTTP: what is answered, what comes of it, and what bad input does."""

from __future__ import annotations

import gzip
import json
import os
import resource
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from deploy.local.nats import Nats
from services.detection.otlp import GZIP_MEMBERS, JSON_MARKS, RECORDS_A_REQUEST, MalformedTelemetry, gunzip
from services.detection.tests.factories import ASSET, ATTACK, HARMLESS, an_asset_registered
from services.detection.tests.otlp import PROTOBUF, chat, ids, logs, message, trace_id_of, traces
from services.detection.tests.streams import alerts, handled, interactions, on_a_stream, working
from shared.testing import Harness, TestServer

JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def streaming(postgres: TestServer, nats_server: Nats) -> AsyncIterator[Harness]:
    async with on_a_stream(postgres, nats_server) as detection, working(detection):
        yield detection


async def export(
    detection: Harness, body: bytes, signal: str = "traces", headers: dict[str, str] = PROTOBUF, **whom: Any
) -> httpx.Response:
    return await detection.client(whom.pop("role", "ingest"), **whom).post(
        f"/v1/{signal}", content=body, headers=headers
    )


def json_of(span: dict[str, Any], name: str = "t/1") -> bytes:
    """The request of one span as OTLP/JSON has it: ids in hex, numbers as text."""
    attributes = [{"key": key, "value": {"stringValue": value}} for key, value in span.items()]
    one = {"traceId": trace_id_of(name), "spanId": ids(name)[1].hex().upper(), "name": name, "kind": 3,
           "endTimeUnixNano": "1795000000000000000", "attributes": attributes, "unknown": [1]}  # fmt: skip
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [one]}]}]}).encode()


async def test_an_attack_in_a_span_is_an_alert_under_the_applications_trace(streaming: Harness) -> None:
    await streaming.deliver(an_asset_registered())
    request = traces(
        ("t/1", chat(("user", ATTACK), session="s", user__id="mallory")),
        resource={"colonnade.asset_id": str(ASSET)},
    )
    answer = await export(
        streaming, gzip.compress(request.SerializeToString()), headers=PROTOBUF | {"Content-Encoding": "gzip"}
    )
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-protobuf")
    assert ExportTraceServiceResponse.FromString(answer.content) == ExportTraceServiceResponse()
    await handled(streaming)
    [alert] = await alerts(streaming)
    assert (alert.trace_id, alert.session_id, alert.actor) == (trace_id_of("t"), "s", "mallory")
    assert (alert.asset_id, alert.owner_team, alert.model) == (ASSET, "shop", "gpt-5")
    [raised] = await streaming.published("ev.detection.alert.raised.v1")
    assert raised.data["alert"]["trace_id"] == trace_id_of("t")
    assert raised.traceparent is not None
    assert raised.traceparent.split("-")[1] == trace_id_of("t")


async def test_json_has_its_ids_in_hex_and_is_answered_in_json(streaming: Harness) -> None:
    answer = await export(streaming, json_of(chat(("user", ATTACK))), headers=JSON)
    assert (answer.status_code, answer.headers["content-type"], answer.json()) == (200, "application/json", {})
    # The same span in protobuf is the same span.
    await export(streaming, traces(("t/1", chat(("user", ATTACK)))).SerializeToString())
    await handled(streaming)
    [alert] = await alerts(streaming)
    assert (alert.trace_id, alert.count) == (trace_id_of("t"), 1)


async def test_content_on_events_of_the_log_is_inspected_once_with_its_span(streaming: Harness) -> None:
    details = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": [message("user", ATTACK)]}
    event = logs(("t/1", "gen_ai.client.inference.operation.details", details, None)).SerializeToString()
    span = traces(("t/1", chat(("user", ATTACK)))).SerializeToString()
    for signal, body in (("logs", event), ("traces", span), ("logs", event)):
        answer = await export(streaming, body, signal)
        assert answer.status_code == 200
    assert ExportLogsServiceResponse.FromString(answer.content) == ExportLogsServiceResponse()
    as_json = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{
        "traceId": trace_id_of("t"), "spanId": ids("t/2")[1].hex(), "eventName": "gen_ai.user.message",
        "body": {"kvlistValue": {"values": [{"key": "content", "value": {"stringValue": f"{ATTACK} Again."}}]}},
    }]}]}]}  # fmt: skip
    assert (await export(streaming, json.dumps(as_json).encode(), "logs", JSON)).status_code == 200
    await handled(streaming)
    [alert] = await alerts(streaming)
    assert alert.count == 2


async def test_an_asset_is_known_by_id_or_by_a_name_that_only_one_has(streaming: Harness) -> None:
    twins = [an_asset_registered(asset_id, name="twin") for asset_id in (UUID(int=1), UUID(int=2))]
    await streaming.deliver(an_asset_registered(), *twins)
    for name, attributes, service in (
        ("a", {"gen_ai.agent.name": "shop assistant"}, "x"),
        ("b", {}, "shop assistant"),
        ("c", {}, "twin"),
        ("d", {}, "nobody"),
    ):
        request = traces((name, chat(("user", ATTACK), session=name) | attributes), resource={"service.name": service})
        assert (await export(streaming, request.SerializeToString())).status_code == 200
    foreign = traces(("e", chat(("user", ATTACK), session="e")), resource={"service.name": "shop assistant"})
    await export(streaming, foreign.SerializeToString(), teams=["other"])
    await handled(streaming)
    found = {alert.session_id: (alert.asset_id, alert.owner_team) for alert in await alerts(streaming)}
    shop = (ASSET, "shop")
    assert found == {"a": shop, "b": shop, "c": (None, ""), "d": (None, ""), "e": (None, "other")}


async def test_what_is_not_as_asked_is_said_in_the_answer(streaming: Harness) -> None:
    await streaming.deliver(an_asset_registered())
    wrong = traces(("t/1", chat(("user", ATTACK), colonnade__asset_id="no asset of ours"))).SerializeToString()
    told = ExportTraceServiceResponse.FromString((await export(streaming, wrong)).content).partial_success
    assert (told.rejected_spans, "no asset of ours" in told.error_message) == (0, True)
    await handled(streaming)
    assert len(await alerts(streaming)) == 1
    both = traces(("t/2", chat(("user", ATTACK))), ("t/3", {"http.method": "GET"})).SerializeToString()
    answer = await export(streaming, both, teams=["shop", "other"])
    told = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert (told.rejected_spans, "several teams" in told.error_message) == (1, True)
    answer = await export(streaming, json_of(chat(("user", ATTACK))), headers=JSON, teams=["shop", "other"])
    assert answer.json()["partialSuccess"]["rejectedSpans"] == "1"


async def test_a_spans_tools_take_the_session_of_their_trace(streaming: Harness) -> None:
    call = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search", "gen_ai.tool.call.result": ATTACK}
    request = traces(("t/tool", call), ("t/chat", chat(("user", HARMLESS), session="s")))
    await export(streaming, request.SerializeToString())
    await handled(streaming)
    assert await interactions(streaming) == {"s": 3}
    assert {alert.session_id for alert in await alerts(streaming)} == {"s"}


async def test_a_history_that_is_sent_with_every_call_is_inspected_once(streaming: Harness) -> None:
    history: list[tuple[str, str]] = [("user", ATTACK)]
    for turn in range(5):
        request = traces((f"t{turn}", chat(*history, answer=f"No. {turn}", session="s")))
        await export(streaming, request.SerializeToString())
        history += [("assistant", f"No. {turn}"), ("user", f"And now? {turn}")]
    await handled(streaming)
    assert [alert.count for alert in await alerts(streaming)] == [1]
    # Said again as a new message it is a new message.
    await export(streaming, traces(("t9", chat(*history, ("user", ATTACK), session="s"))).SerializeToString())
    await handled(streaming)
    assert [alert.count for alert in await alerts(streaming)] == [2]


async def test_spans_without_content_count_for_cost_and_tools(streaming: Harness) -> None:
    calls = [
        (f"t/{n}", {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search", "session.id": "s"})
        for n in range(25)
    ]
    costs = {
        "gen_ai.operation.name": "chat",
        "gen_ai.usage.input_tokens": 900_000,
        "gen_ai.usage.output_tokens": 900_000,
        "gen_ai.usage.cost": 5_000.0,
        "session.id": "dear",
    }
    await export(streaming, traces(*calls, ("u/1", costs)).SerializeToString())
    await handled(streaming)
    found = {(alert.session_id, alert.kind) for alert in await alerts(streaming)}
    assert ("s", "tool_misuse") in found
    assert ("dear", "cost_abuse") in found


# -- bad input ---------------------------------------------------------------------------------------------------------

ONE = traces(("t/1", chat(("user", ATTACK)))).SerializeToString()
GZIP = PROTOBUF | {"Content-Encoding": "gzip"}


def bomb(size: int) -> bytes:
    return gzip.compress(b"\0" * size)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"\xff" * 40, PROTOBUF, 400),
        (ONE[:-3], PROTOBUF, 400),
        (b"\x0a\xff\xff\xff\xff\x7f", PROTOBUF, 400),
        (b"\x0a\x04\x12\x02\x0b\x00", PROTOBUF, 400),
        (b"not json", JSON, 400),
        (b"[]", JSON, 400),
        (b'{"resourceSpans": 5}', JSON, 400),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "zz"}]}]}]}', JSON, 400),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"endTimeUnixNano": [1]}]}]}]}', JSON, 400),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"attributes": [{"value": {}}]}]}]}]}', JSON, 400),
        (b"{" * 100_000, JSON, 400),
        (b"not gzip", GZIP, 400),
        (gzip.compress(ONE)[:-12], GZIP, 400),
        (bomb(200_000_000), GZIP, 413),
        (bomb(9_000_000) * 3, GZIP, 413),
        (b"x" * 8_400_000, PROTOBUF, 413),
        (ONE, {"Content-Type": "text/plain"}, 415),
        (ONE, {}, 415),
        (ONE, PROTOBUF | {"Content-Encoding": "br"}, 415),
        (b"", PROTOBUF, 200),
        (b"{}", JSON, 200),
        (b"\x12\x00", PROTOBUF, 200),
    ],
)  # fmt: skip
async def test_what_cannot_be_read_is_answered_as_the_protocol_says(
    detection: Harness, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = await export(detection, body, headers=headers)
    assert answer.status_code == status, answer.text
    if status not in (200, 415) and headers["Content-Type"] == PROTOBUF["Content-Type"]:
        assert answer.headers["content-type"] == "application/x-protobuf"
        assert Status.FromString(answer.content).code == 3
        assert Status.FromString(answer.content).message
    elif status != 200:
        assert answer.json()["code"] == 3


def field(tag: bytes, inner: bytes) -> bytes:
    """A length-delimited field as protobuf writes it."""
    length, digits = len(inner), bytearray()
    while length > 0x7F:
        digits.append(length & 0x7F | 0x80)
        length >>= 7
    digits.append(length)
    return tag + bytes(digits) + inner


async def test_more_records_than_a_request_may_hold_are_told_before_they_take_memory(detection: Harness) -> None:
    # Two bytes a span: parsed as a whole, these would be two million objects.
    empty = b"\x12\x00" * 2_000_000

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = await export(detection, field(b"\x0a", field(b"\x12", empty)))
    assert answer.status_code == 413
    assert str(RECORDS_A_REQUEST) in Status.FromString(answer.content).message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KB


def test_a_body_of_some_gzip_members_is_read_and_one_of_many_is_not() -> None:
    halves = [gzip.compress(ONE[:9]), gzip.compress(ONE[9:])]
    nothing = gzip.compress(b"")
    assert gunzip(b"".join([*halves, *[nothing] * (GZIP_MEMBERS - 2)]), 1_000_000) == ONE
    for body in (b"".join([*halves, *[nothing] * (GZIP_MEMBERS - 1)]), nothing * 400_000):
        with pytest.raises(MalformedTelemetry, match="16 members"):
            gunzip(body, 1_000_000)
    with pytest.raises(MalformedTelemetry, match="not gzip"):
        gunzip(halves[0] + b"rest", 1_000_000)


@pytest.mark.parametrize("piece", [b"{}", b"[]", b'{"a":0}', b'"ab"', b"0.5"])
async def test_more_values_of_json_than_a_request_may_hold_are_refused_before_they_take_memory(
    detection: Harness, piece: bytes
) -> None:
    one = b"," + piece
    body = b'{"resourceSpans":[{}%s]}' % (one * (8_000_000 // len(one)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = await export(detection, body, headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (413, 3)
    assert str(JSON_MARKS) in answer.json()["message"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


async def test_a_large_batch_in_json_is_within_the_limit(streaming: Harness) -> None:
    attributes = {f"app.attribute.{number}": "value" for number in range(15)}
    [holder] = json.loads(json_of(attributes))["resourceSpans"]
    [scope] = holder["scopeSpans"]
    scope["spans"] *= 8_000
    [told] = json.loads(json_of(chat(("user", ATTACK), session="s"), "t/2"))["resourceSpans"][0]["scopeSpans"][0][
        "spans"
    ]
    scope["spans"].append(told)
    body = gzip.compress(json.dumps({"resourceSpans": [holder]}, separators=(",", ":")).encode(), 1)
    answer = await export(streaming, body, headers=JSON | {"Content-Encoding": "gzip"})
    assert answer.status_code == 200, answer.text
    await handled(streaming)
    assert [alert.session_id for alert in await alerts(streaming)] == ["s"]


async def test_half_characters_deep_values_and_long_lines_do_not_hide_an_attack(streaming: Harness) -> None:
    cut = (
        traces(("a", chat(("user", ATTACK), session="cut", odd="MARK")))
        .SerializeToString()
        .replace(b"MARK", b"\xf0\x9f\x92\xff")
    )
    deep: Any = "x"
    for _ in range(18):
        deep = {"inner": [deep]}
    nested = traces(("b", chat(("user", ATTACK), session="deep", odd=deep))).SerializeToString()
    line = traces(("c", chat(("user", "x" * 1_000_000 + f" {ATTACK}"), session="long"))).SerializeToString()
    surrogate = json_of({"gen_ai.operation.name": "chat", "gen_ai.prompt": ATTACK, "session.id": "half"}, "d").replace(
        b"t/1", b"t/\xff1"
    )
    assert (await export(streaming, cut)).status_code == 200
    assert (await export(streaming, nested)).status_code == 200
    assert (await export(streaming, line)).status_code == 200
    assert (await export(streaming, surrogate, headers=JSON)).status_code == 200
    await handled(streaming)
    found = {alert.session_id for alert in await alerts(streaming, rule_id="injection_keyword_match")}
    assert {"cut", "deep", "long", "half"} <= found
    deeper = b""
    for _ in range(3_000):
        deeper = field(b"\x2a", field(b"\x0a", deeper))  # AnyValue.array_value, ArrayValue.values
    span = field(b"\x4a", field(b"\x0a", b"odd") + field(b"\x12", deeper))
    assert (await export(streaming, field(b"\x0a", field(b"\x12", field(b"\x12", span))))).status_code == 400
    for depth in (2_000, 60):
        value = '{"kvlistValue": {"values": [{"key": "k", "value": ' * depth + '{"intValue": "1"}' + "}]}}" * depth
        body = b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"attributes": [{"key": "a", "value": %s}]}]}]}]}'
        assert (await export(streaming, body % value.encode(), headers=JSON)).status_code in (200, 400)


async def test_bytes_of_chance_never_are_our_fault(streaming: Harness) -> None:
    for number in range(300):
        noise = bytearray(ONE)
        for _ in range(1 + number % 7):
            noise[os.urandom(1)[0] % len(noise)] = os.urandom(1)[0]
        answer = await export(streaming, bytes(noise))
        assert answer.status_code in (200, 400, 413), answer.text
    await handled(streaming)


async def test_telemetry_needs_its_scope_and_the_stream(detection: Harness) -> None:
    assert (await export(detection, ONE, role="viewer")).status_code == 403
    assert (await detection.anonymous().post("/v1/traces", content=ONE, headers=PROTOBUF)).status_code == 401
    # Its bus was not opened: nothing can be stored.
    answer = await export(detection, ONE)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert Status.FromString(answer.content).code == 14
