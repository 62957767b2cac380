"""What applications tell of their models in OpenTelemetry, read as interactions.

The conventions moved several times, so every name an instrumentation in use writes is accepted: the current `gen_ai.*`
(messages as JSON text on spans, structured on events), its predecessors (`gen_ai.prompt.N.*`, message events),
OpenLLMetry's `llm.*` and `traceloop.*`, and OpenInference. The names are our own table: the published constants are all
marked deprecated. Pure: a record in, what it says out. What was said before is the reader's to leave out, who knows the
session (see `Reading.recalled`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.detection.domain.genai_messages import (
    INDEXED,
    Call,
    Message,
    arguments_of,
    direction_of,
    identifier,
    json_of,
    message_of,
    messages_of,
    segments_of,
    text_of,
)
from services.detection.domain.interaction import SEGMENT_LIMIT_BYTES, Segment
from shared.contracts.detection import Direction

OVERLAP = 512
"""Characters that two windows of one long text share, so that what stands across a cut is whole in one of them."""
MAX_TOOL_CALLS = 100
"""Calls that one span may be counted for; what further ones say is inspected with the rest."""

SEGMENTS_A_PART = 400
FIELD_LENGTH = 200
"""With the limits of texts these keep an interaction below what a message may hold, however it is escaped."""

CLIENT = 3
"""SpanKind of a call to something remote."""


@dataclass(frozen=True, slots=True)
class Record:
    """A span, or an event of the log, as OTLP carries it. Ids are lower-case hex, empty when there are none.

    Attributes:
        name: of the span, or the event's name.
        at: when it ended, seconds since the epoch; 0 when it does not say.
        resource: attributes of who sent it.
        body: of a log record.
        events: name and attributes of a span's events.
        failed: the span's status is an error; `status` is what it says of it.
    """

    trace_id: str
    span_id: str
    name: str
    at: float
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]
    kind: int = 0
    body: Any = None
    events: Sequence[tuple[str, Mapping[str, Any]]] = ()
    is_log: bool = False
    failed: bool = False
    status: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """One interaction that a record tells of.

    Attributes:
        count_key, content_key: equal for what is the same event told twice (a span sent again, a span and its details
            event, a call in the model's answer and the span of its execution); what is counted and what is inspected
            happen once each.
        recalled: for each segment, whether it may be history that was sent before: then it is left out when the session
            has seen it.
        counts: whether it adds to rates at all; sums that a parent repeats do not.
        failed: it is what came of a tool that failed.
    """

    direction: Direction
    segments: tuple[Segment, ...]
    count_key: str
    content_key: str
    recalled: tuple[bool, ...] = ()
    tool: str | None = None
    tokens: int = 0
    cost_usd: float = 0.0
    counts: bool = True
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """All that a record tells.

    Attributes:
        asset_id: as the application names it, not checked.
        names: what else may name an asset, the most certain first.
    """

    readings: tuple[Reading, ...]
    trace_id: str
    span_id: str
    at: float
    session_id: str | None
    actor: str | None
    model: str | None
    asset_id: str | None
    names: tuple[str, ...]

    @property
    def traceparent(self) -> str | None:
        """The application's own span, as W3C Trace Context writes it."""
        if len(self.trace_id) != 32 or len(self.span_id) != 16 or not int(self.trace_id, 16):
            return None
        return f"00-{self.trace_id}-{self.span_id}-01"


_SESSION = (
    "gen_ai.conversation.id",
    "session.id",
    "colonnade.session_id",
    "traceloop.association.properties.session_id",
    "traceloop.association.properties.conversation_id",
    "traceloop.association.properties.chat_id",
)
_ACTOR = (
    "colonnade.actor",
    "enduser.id",
    "user.id",
    "llm.user",
    "gen_ai.user",
    "traceloop.association.properties.user_id",
)
_MODEL = ("gen_ai.response.model", "gen_ai.request.model", "llm.model_name", "llm.request.model", "llm.response.model",
          "embedding.model_name")  # fmt: skip
_INPUT_TOKENS = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt",
                 "llm.usage.prompt_tokens")  # fmt: skip
