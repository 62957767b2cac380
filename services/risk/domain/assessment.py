"""An assessment: the formula and the adjustments joined, as the record that risk keeps and announces."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from services.risk.domain.adjustments import Adjustment, Situation, adjust
from services.risk.domain.formula import Control, Factor, Subject, apply_formula, level_of, rounded
from services.risk.domain.model import HUNDRED, ZERO, ScoringModel
from shared.contracts.risk import Adjustment as AnnouncedAdjustment
from shared.contracts.risk import AssessmentCompleted, RiskLevel
from shared.errors import NotFound


class NotAssessed(NotFound):
    """Risk knows no such asset."""


@dataclass(frozen=True, slots=True)
class Score:
    """A scored asset. Scores are 0-100, effectiveness 0-1, all with two decimals.

    residual = base_residual + the sum of the adjustments' points, exactly; base_residual is the specification's.
    """

    inherent: Decimal
    control_effectiveness: Decimal
    base_residual: Decimal
    residual: Decimal
    level: RiskLevel
    factors: tuple[Factor, ...]
    recommendations: tuple[str, ...]
    adjustments: tuple[Adjustment, ...]
    model_version: int


def score_asset(
    model: ScoringModel,
    asset_id: UUID,
    subject: Subject,
    controls: Iterable[Control],
    situation: Situation,
    *,
    at: datetime,
) -> Score:
    """Score an asset as of a moment (UTC). The level is judged on the residual before it is rounded."""
    formula = apply_formula(model, subject, controls, on=at.date())
    base = rounded(formula.residual)
    adjustments = adjust(model, asset_id, situation, base=base, at=at)
    change = sum((adjustment.points for adjustment in adjustments), ZERO)
    return Score(
        inherent=rounded(formula.inherent),
        control_effectiveness=rounded(formula.effectiveness),
        base_residual=base,
        residual=base + change,
        level=level_of(model.thresholds, min(HUNDRED, formula.residual + change)),
        factors=formula.factors,
        recommendations=formula.recommendations,
        adjustments=adjustments,
        model_version=model.version,
    )


def risk_reduction_percentage(inherent: Decimal, residual: Decimal) -> Decimal:
    """How much less risk there is than without controls, in percent; negative when activity outweighs the controls, 0
    when there is no inherent risk."""
    return ZERO if inherent == 0 else rounded((1 - residual / inherent) * 100)


@dataclass(frozen=True, slots=True)
class Trigger:
    """What made an assessment necessary: a name such as `asset.registered`, the event or command, and its time."""

    name: str
    id: UUID
    at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """What an asset carries after an assessment. `number` counts its assessments from 1."""

    number: int
    residual: Decimal
    level: RiskLevel
    model_version: int


@dataclass(frozen=True, slots=True)
class Assessment:
    """One assessment of one asset. `accepted_until` is the end of an acceptance in force, which changes no score."""

    assessment_id: UUID
    number: int
    asset_id: UUID
    asset_name: str
    asset_version: int
    owner_team: str
    score: Score
    previous: Standing | None
    trigger: Trigger
    accepted_until: datetime | None

    @property
    def standing(self) -> Standing:
        return Standing(self.number, self.score.residual, self.score.level, self.score.model_version)

    def completed(self) -> AssessmentCompleted:
        score, previous = self.score, self.previous
        # model_construct: every value is ours and typed; validating them again was half the cost of a bulk import.
        return AssessmentCompleted.model_construct(
            version=self.number,
            occurred_at=self.trigger.at,
            assessment_id=self.assessment_id,
            asset_id=self.asset_id,
            asset_version=self.asset_version,
            owner_team=self.owner_team,
            inherent_risk_score=float(score.inherent),
            control_effectiveness=float(score.control_effectiveness),
            base_residual_risk_score=float(score.base_residual),
            residual_risk_score=float(score.residual),
            risk_level=score.level,
            adjustments=tuple(
                AnnouncedAdjustment(kind=entry.kind, points=float(entry.points), reason=entry.reason)
                for entry in score.adjustments
            ),
            previous_risk_score=float(previous.residual) if previous else None,
            previous_risk_level=previous.level if previous else None,
            model_version=score.model_version,
            trigger=self.trigger.name,
            trigger_event_id=self.trigger.id,
            accepted_until=self.accepted_until,
            assessed_at=self.trigger.at,
        )
