"""What is sent to be inspected, and how detectors read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.detection.application.inspections import check_names_whose, team_of
from services.detection.domain.interaction import Interaction, Segment, leaves_of
from shared.auth import Caller
from shared.contracts.detection import Direction
from shared.errors import Invalid
from shared.models import In

MAX_ITEMS = 500
MAX_MESSAGES = 200
TOOL_NAME = 300
_DIRECTIONS = {
    "user": Direction.INPUT,
    "assistant": Direction.OUTPUT,
    "tool": Direction.TOOL_RESULT,
    "function": Direction.TOOL_RESULT,
}

Id = Annotated[str, Field(min_length=1, max_length=300)]


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


class ChatRequest(Foreign):
    """A body of POST /v1/chat/completions."""

    messages: list[Message] = Field(max_length=MAX_MESSAGES)
    model: Annotated[str, Field(max_length=300)] | None = None
    user: Annotated[str, Field(max_length=300)] | None = None


class ChatChoice(Foreign):
    message: Message | None = None


class ChatUsage(Foreign):
    prompt_tokens: int = Field(default=0, ge=0, le=1_000_000_000)
    completion_tokens: int = Field(default=0, ge=0, le=1_000_000_000)


class ChatResponse(Foreign):
    """What POST /v1/chat/completions answered."""

    choices: list[ChatChoice] = Field(default_factory=list, max_length=MAX_MESSAGES)
    model: Annotated[str, Field(max_length=300)] | None = None
    usage: ChatUsage | None = None


class Chat(In):
    """An exchange with an OpenAI-compatible API, as it was sent and answered; either may be left out."""

    request: ChatRequest | None = None
    response: ChatResponse | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Chat:
        if self.request is None and self.response is None:
            raise ValueError("give request, response or both")
        return self


class ToolCall(In):
    """A call of a tool by an agent, or with the direction tool_result what came of one."""

    name: Annotated[str, Field(min_length=1, max_length=300)]
    arguments: dict[str, Any] = Field(default_factory=dict)
    failed: bool = Field(default=False, description="Of a result: the tool failed, or refused.")


class Usage(In):
    input_tokens: int = Field(default=0, ge=0, le=1_000_000_000)
    output_tokens: int = Field(default=0, ge=0, le=1_000_000_000)
    cost_usd: float = Field(default=0.0, ge=0, le=1_000_000)


class NewInspection(In):
    """One interaction: give `content`, `messages`, `openai`, or for a tool call `tool`."""

    asset_id: UUID | None = Field(
        default=None,
        description="The asset that it passes through. A caller who is bound to several teams has to name it: it says "
        "whose traffic this is.",
    )
    session_id: Id | None = None
    actor: Id | None = Field(default=None, description="Who is behind it: a user, a service.")
    direction: Direction | None = Field(
        default=None, description="May be left out with `openai`: output of a response alone, else input."
    )
    content: str | None = None
    messages: list[Message] | None = Field(default=None, max_length=MAX_MESSAGES)
    openai: Chat | None = None
    tool: ToolCall | None = None
    model: Annotated[str, Field(max_length=300)] | None = None
    usage: Usage | None = None

    @model_validator(mode="after")
    def _something_to_inspect(self) -> NewInspection:
        if sum(one is not None for one in (self.content, self.messages, self.openai)) > 1:
            raise ValueError("give content, messages or openai, not several of them")
        if all(one is None for one in (self.content, self.messages, self.openai, self.tool, self.usage)):
            raise ValueError("give content, messages, openai, tool or usage")
        return self

    def chat(self) -> Iterator[tuple[str, Message]]:
        """All messages in order, each with its JSON Pointer."""
        for at, message in enumerate(self.messages or ()):
            yield f"/messages/{at}", message
        if self.openai is not None and self.openai.request is not None:
            for at, message in enumerate(self.openai.request.messages):
                yield f"/openai/request/messages/{at}", message
        if self.openai is not None and self.openai.response is not None:
            for at, choice in enumerate(self.openai.response.choices):
                if choice.message is not None:
                    yield f"/openai/response/choices/{at}/message", choice.message


class Published(NewInspection):
    """The same from whom no answer reaches: a text may be of any length, and is read in windows."""

    model_config = ConfigDict(str_max_length=None)


class NewBatch(In):
    items: list[dict[str, Any]] = Field(min_length=1, max_length=MAX_ITEMS, description="Each an inspection.")


def interaction_of(asked: NewInspection, caller: Caller) -> Interaction:
    """What was asked, as detectors read it.

    Raises:
        Invalid: nothing says which of the caller's teams' traffic it is, or which way it goes.
    """
    check_names_whose(caller, asked.asset_id)
    request = asked.openai.request if asked.openai is not None else None
    response = asked.openai.response if asked.openai is not None else None
    direction = asked.direction
    if direction is None:
        if asked.openai is None:
            raise Invalid("/direction: Field required", field="/direction")
        direction = Direction.OUTPUT if request is None else Direction.INPUT
    segments: list[Segment] = []
    if asked.content:
        segments.append(Segment("/content", direction, asked.content))
    tools: dict[str, str] = {}
    for field, message in asked.chat():
        segments += _segments(message, field, tools)
    if asked.tool is not None:
        arguments = leaves_of(asked.tool.arguments, "/tool/arguments")
        if arguments is not None:
            segments.append(arguments)
    model, actor, usage = asked.model, asked.actor, asked.usage or Usage()
    if asked.openai is not None:
        for side in (response, request):
            model = model or (side.model if side is not None else None)
        actor = actor or (request.user if request is not None else None) or None
        if asked.usage is None and response is not None and response.usage is not None:
            told = response.usage
            usage = Usage(input_tokens=told.prompt_tokens, output_tokens=told.completion_tokens)
    return Interaction(
        direction=direction,
        segments=tuple(segments),
        asset_id=asked.asset_id,
        session_id=asked.session_id,
        actor=actor,
        tool=asked.tool.name if asked.tool else None,
        model=model,
        tokens=usage.input_tokens + usage.output_tokens,
        cost_usd=usage.cost_usd,
        team=team_of(caller),
        failed=asked.tool is not None and asked.tool.failed,
    )


def _segments(message: Message, field: str, tools: dict[str, str]) -> list[Segment]:
    """A message's texts. Its calls join `tools`, names by ids, in which its results find theirs."""
    direction = _DIRECTIONS.get(message.role)
    if direction is None:
        return []
    result = direction is Direction.TOOL_RESULT
    tool = (tools.get(message.tool_call_id or "") or message.name or "")[:TOOL_NAME] or None if result else None
    found: list[Segment] = []
    if isinstance(message.content, str):
        found.append(Segment(f"{field}/content", direction, message.content, tool=tool))
    for at, part in enumerate(message.content if isinstance(message.content, list) else ()):
        found += [Segment(f"{field}/content/{at}/{name}", direction, text, tool=tool) for name, text in part.texts()]
    for name, said in (("refusal", message.refusal), ("reasoning_content", message.reasoning_content)):
        if said:
            found.append(Segment(f"{field}/{name}", direction, said))
    for at, call in enumerate(message.tool_calls or ()):
        where = f"{field}/tool_calls/{at}"
        given = (
            ("function/arguments", call.function.name, call.function.arguments)
            if call.function is not None
            else ("custom/input", call.custom.name, call.custom.input)
            if call.custom is not None
            else None
        )
        if given is not None:
            found.append(_called(f"{where}/{given[0]}", given[1], given[2]))
            if call.id:
                tools[call.id] = given[1]
    if message.function_call is not None:
        found.append(
            _called(f"{field}/function_call/arguments", message.function_call.name, message.function_call.arguments)
        )
    # A call without arguments is a call.
    return [segment for segment in found if segment.text or segment.direction is Direction.TOOL_CALL]


def _called(field: str, tool: str, arguments: str) -> Segment:
    return Segment(field, Direction.TOOL_CALL, arguments, tool=tool)