_OUTPUT_TOKENS = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion",
                  "llm.usage.completion_tokens")  # fmt: skip
_TOTAL_TOKENS = ("llm.usage.total_tokens", "gen_ai.usage.total_tokens", "llm.token_count.total")
_COST = ("gen_ai.usage.cost", "gen_ai.usage.cost_usd", "gen_ai.usage.total_cost", "llm.cost.total",
         "llm.usage.total_cost", "colonnade.cost_usd")  # fmt: skip
_ASSET = "colonnade.asset_id"
_NAMES = ("gen_ai.agent.id", "gen_ai.agent.name", "agent.name")
_DETAILS = "gen_ai.client.inference.operation.details"
_MARKS = ("gen_ai.", "llm.", "openinference.", "traceloop.", "mcp.", "retrieval.", "embedding.")

_AGENTS = frozenset(
    {
        "invoke_agent",
        "create_agent",
        "invoke_workflow",
        "plan",
        "agent",
        "chain",
        "workflow",
        "task",
        "guardrail",
        "span",
    }
)
"""Operations around calls of models, whose content and usage those repeat; `span` is one that names none."""
_OF_CALLS = (
    "gen_ai.request.", "gen_ai.response.", "gen_ai.usage.", "gen_ai.system", "gen_ai.provider", "gen_ai.prompt",
    "gen_ai.completion", "gen_ai.input", "gen_ai.output", "llm.",
)  # fmt: skip
_KINDS = {
    "tool": "execute_tool",
    "retriever": "retrieval",
    "reranker": "retrieval",
    "embedding": "embeddings",
    "llm": "chat",
}
_TRUSTED = frozenset({"system", "developer"})
_MESSAGE_EVENTS = {
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
    "gen_ai.system.message": "system",
    "gen_ai.choice": "assistant",
}


def is_about_models(record: Record) -> bool:
    """Whether a record says anything about a model, an agent or a tool; most spans of an application do not."""
    return (
        any(name.startswith(_MARKS) for name in record.attributes)
        or record.name.startswith("gen_ai.")
        or any(name.startswith("gen_ai.") for name, _ in record.events)
    )


def read(record: Record) -> Told | None:
    """What a record tells; None when it is not about models."""
    if not is_about_models(record):
        return None
    attributes: dict[str, Any] = dict(record.attributes)
    messages_in, messages_out = _event_messages(record, attributes)
    operation = _operation(record, attributes)
    key = _key_of(record)
    if operation == "execute_tool":
        readings = _tool(attributes, key, record)
    elif operation == "retrieval":
        readings = _retrieval(attributes, key)
    else:
        inputs, outputs = messages_of(attributes)
        readings = _exchange(record, attributes, operation, key, messages_in + inputs, messages_out + outputs)
    if not readings:
        return None
    where = (attributes, record.resource)
    asset_id = _first(where, (_ASSET,))
    names = [identifier(attributes.get(name)) for name in _NAMES]
    names.append(identifier(record.resource.get("service.name")))
    return Told(
        readings=tuple(readings),
        trace_id=record.trace_id,
        span_id=record.span_id,
        at=record.at,
        session_id=_first(where, _SESSION),
        actor=_first(where, _ACTOR),
        model=_first((attributes,), _MODEL),
        asset_id=asset_id,
        names=tuple(name for name in dict.fromkeys(names) if name and not name.startswith("unknown_service")),
    )


# -- what kind of record -----------------------------------------------------------------------------------------------


def _operation(record: Record, attributes: Mapping[str, Any]) -> str:
    named = attributes.get("gen_ai.operation.name")
    if isinstance(named, str) and named:
        return named
    kind = attributes.get("openinference.span.kind") or attributes.get("traceloop.span.kind")
    if isinstance(kind, str) and kind:
        kind = kind.lower()
        return _KINDS.get(kind, kind)
    if attributes.get("mcp.method.name") == "tools/call" or "gen_ai.tool.call.arguments" in attributes:
        return "execute_tool"
    if any(name.startswith(("gen_ai.retrieval.", "retrieval.documents.")) for name in attributes):
        return "retrieval"
    if attributes.get("llm.request.type") in ("embedding", "embeddings"):
        return "embeddings"
    if record.is_log or any(name.startswith(_OF_CALLS) for name in attributes):
        return "chat"
    return "chat" if any(name.startswith("gen_ai.") for name, _ in record.events) else "span"


