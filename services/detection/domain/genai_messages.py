"""Messages as instrumentations write them: in JSON text or structured, in parts or as text, or an attribute each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from services.detection.domain.interaction import Segment, leaves_of
from shared.contracts.detection import Direction

ID_LENGTH = 300
DEPTH_LIMIT = 64

_ROLES = {
    "user": Direction.INPUT,
    "human": Direction.INPUT,
    "assistant": Direction.OUTPUT,
    "ai": Direction.OUTPUT,
    "model": Direction.OUTPUT,
    "tool": Direction.TOOL_RESULT,
    "function": Direction.TOOL_RESULT,
}
INDEXED = re.compile(
    r"(gen_ai\.prompt|gen_ai\.completion|llm\.prompts|llm\.completions|llm\.input_messages|llm\.output_messages"
    r"|retrieval\.documents|embedding\.embeddings)\.(\d{1,5})\.(.+)"
)
_TOOL_CALL = re.compile(r"(?:message\.)?tool_calls\.(\d{1,5})\.(?:tool_call\.)?(?:function\.)?(id|name|arguments)")
_CONTENT = re.compile(r"(?:message\.)?contents\.(\d{1,5})\.message_content\.(text|type)")
_OUTPUTS = frozenset({"gen_ai.completion", "llm.completions", "llm.output_messages"})


@dataclass(slots=True)
class Call:
    id: str
    name: str
    arguments: Any
    field: str


@dataclass(slots=True)
class Message:
    """Attributes:
    tool: whose result it is, as it says itself.
    answers: the id of the call that a text is the result of, by its field; "" stands for all of them.
    """

    role: str
    texts: list[tuple[str, Direction | None, str]] = field(default_factory=list)
    """Field, direction where it is not the role's, and text."""
    calls: list[Call] = field(default_factory=list)
    tool: str = ""
    answers: dict[str, str] = field(default_factory=dict)


def messages_of(attributes: Mapping[str, Any]) -> tuple[list[Message], list[Message]]:
    """Messages to the model and from it, in order, from whichever names hold them; later names repeat earlier ones."""
    inputs = _structured(attributes.get("gen_ai.input.messages"), "gen_ai.input.messages", "user")
    outputs = _structured(attributes.get("gen_ai.output.messages"), "gen_ai.output.messages", "assistant")
    if not inputs or not outputs:
        legacy_in, legacy_out = _indexed(attributes)
        inputs = inputs or legacy_in
        outputs = outputs or legacy_out
    for names, role, found in (
        (("gen_ai.prompt", "input.value", "traceloop.entity.input"), "user", inputs),
        (("gen_ai.completion", "output.value", "traceloop.entity.output"), "assistant", outputs),
    ):
        if not found:
            name = next((one for one in names if attributes.get(one) not in (None, "")), None)
            if name is not None:
                found += _structured(attributes[name], name, role)
    return inputs, outputs


def _structured(value: Any, name: str, role: str) -> list[Message]:
    """Messages in JSON text or as they are; what is neither is one message."""
    if value in (None, "", []):
        return []
    where = f"/attributes/{name}"
    if isinstance(value, str):
        parsed = json_of(value)
        if parsed is None:
            return [Message(role, [(where, None, value)])]
        value = parsed
    items = value if isinstance(value, list | tuple) else [value]
    return [message_of(item, f"{where}/{at}", role) for at, item in enumerate(items)]


def message_of(item: Any, where: str, role: str) -> Message:
    if not isinstance(item, Mapping):
        return Message(role, [(where, None, text_of(item))])
    message = Message(str(item.get("role") or role).lower())
    if direction_of(message) is Direction.TOOL_RESULT:
        message.tool = identifier(item.get("name"))
    if item.get("tool_call_id"):
        message.answers[""] = text_of(item["tool_call_id"])
    parts = item.get("parts")
    if parts is None:
        parts, where_parts = item.get("content", item.get("text")), f"{where}/content"
    else:
        where_parts = f"{where}/parts"
    if isinstance(parts, str) and parts[:1] == "[":
        decoded = json_of(parts)
        if isinstance(decoded, list) and all(isinstance(one, Mapping) and "type" in one for one in decoded):
            parts = decoded
    if isinstance(parts, str):
        message.texts.append((where_parts, None, parts))
    elif isinstance(parts, list | tuple):
        for at, part in enumerate(parts):
            _part(message, part, f"{where_parts}/{at}")
    elif isinstance(parts, Mapping):
        _part(message, parts, where_parts)
    calls = item.get("tool_calls")
    for at, call in enumerate(calls if isinstance(calls, list | tuple) else ()):
        if isinstance(call, Mapping):
            function = call.get("function")
            inner = function if isinstance(function, Mapping) else call
            place = f"{where}/tool_calls/{at}"
            name, arguments = text_of(inner.get("name")), inner.get("arguments")
            message.calls.append(Call(text_of(call.get("id")), name, arguments, place))
    if not message.texts and not message.calls and parts is None:
        # A shape that we do not know: all that it says, rather than nothing.
        rest = {name: value for name, value in item.items() if name not in ("role", "finish_reason", "name", "index")}
        whole = leaves_of(rest, where)
        if whole is not None:
            message.texts.append((where, None, whole.text))
    return message


