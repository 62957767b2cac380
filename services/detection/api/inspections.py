"""`/v1/inspections`: what passes between people, models and tools, looked at before it goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
import prometheus_client
import uuid_utils.compat as uuid_utils
from fastapi import Depends, Request
from pydantic import Field, ValidationError, model_validator
from starlette.responses import Response

from services.detection.application.alerts import Sighting, raise_alerts, worth_a_person
from services.detection.domain.assets import Asset, Mode, NoSuchAsset
from services.detection.domain.evidence import digest
from services.detection.domain.interaction import (
    Interaction,
    Segment,
    check_size,
    leaves_of,
    redacted,
    redacted_arguments,
)
from services.detection.domain.rules import Metric
from services.detection.domain.sessions import Measured, Subject
from services.detection.domain.verdict import Block, Finding, decide, weigh
from services.detection.live import Live
from shared import problems, telemetry
from shared.auth import Caller, requires
from shared.contracts.detection import Decision, Direction, FindingKind, Severity, Verdict
from shared.contracts.incidents import IncidentCategory
from shared.contracts.inventory import Lifecycle
from shared.database import Tx
from shared.errors import DomainError, Invalid
from shared.models import In, Out
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1/inspections", "inspections")

MAX_ITEMS = 500
LONG_TEXT = 16_384
INSPECTIONS = prometheus_client.Counter(
    "colonnade_detection_inspections_total",
    "Interactions inspected, by what was held of them and done.",
    ["direction", "verdict", "decision"],
)
INSPECTION_SECONDS = prometheus_client.Histogram(
    "colonnade_detection_inspection_seconds",
    "Time from the parsed request to the verdict, in seconds; raising alerts comes on top.",
    buckets=(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5),
)
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


class EvidenceView(Out):
    """Where, in characters of the original value at `field` (a JSON Pointer), and what, masked."""

    field: str
    start: int
    end: int
    excerpt: str
    via: tuple[str, ...] = ()


class FindingView(Out):
    rule_id: str
    rule_version: int
    kind: FindingKind
    title: str
    category: IncidentCategory
    severity: Severity
    score: float
    owasp: tuple[str, ...]
    atlas: tuple[str, ...]
    evidence: EvidenceView
    shadow: bool = Field(description="On trial: it counts for neither verdict nor decision.")

    @classmethod
    def of(cls, one: Finding) -> FindingView:
        # Built without validation: the parts come from our own detector, and this is the hot path.
        evidence = EvidenceView.model_construct(
            field=one.evidence.field,
            start=one.evidence.start,
            end=one.evidence.end,
            excerpt=one.evidence.excerpt,
            via=one.evidence.via,
        )
        return cls.model_construct(
            rule_id=one.rule_id,
            rule_version=one.rule_version,
            kind=one.kind,
            title=one.title,
            category=one.category,
            severity=one.severity,
            score=one.score,
            owasp=one.owasp,
            atlas=one.atlas,
            evidence=evidence,
            shadow=one.shadow,
        )


class BlockView(Out):
    """Why nothing of this passes, whatever it says."""

    reason: str
    containment_id: UUID | None
    target_kind: str
    target: str

    @classmethod
    def of(cls, block: Block) -> BlockView:
        return cls(
            reason=block.reason, containment_id=block.containment_id, target_kind=block.target_kind, target=block.target
        )


class InspectionView(Out):
    inspection_id: UUID
    verdict: Verdict = Field(description="What the detectors hold.")
    decision: Decision = Field(description="What is to be done, by the asset's mode and by containments.")
    score: float
    findings: list[FindingView]
    redacted_content: str | None = Field(default=None, description="The content to pass on when decision is redact.")
    redacted_messages: list[str | None] | None = Field(default=None, description="The same for messages, in order.")
    redacted_arguments: dict[str, Any] | None = Field(default=None, description="The same for a tool's arguments.")
    blocked: BlockView | None = None
    elapsed_ms: float


class BatchView(Out):
    """Results in the order of the items; an item's problem stands in its place."""

    results: list[InspectionView | problems.Problem]


async def _live(request: Request) -> Live:
    memory: Live = request.app.state.runtime.resources["live"]
    return memory


Memory = Annotated[Live, Depends(_live)]


@dataclass(frozen=True, slots=True)
class _Inspected:
    view: InspectionView
    sightings: list[Sighting]