def _key_of(record: Record) -> str:
    if record.trace_id and record.span_id and int(record.span_id, 16):
        return f"{record.trace_id}{record.span_id}"
    # It says no place of its own, so only one that is the same in every word is the same.
    said = repr((record.name, record.at, sorted(record.attributes.items(), key=lambda one: one[0]), record.body))
    return hashlib.blake2b(said.encode("utf-8", "replace"), digest_size=24).hexdigest()


def _event_messages(record: Record, attributes: dict[str, Any]) -> tuple[list[Message], list[Message]]:
    """Messages that stand in events: the record itself, if it is one, or those of a span; details join attributes."""
    inputs: list[Message] = []
    outputs: list[Message] = []
    events = [(record.name, record.attributes, record.body)] if record.is_log else []
    events += [(name, inner, None) for name, inner in record.events]
    for at, (name, inner, body) in enumerate(events):
        if name == _DETAILS or name.startswith("gen_ai.content."):
            for attribute, value in inner.items():
                attributes.setdefault(attribute, value)
            if isinstance(body, Mapping):
                for attribute, value in body.items():
                    attributes.setdefault(attribute if "." in attribute else f"gen_ai.{attribute}", value)
        elif name in _MESSAGE_EVENTS:
            said = body if isinstance(body, Mapping) else inner if body is None else {"content": body}
            where = "/body" if record.is_log else f"/events/{at}"
            message = said.get("message") if isinstance(said.get("message"), Mapping) else said
            role = _MESSAGE_EVENTS[name]
            one = message_of({"role": role, **message} if isinstance(message, Mapping) else said, where, role)
            (outputs if name == "gen_ai.choice" else inputs).append(one)
        elif record.is_log and body is not None and name.startswith("gen_ai."):
            attributes.setdefault("gen_ai.input.messages", body)
    return inputs, outputs


# -- readings ----------------------------------------------------------------------------------------------------------


def _exchange(
    record: Record,
    attributes: Mapping[str, Any],
    operation: str,
    key: str,
    inputs: list[Message],
    outputs: list[Message],
) -> list[Reading]:
    """A call of a model, or a span around several: its messages, its usage, and the calls that the model asks for."""
    around = operation in _AGENTS and record.kind != CLIENT
    embedding = operation == "embeddings"
    segments: list[Segment] = []
    recalled: list[bool] = []
    tools = {call.id: identifier(call.name) for one in (*inputs, *outputs) for call in one.calls if call.id}
    # What follows the last answer is new; what comes before was sent with the calls before, if there were any.
    last_answer = max((at for at, one in enumerate(inputs) if direction_of(one) is Direction.OUTPUT), default=-1)
    for at, message in enumerate(inputs):
        if message.role in _TRUSTED:
            continue
        old = around or at <= last_answer
        for segment in segments_of(message, Direction.DOCUMENT if embedding else None, tools):
            segments.append(segment)
            recalled.append(old)
        for call in message.calls:
            for segment in arguments_of(call):
                segments.append(segment)
                recalled.append(True)
    calls: list[Call] = []
    for message in outputs:
        if message.role in _TRUSTED:
            continue
        for segment in segments_of(message, None, tools):
            segments.append(segment)
            recalled.append(around)
        calls += message.calls
    if embedding:
        texts = [(name, value) for name, value in attributes.items() if name.startswith("embedding.embeddings.")]
        for name, value in texts:
            if name.endswith(".embedding.text"):
                segments.append(Segment(f"/attributes/{name}", Direction.DOCUMENT, text_of(value)))
                recalled.append(False)
    tokens, cost = (0, 0.0) if around else (_tokens(attributes), _number(attributes, _COST))
    direction = Direction.DOCUMENT if embedding else Direction.INPUT
    if not inputs and outputs and record.is_log:
        direction = Direction.OUTPUT
    content_key = key
    if record.is_log and record.name != _DETAILS:
        # Several events of one span say one message each.
        said = "\0".join(one.text for one in segments) + repr([(one.name, one.arguments) for one in calls])
        content_key = f"{key}:{record.name}:{_digest(said)}"
    message_event = record.is_log and record.name in _MESSAGE_EVENTS
    if not segments and not calls and not tokens and not cost and (around or message_event):
        return []
    counts = not around and not message_event
    readings = windows(
        Reading(direction, tuple(segments), key, content_key, tuple(recalled), None, tokens, cost, counts)
    )
    for number, call in enumerate(calls[:MAX_TOOL_CALLS]):
        readings += _call(call, record.trace_id, f"{content_key}:call{number}", counts=not around)
    for call in calls[MAX_TOOL_CALLS:]:
        further = tuple(arguments_of(call))
        readings += windows(Reading(Direction.TOOL_CALL, further, key, f"{content_key}:{call.field}", counts=False))
    return readings


