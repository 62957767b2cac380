"""What OpenAI-compatible APIs are sent and answer, as far as it is inspected: chat completions and responses.

Both are conversations of entries, messages and what stands for calls and results of tools. Others define them and go on
extending them, so that fields and kinds that we do not know are let pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.detection.domain.genai_messages import text_of
from services.detection.domain.interaction import Segment
from shared.contracts.detection import Direction

MAX_MESSAGES = 200
TOOL_NAME = 300
_DIRECTIONS = {
    "user": Direction.INPUT,
    "assistant": Direction.OUTPUT,
    "tool": Direction.TOOL_RESULT,
    "function": Direction.TOOL_RESULT,
}


class Foreign(BaseModel):
    """What other programs define and go on extending: fields that we do not know are let pass.

    Texts have no limit of their own here, since images are texts too; those that are inspected are measured later.
    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class ImageUrl(Foreign):
    url: str


class Part(Foreign):
    """A part of a message. Texts, refusals and addresses of images are inspected; images and sounds are not."""

    type: Annotated[str, Field(min_length=1, max_length=100)]
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | str | None = None

    @model_validator(mode="after")
    def _text_has_text(self) -> Part:
        if self.type == "text" and self.text is None:
            raise ValueError("a part of the type text has a text")
        return self

    def texts(self) -> Iterator[tuple[str, str]]:
        """Names and texts that are inspected."""
        address = self.image_url.url if isinstance(self.image_url, ImageUrl) else self.image_url
        for name, text in (("text", self.text), ("refusal", self.refusal)):
            if text is not None:
                yield name, text
        if address is not None and not address.startswith("data:"):
            yield "image_url", address


class FunctionCall(Foreign):
    name: Annotated[str, Field(min_length=1, max_length=300)]
    arguments: str = Field(default="", description="JSON, as the model wrote it.")


class CustomCall(Foreign):
    name: Annotated[str, Field(min_length=1, max_length=300)]
    input: str = ""


class MessageToolCall(Foreign):
    id: str | None = None
    type: Annotated[str, Field(max_length=100)] = "function"
    function: FunctionCall | None = None
    custom: CustomCall | None = None


