"""What is sent to be inspected, and how detectors read it."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, model_validator

from services.detection.application.inspections import check_names_whose, team_of
from services.detection.domain.interaction import Interaction, Segment, leaves_of
from shared.auth import Caller
from shared.contracts.detection import Direction
from shared.models import In

MAX_ITEMS = 500
MAX_MESSAGES = 200
_DIRECTIONS = {"user": Direction.INPUT, "assistant": Direction.OUTPUT, "tool": Direction.TOOL_RESULT}

Id = Annotated[str, Field(min_length=1, max_length=300)]


class TextPart(In):
    """A part of a message that holds text."""

    type: Literal["text"]
    text: str


class FunctionCall(In):
    name: Annotated[str, Field(min_length=1, max_length=300)]
    arguments: str = Field(default="", description="JSON, as the model wrote it.")


class MessageToolCall(In):
    id: str | None = None
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(In):
    """A chat message, as OpenAI-compatible APIs have it. What the system says is trusted and not inspected."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[MessageToolCall] | None = Field(default=None, max_length=100)


class ToolCall(In):
    """A call of a tool by an agent."""

    name: Annotated[str, Field(min_length=1, max_length=300)]
    arguments: dict[str, Any] = Field(default_factory=dict)


class Usage(In):
    input_tokens: int = Field(default=0, ge=0, le=1_000_000_000)
    output_tokens: int = Field(default=0, ge=0, le=1_000_000_000)
    cost_usd: float = Field(default=0.0, ge=0, le=1_000_000)


class NewInspection(In):
    """One interaction: give `content`, `messages`, or for a tool call `tool`."""

    asset_id: UUID | None = Field(
        default=None,
        description="The asset that it passes through. A caller who is bound to several teams has to name it: it says "
        "whose traffic this is.",
    )
    session_id: Id | None = None
    actor: Id | None = Field(default=None, description="Who is behind it: a user, a service.")
    direction: Direction
    content: str | None = None
    messages: list[Message] | None = Field(default=None, max_length=MAX_MESSAGES)
    tool: ToolCall | None = None
    model: Annotated[str, Field(max_length=300)] | None = None
    usage: Usage | None = None

    @model_validator(mode="after")
    def _something_to_inspect(self) -> NewInspection:
        if self.content is not None and self.messages is not None:
            raise ValueError("give content or messages, not both")
        if self.content is None and self.messages is None and self.tool is None and self.usage is None:
            raise ValueError("give content, messages, tool or usage")
        return self


class NewBatch(In):
    items: list[dict[str, Any]] = Field(min_length=1, max_length=MAX_ITEMS, description="Each an inspection.")


def interaction_of(asked: NewInspection, caller: Caller) -> Interaction:
    """What was asked, as detectors read it.

    Raises:
        Invalid: nothing says which of the caller's teams' traffic it is.
    """
    check_names_whose(caller, asked.asset_id)
    segments: list[Segment] = []
    if asked.content:
        segments.append(Segment("/content", asked.direction, asked.content))
    for at, message in enumerate(asked.messages or ()):
        segments += _segments(message, f"/messages/{at}")
    if asked.tool is not None:
        arguments = leaves_of(asked.tool.arguments, "/tool/arguments")
        if arguments is not None:
            segments.append(arguments)
    usage = asked.usage or Usage()
    return Interaction(
        direction=asked.direction,
        segments=tuple(segments),
        asset_id=asked.asset_id,
        session_id=asked.session_id,
        actor=asked.actor,
        tool=asked.tool.name if asked.tool else None,
        model=asked.model,
        tokens=usage.input_tokens + usage.output_tokens,
        cost_usd=usage.cost_usd,
        team=team_of(caller),
    )


def _segments(message: Message, field: str) -> list[Segment]:
    direction = _DIRECTIONS.get(message.role)
    if direction is None:
        return []
    found: list[Segment] = []
    if isinstance(message.content, str):
        found.append(Segment(f"{field}/content", direction, message.content))
    for at, part in enumerate(message.content if isinstance(message.content, list) else ()):
        found.append(Segment(f"{field}/content/{at}/text", direction, part.text))
    for at, call in enumerate(message.tool_calls or ()):
        where = f"{field}/tool_calls/{at}/function/arguments"
        found.append(Segment(where, Direction.TOOL_CALL, call.function.arguments))
    return [segment for segment in found if segment.text]