def _call(call: Call, trace_id: str, key: str, *, counts: bool = True) -> list[Reading]:
    # Under its own id it is the same call in the model's answer and in the span of its execution.
    place = f"call:{trace_id}:{call.id}" if call.id else key
    tool = identifier(call.name) or None
    return windows(
        Reading(Direction.TOOL_CALL, tuple(arguments_of(call)), place, f"{place}:arguments", tool=tool, counts=counts)
    )


def _tool(attributes: Mapping[str, Any], key: str, record: Record) -> list[Reading]:
    """The execution of a tool: the call, and what came back."""
    name = _first((attributes,), ("gen_ai.tool.name", "tool.name", "traceloop.entity.name", "tool_call.function.name"))
    arguments = next(
        (
            (one, attributes[one])
            for one in (
                "gen_ai.tool.call.arguments",
                "tool_call.function.arguments",
                "tool.parameters",
                "input.value",
                "traceloop.entity.input",
            )
            if attributes.get(one) not in (None, "")
        ),
        ("gen_ai.tool.call.arguments", None),
    )
    call_id = _first((attributes,), ("gen_ai.tool.call.id", "tool_call.id", "tool.id"))
    call = Call(call_id or "", name or "", arguments[1], f"/attributes/{arguments[0]}")
    readings = _call(call, record.trace_id, f"{key}:call")
    failed = record.failed or attributes.get("error.type") not in (None, "")
    results = ("gen_ai.tool.call.result", "output.value", "traceloop.entity.output")
    given = next((one for one in results if attributes.get(one) not in (None, "")), None)
    if given is not None:
        result = Segment(f"/attributes/{given}", Direction.TOOL_RESULT, text_of(attributes[given]))
    elif failed:
        # Nothing else came of it.
        said = record.status or text_of(attributes.get("error.type")) or "error"
        result = Segment("/status", Direction.TOOL_RESULT, said)
    else:
        return readings
    came = Reading(
        Direction.TOOL_RESULT, (result,), f"{key}:result", f"{key}:result", tool=name, counts=False, failed=failed
    )
    return readings + windows(came)