class Message(Foreign):
    """A chat message, as OpenAI-compatible APIs have it. What the system says is trusted and not inspected."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[MessageToolCall] | None = Field(default=None, max_length=100)
    tool_call_id: str | None = Field(default=None, description="Of a result: the call that it is of.")
    name: str | None = Field(default=None, description="Of a result of an older function: which one.")
    function_call: FunctionCall | None = Field(default=None, description="As older models wrote it.")

    def segments(self, field: str, tools: dict[str, str]) -> list[Segment]:
        """Its texts. Its calls join `tools`, names by ids, in which its results find theirs."""
        direction = _DIRECTIONS.get(self.role)
        if direction is None:
            return []
        tool = _tool_of(tools, self.tool_call_id, self.name) if direction is Direction.TOOL_RESULT else None
        found: list[Segment] = []
        if isinstance(self.content, str):
            found.append(Segment(f"{field}/content", direction, self.content, tool=tool))
        for at, part in enumerate(self.content if isinstance(self.content, list) else ()):
            found += [
                Segment(f"{field}/content/{at}/{name}", direction, text, tool=tool) for name, text in part.texts()
            ]
        for name, said in (("refusal", self.refusal), ("reasoning_content", self.reasoning_content)):
            if said:
                found.append(Segment(f"{field}/{name}", direction, said))
        for at, call in enumerate(self.tool_calls or ()):
            where = f"{field}/tool_calls/{at}"
            name = ""
            if call.function is not None:
                name = call.function.name
                found.append(_call(f"{where}/function/arguments", name, call.function.arguments))
            elif call.custom is not None:
                name = call.custom.name
                found.append(_call(f"{where}/custom/input", name, call.custom.input))
            if call.id and name:
                tools[call.id] = name
        if self.function_call is not None:
            found.append(
                _call(f"{field}/function_call/arguments", self.function_call.name, self.function_call.arguments)
            )
        return _said(found)

    def redacted(self, field: str, texts: Mapping[str, str]) -> str | None:
        """Its content, as `texts` by field have it."""
        return _content(self.content, field, texts)


class Item(Foreign):
    """An entry of the Responses API: a message, a call of a tool, what came of one, or what the model thought."""

    type: Annotated[str, Field(max_length=100)] = "message"
    role: Annotated[str, Field(max_length=100)] | None = None
    content: str | list[Part] | None = None
    summary: list[Part] | None = None
    name: Annotated[str, Field(max_length=TOOL_NAME)] | None = None
    call_id: str | None = None
    arguments: str | None = None
    input: str | None = None
    output: Any = None
    action: dict[str, Any] | None = None
    code: str | None = None
    queries: list[str] | None = None
    results: list[Any] | None = None

    def segments(self, field: str, tools: dict[str, str]) -> list[Segment]:
        """Its texts; `tools` as for `Message.segments`."""
        if self.type == "message":
            return self._message(field)
        if self.type == "reasoning":
            return _parts(self.summary, f"{field}/summary", Direction.OUTPUT) + _parts(
                self.content, f"{field}/content", Direction.OUTPUT
            )
        found: list[Segment] = []
        if self.type.endswith("_output"):
            tool = _tool_of(tools, self.call_id, self.name or self.type.removesuffix("_call_output"))
        else:
            # Tools of the API's own are named by the kind of the entry, as in `web_search_call`.
            tool = self.name or self.type.removesuffix("_call")
            said = [
                (name, text_of(getattr(self, name))) for name in ("arguments", "input", "action", "code", "queries")
            ]
            given = [(name, text) for name, text in said if text] or (
                [("arguments", "")] if "call" in self.type else []
            )
            found += [_call(f"{field}/{name}", tool, text) for name, text in given]
            if self.call_id:
                tools[self.call_id] = tool
        for name in ("output", "results"):
            value = getattr(self, name)
            if value:
                found.append(Segment(f"{field}/{name}", Direction.TOOL_RESULT, text_of(value), tool=tool))
        return _said(found)

    def _message(self, field: str) -> list[Segment]:
        direction = _DIRECTIONS.get(self.role or "assistant")
        return _parts(self.content, f"{field}/content", direction) if direction is not None else []

    def redacted(self, field: str, texts: Mapping[str, str]) -> str | None:
        """Its content, or what came of a tool, as `texts` by field have it."""
        if self.content is None and self.output is not None:
            return texts.get(f"{field}/output", text_of(self.output))
        return _content(self.content, field, texts)


class ChatRequest(Foreign):
    """A body of POST /v1/chat/completions, or with `input` of POST /v1/responses."""

    messages: list[Message] | None = Field(default=None, max_length=MAX_MESSAGES)
    input: str | Annotated[list[Item], Field(max_length=MAX_MESSAGES)] | None = None
    model: Annotated[str, Field(max_length=300)] | None = None
    user: Annotated[str, Field(max_length=300)] | None = None

    @model_validator(mode="after")
    def _a_conversation(self) -> ChatRequest:
        if self.messages is None and self.input is None:
            raise ValueError("give messages, or input as the Responses API has it")
        return self

    def entries(self, field: str) -> Iterator[tuple[str, Message | Item]]:
        for at, message in enumerate(self.messages or ()):
            yield f"{field}/messages/{at}", message
        if isinstance(self.input, str):
            yield f"{field}/input", Text(content=self.input)
        else:
            for at, item in enumerate(self.input or ()):
                yield f"{field}/input/{at}", item


class Text(Item):
    """An input that is a text alone."""

    def segments(self, field: str, tools: dict[str, str]) -> list[Segment]:
        return _said([Segment(field, Direction.INPUT, str(self.content))])

    def redacted(self, field: str, texts: Mapping[str, str]) -> str | None:
        return texts.get(field, str(self.content))


class ChatChoice(Foreign):
    message: Message | None = None


class ChatUsage(Foreign):
    """Tokens, as one API calls them or the other."""

    prompt_tokens: int = Field(default=0, ge=0, le=1_000_000_000)
    completion_tokens: int = Field(default=0, ge=0, le=1_000_000_000)
    input_tokens: int = Field(default=0, ge=0, le=1_000_000_000)
    output_tokens: int = Field(default=0, ge=0, le=1_000_000_000)


class ChatResponse(Foreign):
    """What POST /v1/chat/completions answered, or with `output` POST /v1/responses."""

    choices: list[ChatChoice] = Field(default_factory=list, max_length=MAX_MESSAGES)
    output: list[Item] = Field(default_factory=list, max_length=MAX_MESSAGES)
    model: Annotated[str, Field(max_length=300)] | None = None
    usage: ChatUsage | None = None

    def entries(self, field: str) -> Iterator[tuple[str, Message | Item]]:
        for at, choice in enumerate(self.choices):
            if choice.message is not None:
                yield f"{field}/choices/{at}/message", choice.message
        for at, item in enumerate(self.output):
            yield f"{field}/output/{at}", item


def _parts(content: str | list[Part] | None, field: str, direction: Direction) -> list[Segment]:
    if isinstance(content, str):
        return _said([Segment(field, direction, content)])
    parts = enumerate(content or ())
    return _said(
        [Segment(f"{field}/{at}/{name}", direction, text) for at, part in parts for name, text in part.texts()]
    )


def _call(field: str, tool: str, arguments: str) -> Segment:
    return Segment(field, Direction.TOOL_CALL, arguments, tool=tool)


def _tool_of(tools: Mapping[str, str], call_id: str | None, name: str | None) -> str | None:
    return (tools.get(call_id or "") or name or "")[:TOOL_NAME] or None


def _said(segments: list[Segment]) -> list[Segment]:
    """Those that say something; a call without arguments is a call."""
    return [one for one in segments if one.text or one.direction is Direction.TOOL_CALL]


def _content(content: str | list[Part] | None, field: str, texts: Mapping[str, str]) -> str | None:
    if isinstance(content, list):
        said = ((f"{field}/content/{at}/text", part.text) for at, part in enumerate(content) if part.text is not None)
        return "\n".join(texts.get(place, text) for place, text in said)
    return texts.get(f"{field}/content", content) if content is not None else None