def _part(message: Message, part: Any, where: str) -> None:
    if not isinstance(part, Mapping):
        message.texts.append((where, None, text_of(part)))
        return
    kind = part.get("type")
    if kind in ("tool_call", "server_tool_call", "tool_use", "function_call"):
        arguments = next((part[name] for name in ("arguments", "input", "server_tool_call") if name in part), None)
        message.calls.append(Call(text_of(part.get("id")), text_of(part.get("name")), arguments, where))
    elif kind in ("tool_call_response", "server_tool_call_response", "tool_result"):
        # The schema says `response`, its example `result`.
        names = ("response", "result", "content", "server_tool_call_response")
        said = next((part[name] for name in names if name in part), None)
        message.texts.append((where, Direction.TOOL_RESULT, text_of(said)))
        message.answers[where] = text_of(part.get("id") or part.get("tool_use_id"))
    elif kind in ("blob", "image", "image_url", "input_audio", "audio"):
        return
    else:
        said = next(
            (part[name] for name in ("content", "text", "refusal", "uri") if isinstance(part.get(name), str)), None
        )
        message.texts.append((where, None, said if said is not None else text_of(_without(part, "type"))))


def _without(part: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key != name}


def _indexed(attributes: Mapping[str, Any]) -> tuple[list[Message], list[Message]]:
    """`gen_ai.prompt.0.content`, `llm.input_messages.0.message.content` and their like."""
    found: dict[tuple[str, int], Message] = {}
    calls: dict[tuple[str, int, int], Call] = {}
    for name, value in attributes.items():
        match = INDEXED.fullmatch(name) if name[:1] in ("g", "l") else None
        if match is None:
            continue
        group, at, rest = match[1], int(match[2]), match[3]
        message = found.get((group, at))
        if message is None:
            message = found[group, at] = Message("assistant" if group in _OUTPUTS else "user")
        where = f"/attributes/{name}"
        if rest in ("role", "message.role"):
            message.role = text_of(value).lower()
        elif rest in ("tool_call_id", "message.tool_call_id"):
            message.answers[""] = text_of(value)
        elif rest == "message.name":
            message.tool = identifier(value)
        elif rest in ("content", "message.content", "text", "prompt.text", "completion.text"):
            inner = message_of({"role": "", "content": value}, where, message.role)
            message.texts += inner.texts
            message.calls += inner.calls
            message.answers |= inner.answers
        elif (part := _CONTENT.fullmatch(rest)) is not None:
            if part[2] == "text":
                message.texts.append((where, None, text_of(value)))
        elif (call := _TOOL_CALL.fullmatch(rest)) is not None:
            place = (group, at, int(call[1]))
            one = calls.get(place)
            if one is None:
                one = calls[place] = Call("", "", None, where)
                message.calls.append(one)
            if call[2] == "arguments":
                one.arguments, one.field = value, where
            else:
                setattr(one, call[2], text_of(value))
    inputs = [message for (group, _), message in sorted(found.items()) if group not in _OUTPUTS]
    return inputs, [message for (group, _), message in sorted(found.items()) if group in _OUTPUTS]


def segments_of(message: Message, direction: Direction | None, tools: Mapping[str, str]) -> list[Segment]:
    """A message's texts. `tools` are the names of the conversation's calls, by their ids."""
    own = direction or direction_of(message)
    found = []
    for where, given, text in message.texts:
        if text:
            going = given or own
            answered = message.answers.get(where) or message.answers.get("", "")
            tool = (message.tool or tools.get(answered)) if going is Direction.TOOL_RESULT else None
            found.append(Segment(where, going, clean(text), tool=tool or None))
    return found


def direction_of(message: Message) -> Direction:
    return _ROLES.get(message.role, Direction.INPUT)


def arguments_of(call: Call) -> list[Segment]:
    """A call's arguments as detectors read them: a line an argument, where they can be told apart."""
    arguments = call.arguments
    if isinstance(arguments, str):
        parsed = json_of(arguments) if arguments[:1] in "{[" else None
        text = arguments if parsed is None else text_of(parsed)
    else:
        text = text_of(arguments if arguments is None or isinstance(arguments, Mapping) else {"": arguments})
    return [Segment(call.field, Direction.TOOL_CALL, clean(text), tool=identifier(call.name) or None)] if text else []


def json_of(text: str) -> Any:
    """The value, or None when the text is not JSON of something structured."""
    if text[:1] not in "{[" and text[:1] not in " \n\t":
        return None
    try:
        value = orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return None
    return value if isinstance(value, dict | list) and not _deeper(value, DEPTH_LIMIT) else None


def _deeper(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def text_of(value: Any) -> str:
    """What a value says, as text."""
    if isinstance(value, str):
        return clean(value)
    if value is None:
        return ""
    if isinstance(value, Mapping):
        whole = leaves_of(value, "")
        return clean(whole.text) if whole is not None else ""
    if isinstance(value, list | tuple):
        return "\n".join(filter(None, (text_of(one) for one in value)))
    return clean(str(value))


def clean(text: str) -> str:
    """Without lone surrogates, which no UTF-8 can carry."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def identifier(value: Any) -> str:
    return text_of(value).replace("\0", "").strip()[:ID_LENGTH] if isinstance(value, str | int) else ""