def _retrieval(attributes: Mapping[str, Any], key: str) -> list[Reading]:
    """What was looked up, and the documents that came back."""
    segments: list[Segment] = []
    query = next((one for one in ("gen_ai.retrieval.query.text", "input.value") if attributes.get(one)), None)
    if query is not None:
        segments.append(Segment(f"/attributes/{query}", Direction.INPUT, text_of(attributes[query])))
    documents = attributes.get("gen_ai.retrieval.documents")
    if isinstance(documents, str):
        parsed = json_of(documents)
        documents = documents if parsed is None else parsed
    if documents:
        items = documents if isinstance(documents, list | tuple) else [documents]
        for at, document in enumerate(items):
            where = f"/attributes/gen_ai.retrieval.documents/{at}"
            segments.append(Segment(where, Direction.DOCUMENT, text_of(document)))
    found = [
        (int(match[2]), name)
        for name in attributes
        if (match := INDEXED.fullmatch(name)) is not None
        and match[1] == "retrieval.documents"
        and match[3] in ("document.content", "document.metadata")
    ]
    segments += [
        Segment(f"/attributes/{name}", Direction.DOCUMENT, text_of(attributes[name])) for _, name in sorted(found)
    ]
    if not found and not documents and attributes.get("output.value"):
        segments.append(Segment("/attributes/output.value", Direction.DOCUMENT, text_of(attributes["output.value"])))
    return windows(Reading(Direction.DOCUMENT, tuple(segments), key, key, counts=False)) if segments else []


def windows(reading: Reading) -> list[Reading]:
    """The same with texts longer than detectors read cut into windows that overlap.

    Telemetry tells of what has happened, so that a text that is too long cannot be refused, and must not pass unread.
    """
    segments: list[Segment] = []
    recalled: list[bool] = []
    old = reading.recalled or (False,) * len(reading.segments)
    for segment, was in zip(reading.segments, old, strict=True):
        for piece in _cut(segment):
            if piece.text:
                segments.append(piece)
                recalled.append(was)
    readings: list[Reading] = []
    part: list[int] = []
    size = 0
    for at, segment in enumerate(segments):
        full = len(part) >= SEGMENTS_A_PART or size + len(segment.text) > 2 * SEGMENT_LIMIT_BYTES
        if part and full:
            readings.append(_part_of(reading, segments, recalled, part, len(readings)))
            part, size = [], 0
        part.append(at)
        size += len(segment.text)
    readings.append(_part_of(reading, segments, recalled, part, len(readings)))
    return readings


def _part_of(
    reading: Reading, segments: Sequence[Segment], recalled: Sequence[bool], part: Sequence[int], number: int
) -> Reading:
    first = number == 0
    return Reading(
        direction=reading.direction,
        segments=tuple(segments[at] for at in part),
        count_key=reading.count_key,
        content_key=reading.content_key if first else f"{reading.content_key}:{number}",
        recalled=tuple(recalled[at] for at in part),
        tool=reading.tool if first else None,
        tokens=reading.tokens if first else 0,
        cost_usd=reading.cost_usd if first else 0.0,
        counts=reading.counts and first,
        failed=reading.failed,
    )


def _cut(segment: Segment) -> Iterator[Segment]:
    text = segment.text
    if len(segment.field) > FIELD_LENGTH:
        segment = replace(segment, field=segment.field[:FIELD_LENGTH])
    if len(text) * 4 <= SEGMENT_LIMIT_BYTES or (len(text) <= SEGMENT_LIMIT_BYTES and text.isascii()):
        yield segment
        return
    # A character is one byte or up to four.
    width = SEGMENT_LIMIT_BYTES if text.isascii() else SEGMENT_LIMIT_BYTES // 4
    for start in range(0, max(1, len(text) - OVERLAP), width - OVERLAP):
        yield replace(segment, field=f"{segment.field}@{start}", text=text[start : start + width], leaves=())


def _first(where: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str | None:
    for attributes in where:
        for name in names:
            value = attributes.get(name)
            if value is not None and (found := identifier(value)):
                return found
    return None


def _number(attributes: Mapping[str, Any], names: Sequence[str], most: float = 1_000_000.0) -> float:
    """The first that is a number, from 0 to `most`; telemetry may hold anything."""
    for name in names:
        value = attributes.get(name)
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                continue
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            return min(float(value), most)
    return 0.0


def _tokens(attributes: Mapping[str, Any]) -> int:
    most = 1_000_000_000.0
    said = _number(attributes, _INPUT_TOKENS, most) + _number(attributes, _OUTPUT_TOKENS, most)
    return int(said or _number(attributes, _TOTAL_TOKENS, most))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=12).hexdigest()
