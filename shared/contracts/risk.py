"""What risk publishes: assessments and the model they were made with."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from shared.contracts.envelope import Contract, Event


class RiskLevel(StrEnum):
    CRITICAL = "CRITICAL"
    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"


class Adjustment(Contract):
    """A signed change, in points of the 0-100 scale, on top of the formula's residual."""

    kind: str
    points: float
    reason: str


class AssessmentCompleted(Event):
    """An asset's risk was assessed; `residual_risk_score` is what the asset now carries.

    residual_risk_score = base_residual_risk_score + sum of adjustments.points, exactly. `version` counts the asset's
    assessments, `asset_version` is the inventory version that was assessed.
    """

    TYPE: ClassVar[str] = "ev.risk.assessment.completed.v1"
    SUBJECT: ClassVar[str] = "asset_id"

    assessment_id: UUID
    asset_id: UUID
    asset_version: int
    owner_team: str = ""
    inherent_risk_score: float
    control_effectiveness: float
    base_residual_risk_score: float
    residual_risk_score: float
    risk_level: RiskLevel
    adjustments: tuple[Adjustment, ...] = ()
    previous_risk_score: float | None = None
    previous_risk_level: RiskLevel | None = None
    model_version: int
    trigger: str
    trigger_event_id: UUID | None = None
    accepted_until: datetime | None = None
    assessed_at: datetime


class ModelUpdated(Event):
    """A new version of the scoring model is in force; the portfolio is being re-scored with it."""

    TYPE: ClassVar[str] = "ev.risk.model.updated.v1"
    SUBJECT: ClassVar[str] = "model"

    model: str = "default"
    weights: dict[str, float]