@router.post("", response_model=InspectionView, response_model_exclude_none=True)
@requires("detection:inspect")
async def inspect(body: NewInspection, work: Work, memory: Memory, request: Request) -> Response:
    """Inspect one interaction. An alert is raised for what is worth a person; the content itself is not kept.

    An asset_id that nobody registered is 404: an alert on nothing would reach nobody. Without an asset it is the
    traffic of the one team that the caller is bound to; a caller bound to several, who names none, is answered 422.

    With an Idempotency-Key a repeated request is answered alike and raises nothing again; its tokens and calls count
    each time.
    """
    interaction = _interaction(body, work.caller)
    await memory.expect(work.caller, _assets([body]))
    await memory.know(_counted(interaction))
    inspected = await _inspect(body, interaction, work.caller, memory)
    return await _record(inspected.sightings, _answer(inspected.view), work, memory, request)


@router.post("/batch", response_model=BatchView, response_model_exclude_none=True)
@requires("detection:inspect")
async def inspect_batch(body: NewBatch, work: Work, memory: Memory, request: Request) -> Response:
    """Inspect up to 500 interactions; one that is not valid fails alone."""
    parsed = [_parsed(item, work.caller) for item in body.items]
    valid = [one for one in parsed if not isinstance(one, Invalid)]
    await memory.expect(work.caller, _assets([asked for asked, _ in valid]))
    # One query for all sessions of the batch that this replica has not seen.
    await memory.know([subject for _, interaction in valid for subject in _counted(interaction)])
    results: list[bytes] = []
    sightings: list[Sighting] = []
    for number, one in enumerate(parsed):
        try:
            if isinstance(one, Invalid):
                raise one
            inspected = await _inspect(*one, work.caller, memory)
        except DomainError as refused:
            results.append(orjson.dumps(problems.document_of(refused), default=str))
        else:
            results.append(bytes(_answer(inspected.view).body))
            sightings += inspected.sightings
        if number % 16 == 15:
            # Others' single inspections do not wait for a whole batch.
            await asyncio.sleep(0)
    answer = Response(b'{"results":[' + b",".join(results) + b"]}", media_type="application/json")
    return await _record(sightings, answer, work, memory, request)


def _parsed(item: dict[str, Any], caller: Caller) -> tuple[NewInspection, Interaction] | Invalid:
    try:
        asked = NewInspection.model_validate(item)
        return asked, _interaction(asked, caller)
    except Invalid as refused:
        return refused
    except ValidationError as error:
        fields = problems.field_errors(error.errors(), item)
        return Invalid(f"{fields[0]['field']}: {fields[0]['message']}", errors=fields)


async def _record(sightings: list[Sighting], answer: Response, work: Work, memory: Live, request: Request) -> Response:
    """Raise the alerts, then answer. With an Idempotency-Key, the answer is kept in the alerts' transaction.

    Raises:
        KeyInProgress, KeyReused
    """
    if "idempotency-key" not in request.headers:
        if sightings:
            await memory.record(sightings)
        return answer
    folding = timedelta(minutes=work.runtime.settings.folding_minutes)

    async def raise_them(tx: Tx) -> None:
        if sightings:
            await raise_alerts(tx, sightings, folding)

    # Also with nothing to raise: else the key of an attack would do for another text, and the other way round.
    return await work.run(raise_them, lambda _: answer)


def _answer(view: InspectionView) -> Response:
    return Response(view.model_dump_json(exclude_none=True), media_type="application/json")


async def _inspect(asked: NewInspection, interaction: Interaction, caller: Caller, memory: Live) -> _Inspected:
    started = time.perf_counter()
    now = datetime.now(UTC)
    watched, prompts = (await memory.asset(asked.asset_id)) if asked.asset_id is not None else (None, None)
    if asked.asset_id is not None and (watched is None or not caller.sees(watched.asset.owner_team)):
        detail = f"there is no asset {asked.asset_id}"
        raise NoSuchAsset(detail, errors=[{"field": "/asset_id", "message": detail}])
    asset = watched.asset if watched is not None else None
    mode = watched.mode if watched is not None else Mode.ENFORCE
    check_size(interaction)
    measured = _measure(interaction, memory, now)
    look = partial(memory.detector.inspect, interaction, now=now, asset=asset, prompts=prompts, measured=measured)
    # A long text takes tens of milliseconds, in which nobody else should wait.
    inspected = await asyncio.to_thread(look) if interaction.size > LONG_TEXT else look()
    verdict, score = weigh(inspected.findings)
    memory.tracking.count(interaction, now, flagged=verdict is not Verdict.ALLOW)
    team = _owner(asset, caller)
    block = memory.block_of(asset_id=asked.asset_id, session_id=asked.session_id, actor=asked.actor, team=team, now=now)
    if block is None and mode is Mode.ENFORCE and asset is not None and asset.lifecycle is not Lifecycle.ACTIVE:
        block = Block(f"the asset is {asset.lifecycle.value}", None, "asset", str(asset.asset_id))
    decision = decide(inspected.findings, mode) if block is None else Decision.BLOCK
    view = InspectionView(
        inspection_id=uuid_utils.uuid7(),
        verdict=verdict,
        decision=decision,
        score=score,
        findings=[FindingView.of(one) for one in inspected.findings],
        blocked=BlockView.of(block) if block is not None else None,
        elapsed_ms=0.0,
    )
    if decision is Decision.REDACT:
        _redact(view, asked, interaction, inspected.redactions)
    sightings = _sightings(view, inspected.findings, asked, interaction, team, caller.subject, memory, now)
    INSPECTIONS.labels(asked.direction.value, verdict.value, decision.value).inc()
    elapsed = time.perf_counter() - started
    INSPECTION_SECONDS.observe(elapsed)
    view.elapsed_ms = round(elapsed * 1000, 3)
    return _Inspected(view, sightings)


