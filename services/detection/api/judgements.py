"""What is answered of an inspection."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import Field

from services.detection.application.inspections import Degradation, Judged
from services.detection.bodies import NewInspection
from services.detection.domain.assets import FailMode
from services.detection.domain.evidence import Placeholders
from services.detection.domain.interaction import Interaction, redacted, redacted_arguments
from services.detection.domain.verdict import Block, Finding
from shared import problems
from shared.contracts.detection import Decision, FindingKind, Severity, Verdict
from shared.contracts.incidents import IncidentCategory
from shared.models import Out


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
    suppressed: bool = Field(default=False, description="A suppression holds for it: it counts for nothing either.")
    suppression_id: UUID | None = None

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
            suppressed=one.suppressed_by is not None,
            suppression_id=one.suppressed_by,
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


class DegradedView(Out):
    """What the detectors could not do, and what becomes of it: `open` lets it pass, `closed` blocks where enforced."""

    reasons: tuple[Degradation, ...]
    fail_mode: FailMode


class InspectionView(Out):
    inspection_id: UUID
    verdict: Verdict = Field(description="What the detectors hold.")
    decision: Decision = Field(description="What is to be done, by the asset's mode and by containments.")
    score: float
    findings: list[FindingView]
    redacted_content: str | None = Field(default=None, description="The content to pass on when decision is redact.")
    redacted_messages: list[str | None] | None = Field(
        default=None, description="The same for messages, in order; with `openai` the request's, then the answer's."
    )
    redacted_arguments: dict[str, Any] | None = Field(default=None, description="The same for a tool's arguments.")
    blocked: BlockView | None = None
    degraded: DegradedView | None = Field(default=None, description="Given when it could not be looked at in full.")
    elapsed_ms: float


class BatchView(Out):
    """Results in the order of the items; an item's problem stands in its place."""

    results: list[InspectionView | problems.Problem]


def view_of(judged: Judged, asked: NewInspection, interaction: Interaction) -> InspectionView:
    """The answer to what was asked; with redacted content where it is to be redacted."""
    view = InspectionView.model_construct(
        inspection_id=judged.inspection_id,
        verdict=judged.verdict,
        decision=judged.decision,
        score=judged.score,
        findings=[FindingView.of(one) for one in judged.findings],
        redacted_content=None,
        redacted_messages=None,
        redacted_arguments=None,
        blocked=BlockView.of(judged.block) if judged.block is not None else None,
        degraded=DegradedView(reasons=judged.degraded, fail_mode=judged.fail_mode) if judged.degraded else None,
        elapsed_ms=round(judged.elapsed_seconds * 1000, 3),
    )
    if judged.decision is Decision.REDACT:
        _redact(view, asked, interaction, judged)
    return view


def _redact(view: InspectionView, asked: NewInspection, interaction: Interaction, judged: Judged) -> None:
    # One numbering for the whole interaction: what is one value stays one, from message to message.
    names = Placeholders()
    texts = {one.field: redacted(one, judged.redactions.get(one.field, ()), names) for one in interaction.segments}
    if asked.content is not None:
        view.redacted_content = texts.get("/content", asked.content)
    if asked.messages is not None or asked.openai is not None:
        view.redacted_messages = [entry.redacted(field, texts) for field, entry in asked.chat()]
    if asked.tool is not None:
        for segment in interaction.segments:
            if segment.field == "/tool/arguments":
                spans = judged.redactions.get(segment.field, ())
                view.redacted_arguments = redacted_arguments(asked.tool.arguments, segment, spans, names)
