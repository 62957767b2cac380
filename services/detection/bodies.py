"""What is sent to be inspected, and how detectors read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any
from uuid import UUID

from pydantic import ConfigDict, Field, model_validator

from services.detection.application.reach import check_names_whose, team_of
from services.detection.domain.interaction import Interaction, Segment, leaves_of
from services.detection.openai import MAX_MESSAGES, ChatRequest, ChatResponse, Item, Message
from shared.auth import Caller
from shared.contracts.detection import Direction
from shared.errors import Invalid
from shared.models import In

MAX_ITEMS = 500

Id = Annotated[str, Field(min_length=1, max_length=300)]


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

    def chat(self) -> Iterator[tuple[str, Message | Item]]:
        """All messages and other entries in order, each with its JSON Pointer."""
        for at, message in enumerate(self.messages or ()):
            yield f"/messages/{at}", message
        if self.openai is not None and self.openai.request is not None:
            yield from self.openai.request.entries("/openai/request")
        if self.openai is not None and self.openai.response is not None:
            yield from self.openai.response.entries("/openai/response")


class Published(NewInspection):
    """The same from whom no answer reaches: a text may be of any length, and is read in windows."""

    model_config = ConfigDict(str_max_length=None)


class NewBatch(In):
    items: list[Any] = Field(
        min_length=1, max_length=MAX_ITEMS, description="Each an inspection; what is none is answered in its place."
    )


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
    for field, entry in asked.chat():
        segments += entry.segments(field, tools)
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
            usage = Usage(
                input_tokens=told.prompt_tokens or told.input_tokens,
                output_tokens=told.completion_tokens or told.output_tokens,
            )
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