def _owner(asset: Asset | None, caller: Caller) -> str:
    """Whose alerts these are: the asset's team, or without an asset the one team that the caller is bound to."""
    if asset is not None:
        return asset.owner_team
    return next(iter(caller.teams)) if caller.teams is not None and len(caller.teams) == 1 else ""


def _assets(asked: Iterable[NewInspection]) -> set[UUID]:
    return {one.asset_id for one in asked if one.asset_id is not None}


def _counted(interaction: Interaction) -> list[Subject]:
    """Whom the interaction counts for, if it counts at all."""
    if interaction.amounts() or any(one.direction is Direction.OUTPUT for one in interaction.segments):
        return interaction.subjects()
    return []


def _measure(interaction: Interaction, memory: Live, now: datetime) -> Measured | None:
    subjects = _counted(interaction)
    if not subjects:
        return None
    rates = memory.sessions.count(subjects, interaction.amounts(), now.timestamp())
    outputs = [one for one in interaction.segments if one.direction is Direction.OUTPUT]
    figures: dict[Metric, float] = {}
    samples = 0
    if outputs and subjects[0].by == "session":
        figures, samples = memory.sessions.compare_output(subjects[0], outputs[-1].text)
    return Measured(figures, rates, samples)


def _interaction(asked: NewInspection, caller: Caller) -> Interaction:
    """What was asked, as detectors read it.

    Raises:
        Invalid: nothing says which of the caller's teams' traffic it is.
    """
    if asked.asset_id is None and caller.teams is not None and len(caller.teams) > 1:
        raise Invalid("your key is bound to several teams: name the asset", field="/asset_id")
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
        team=_owner(None, caller),
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


def _redact(view: InspectionView, asked: NewInspection, interaction: Interaction, redactions: Any) -> None:
    texts = {one.field: redacted(one, redactions.get(one.field, ())) for one in interaction.segments}
    if asked.content is not None:
        view.redacted_content = texts.get("/content", asked.content)
    if asked.messages is not None:
        view.redacted_messages = [
            _message(message, f"/messages/{at}", texts) for at, message in enumerate(asked.messages)
        ]
    if asked.tool is not None:
        for segment in interaction.segments:
            if segment.field == "/tool/arguments":
                spans = redactions.get(segment.field, ())
                view.redacted_arguments = redacted_arguments(asked.tool.arguments, segment, spans)


def _message(message: Message, field: str, texts: dict[str, str]) -> str | None:
    if isinstance(message.content, list):
        parts = enumerate(message.content)
        return "\n".join(texts.get(f"{field}/content/{at}/text", part.text) for at, part in parts)
    return texts.get(f"{field}/content", message.content or "") if message.content is not None else None


def _sightings(
    view: InspectionView,
    findings: Sequence[Finding],
    asked: NewInspection,
    interaction: Interaction,
    owner_team: str,
    reported_by: str,
    memory: Live,
    now: datetime,
) -> list[Sighting]:
    by_field = {segment.field: segment for segment in interaction.segments}
    found = []
    for finding in worth_a_person(findings):
        segment = by_field.get(finding.evidence.field)
        found.append(
            Sighting(
                finding=finding,
                verdict=view.verdict,
                decision=view.decision,
                inspection_id=view.inspection_id,
                asset_id=asked.asset_id,
                owner_team=owner_team,
                reported_by=reported_by,
                session_id=asked.session_id,
                actor=asked.actor,
                model=asked.model,
                direction=segment.direction if segment is not None else asked.direction,
                digest=digest(memory.key, segment.text) if segment is not None else "",
                at=now,
                traceparent=telemetry.traceparent(),
            )
        )
    return found
