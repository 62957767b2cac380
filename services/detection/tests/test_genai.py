"""What instrumentations write, of today and of before, read as interactions."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from services.detection.domain.genai import CLIENT, Reading, Record, Told, read
from services.detection.domain.interaction import SEGMENT_LIMIT_BYTES, Interaction
from services.detection.tests.otlp import chat, message
from services.detection.wire import Item, encode_item
from shared.contracts.detection import Direction

TRACE, SPAN = "5b8aa5a2d2c872e8321cf37308d69df2", "051581bf3cb55c13"


def told(attributes: dict[str, Any], **more: Any) -> Told | None:
    given: dict[str, Any] = {"trace_id": TRACE, "span_id": SPAN, "name": "chat gpt-5", "at": 1.0, "resource": {}}
    return read(Record(attributes=attributes, **(given | more)))


def readings(attributes: dict[str, Any], **more: Any) -> tuple[Reading, ...]:
    found = told(attributes, **more)
    return found.readings if found is not None else ()


def said(*found: Reading) -> list[tuple[str, str]]:
    return [(segment.direction.value, segment.text) for one in found for segment in one.segments]


QUESTION, ANSWER = ("input", "When do you open?"), ("output", "At nine.")
EXCHANGES: dict[str, dict[str, Any]] = {
    "messages as JSON text": {
        "gen_ai.operation.name": "chat",
        "gen_ai.input.messages": json.dumps([message("system", "Be kind."), message("user", QUESTION[1])]),
        "gen_ai.output.messages": json.dumps([message("assistant", ANSWER[1]) | {"finish_reason": "stop"}]),
    },
    "messages as structured values": {
        "gen_ai.operation.name": "chat",
        "gen_ai.system_instructions": [{"type": "text", "content": "Be kind."}],
        "gen_ai.input.messages": [message("user", QUESTION[1])],
        "gen_ai.output.messages": [message("assistant", ANSWER[1])],
    },
    "an attribute a message": {
        "gen_ai.system": "openai",
        "gen_ai.prompt.0.role": "system",
        "gen_ai.prompt.0.content": "Be kind.",
        "gen_ai.prompt.1.role": "user",
        "gen_ai.prompt.1.content": QUESTION[1],
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": ANSWER[1],
    },
    "an attribute a message, parts in it": {
        "llm.request.type": "chat",
        "gen_ai.prompt.0.role": "user",
        "gen_ai.prompt.0.content": json.dumps([{"type": "text", "text": QUESTION[1]}, {"type": "image_url"}]),
        "gen_ai.completion.0.content": ANSWER[1],
    },
    "OpenInference": {
        "openinference.span.kind": "LLM",
        "input.value": "what the messages say again",
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.contents.0.message_content.type": "text",
        "llm.input_messages.0.message.contents.0.message_content.text": QUESTION[1],
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": ANSWER[1],
    },
    "one text each": {"gen_ai.system": "x", "gen_ai.prompt": QUESTION[1], "gen_ai.completion": ANSWER[1]},
}


@pytest.mark.parametrize("attributes", EXCHANGES.values(), ids=EXCHANGES)
def test_an_exchange_is_read_whatever_the_names(attributes: dict[str, Any]) -> None:
    [one] = readings(attributes)
    assert said(one) == [QUESTION, ANSWER]
    assert (one.direction, one.counts) == (Direction.INPUT, True)


def test_messages_in_a_spans_events_are_read() -> None:
    events = [
        ("gen_ai.system.message", {"content": "Be kind."}),
        ("gen_ai.user.message", {"content": QUESTION[1]}),
        ("gen_ai.choice", {"message": {"role": "assistant", "content": ANSWER[1]}, "index": 0}),
        ("exception", {"exception.message": "none of ours"}),
    ]
    [one] = readings({"gen_ai.system": "openai"}, events=events)
    assert said(one) == [QUESTION, ANSWER]
    old = [("gen_ai.content.prompt", {"gen_ai.prompt": QUESTION[1]})]
    assert said(*readings({"gen_ai.system": "openai"}, events=old)) == [QUESTION]


def test_a_details_event_is_the_same_as_its_span() -> None:
    span = told(EXCHANGES["messages as JSON text"])
    details = {"name": "gen_ai.client.inference.operation.details", "is_log": True}
    event = told(EXCHANGES["messages as structured values"], **details)
    assert span is not None
    assert event is not None
    for one, other in zip(span.readings, event.readings, strict=True):
        assert (one.count_key, one.content_key) == (other.count_key, other.content_key)
    assert said(*event.readings) == [QUESTION, ANSWER]


def test_events_of_one_message_each_are_inspected_each_and_counted_never() -> None:
    found = [
        told({}, name="gen_ai.user.message", is_log=True, body={"content": text}) for text in ("one", "two", "one")
    ]
    every = [one.readings[0] for one in found if one is not None]
    assert [said(one) for one in every] == [[("input", "one")], [("input", "two")], [("input", "one")]]
    assert not any(one.counts for one in every)
    assert every[0].content_key == every[2].content_key != every[1].content_key


def test_calls_of_tools_and_their_execution_are_one_call() -> None:
    parts = [{"type": "tool_call", "id": "c1", "name": "send_mail", "arguments": {"to": "ann", "body": "hello"}}]
    answer = json.dumps([{"role": "assistant", "parts": parts}])
    asked = readings(chat(("user", "Write to Ann")) | {"gen_ai.output.messages": answer})
    execution = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "send_mail",
        "gen_ai.tool.call.id": "c1",
        "gen_ai.tool.call.arguments": '{"to": "ann", "body": "hello"}',
        "gen_ai.tool.call.result": {"status": "sent", "text": "to ann"},
    }
    done = readings(execution, span_id="0000000000000001")
    assert [(one.direction.value, one.tool) for one in (asked[1], *done)] == [
        ("tool_call", "send_mail"),
        ("tool_call", "send_mail"),
        ("tool_result", "send_mail"),
    ]
    assert said(asked[1]) == said(done[0]) == [("tool_call", "to: ann\nbody: hello")]
    assert (asked[1].count_key, asked[1].content_key) == (done[0].count_key, done[0].content_key)
    assert said(done[1]) == [("tool_result", "status: sent\ntext: to ann")]


@pytest.mark.parametrize(
    "attributes",
    [
        {"openinference.span.kind": "TOOL", "tool.name": "search", "input.value": '{"q": "x"}',
         "output.value": "found"},
        {"traceloop.span.kind": "tool", "traceloop.entity.name": "search", "traceloop.entity.input": '{"q": "x"}',
         "traceloop.entity.output": "found"},
        {"mcp.method.name": "tools/call", "gen_ai.tool.name": "search", "gen_ai.tool.call.arguments": {"q": "x"},
         "gen_ai.tool.call.result": "found"},
    ],
)  # fmt: skip
def test_executions_of_tools_have_many_names(attributes: dict[str, Any]) -> None:
    call, result = readings(attributes)
    assert (call.tool, said(call, result)) == ("search", [("tool_call", "q: x"), ("tool_result", "found")])


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.operation.name": "retrieval", "gen_ai.retrieval.query.text": "hours",
         "gen_ai.retrieval.documents": json.dumps([{"id": "d1", "score": 0.5, "content": "We open at nine."}])},
        {"openinference.span.kind": "RETRIEVER", "input.value": "hours",
         "retrieval.documents.0.document.content": "We open at nine."},
    ],
)  # fmt: skip
def test_documents_that_were_looked_up_are_documents(attributes: dict[str, Any]) -> None:
    [one] = readings(attributes)
    assert one.direction is Direction.DOCUMENT
    (query, document) = said(one)
    assert query == ("input", "hours")
    assert document[0] == "document"
    assert "We open at nine." in document[1]


def test_spans_without_content_still_count() -> None:
    usage = {"gen_ai.usage.input_tokens": 30, "gen_ai.usage.output_tokens": 12, "gen_ai.usage.cost": 0.25}
    [one] = readings({"gen_ai.operation.name": "chat", **usage})
    assert (one.tokens, one.cost_usd, one.counts, one.segments) == (42, 0.25, True, ())
    [old] = readings({"gen_ai.system": "x", "gen_ai.usage.prompt_tokens": "7", "llm.usage.total_tokens": 9})
    assert old.tokens == 7
    [total] = readings({"llm.usage.total_tokens": 9})
    assert total.tokens == 9
    [tool] = readings({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"})
    assert (tool.direction, tool.tool, tool.segments) == (Direction.TOOL_CALL, "search", ())


@pytest.mark.parametrize("value", [-1, "many", True, float("nan"), None, [1]])
def test_a_number_that_is_none_counts_nothing(value: Any) -> None:
    [one] = readings({"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": value})
    assert one.tokens == 0


def test_what_repeats_the_calls_within_it_is_not_counted_again() -> None:
    around = chat(("user", "When do you open?")) | {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.usage.input_tokens": 9,
    }
    [one] = readings(around, kind=1)
    assert (one.counts, one.tokens, one.recalled) == (False, 0, (True,))
    [remote] = readings(around, kind=CLIENT)
    assert (remote.counts, remote.tokens) == (True, 9)


@pytest.mark.parametrize(
    "attributes",
    [
        {"http.request.method": "GET"},
        {"colonnade.asset_id": "x", "db.system": "postgresql"},
        {"traceloop.workflow.name": "answers", "http.request.method": "GET"},
        {"mcp.method.name": "tools/list"},
    ],
)
def test_other_spans_say_nothing(attributes: dict[str, Any]) -> None:
    assert told(attributes) is None


def test_only_what_follows_the_last_answer_is_certainly_new() -> None:
    history = [("user", "one"), ("assistant", "two"), ("user", "three")]
    [one] = readings(chat(*history, answer="four"))
    assert [segment.text for segment in one.segments] == ["one", "two", "three", "four"]
    assert one.recalled == (True, True, False, False)


def test_who_what_and_where_are_read_from_span_and_resource() -> None:
    found = told(
        chat(("user", "x"), session="c1")
        | {"user.id": "ann", "gen_ai.response.model": "gpt-5-x", "gen_ai.agent.name": "guide"},
        resource={"colonnade.asset_id": "a1", "service.name": "museum"},
    )  # fmt: skip
    assert found is not None
    assert (found.session_id, found.actor, found.model, found.asset_id) == ("c1", "ann", "gpt-5-x", "a1")
    assert found.names == ("guide", "museum")
    assert found.traceparent == f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize("letter", ["x", "й", "😀"])
def test_long_texts_are_cut_into_windows_that_overlap_and_are_read_whole(letter: str) -> None:
    text = "".join(f"{letter}{number:06}" for number in range(60_000))
    parts = readings(chat(("user", text), gen_ai__usage__input_tokens=5))
    pieces = [segment for one in parts for segment in one.segments]
    assert all(len(piece.text.encode()) <= SEGMENT_LIMIT_BYTES for piece in pieces)
    joined = pieces[0].text
    for piece in pieces[1:]:
        start = int(piece.field.rpartition("@")[2])
        assert start < len(joined)
        joined = joined[:start] + piece.text
    assert joined == text
    assert len({piece.field for piece in pieces}) == len(pieces)
    assert [one.tokens for one in parts] == [5] + [0] * (len(parts) - 1)
    assert [one.counts for one in parts] == [True] + [False] * (len(parts) - 1)


@pytest.mark.parametrize(
    "attributes",
    [
        chat(*[("user", "x")] * 20_000),
        chat(*[("user", "\x01" * 65_000)] * 4),
        chat(("user", '\\"' * 500_000)),
        {"gen_ai.operation.name": "embeddings", f"embedding.embeddings.{'n' * 900_000}.embedding.text": "x"},
        chat(("user", "x")) | {"gen_ai.conversation.id": "s" * 900_000, "user.id": "u" * 900_000},
    ],
)
def test_no_interaction_is_larger_than_a_message_may_be(attributes: dict[str, Any]) -> None:
    found = told(attributes)
    assert found is not None
    for reading in found.readings:
        one = Interaction(
            reading.direction, reading.segments, None, found.session_id, found.actor, reading.tool, found.model
        )
        assert len(encode_item(Item(one, UUID(int=1), recalled=reading.recalled))) < 1_000_000


@pytest.mark.parametrize(
    "messages",
    ["not json", "[", "{}", "[]", "null", "[[[]]]", '[{"role": 7, "parts": 5}]', '[{"parts": [null, 1, {"type": {}}]}]',
     "[" * 5_000, '[{"content": ' + "[" * 500 + "]" * 500 + "}]", '"\\ud800"', '[{"unknown": {"deep": ["text"]}}]'],
)  # fmt: skip
def test_messages_of_any_shape_are_read_as_far_as_they_go(messages: str) -> None:
    found = told({"gen_ai.operation.name": "chat", "gen_ai.input.messages": messages})
    assert found is not None
    for one in found.readings:
        for segment in one.segments:
            segment.text.encode()


def test_the_words_of_an_unknown_shape_are_inspected() -> None:
    odd = '[{"role": "user", "fragments": [{"words": "hidden here"}]}]'
    assert "hidden here" in said(*readings({"gen_ai.operation.name": "chat", "gen_ai.input.messages": odd}))[0][1]
    assert said(*readings({"gen_ai.operation.name": "chat", "gen_ai.input.messages": "[broken"})) == [
        ("input", "[broken")
    ]
