"""An assessment as callers see it, stored or simulated."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

import orjson
from pydantic import Field
from starlette.responses import Response

from services.risk.domain.assessment import Score, risk_reduction_percentage
from shared.contracts.inventory import Lifecycle
from shared.contracts.risk import RiskLevel
from shared.models import Out

Treatment = Literal["accept"]


class FactorView(Out):
    """One dimension of the inherent risk."""

    dimension: str
    score: float = Field(description="0 to 100.")
    weight: float = Field(description="Share of the inherent risk, 0 to 1.")
    contribution: float = Field(description="score x weight, in points of the inherent risk.")
    details: str = Field(description="Why it scores so.")


class AdjustmentView(Out):
    """Points on top of the formula's residual, for what happens to the asset."""

    kind: str = Field(description="threat_activity, incident_activity or blast_radius.")
    points: float = Field(description="Signed, two decimals.")
    reason: str
    source_ids: list[UUID] = Field(description="The alerts, incidents or asset behind it, strongest first, at most 20.")


class AssessmentView(Out):
    """An assessment. residual_risk_score = base_residual_risk_score + the sum of adjustments[].points, exactly."""

    assessment_id: UUID | None = Field(description="Null in a simulation.")
    number: int | None = Field(description="Counts the asset's assessments from 1; null in a simulation.")
    asset_id: UUID | None
    asset_name: str
    asset_version: int | None = Field(description="The inventory's version that was assessed.")
    owner_team: str
    lifecycle: Lifecycle
    inherent_risk_score: float = Field(description="Risk without controls, 0 to 100.")
    control_effectiveness: float = Field(description="Share of the risk that operational controls remove, 0 to 1.")
    base_residual_risk_score: float = Field(description="Risk with controls by the formula alone, 0 to 100.")
    residual_risk_score: float = Field(description="Risk with controls and activity, 0 to 100.")
    risk_level: RiskLevel = Field(description="Judged on the residual before it is rounded.")
    risk_reduction_percentage: float = Field(description="Negative when activity outweighs the controls.")
    risk_factors: list[FactorView]
    recommendations: list[str] = Field(description="On the three largest factors, largest first.")
    adjustments: list[AdjustmentView]
    model_version: int | None = Field(description="Null in a simulation with weights of its own.")
    trigger: str = Field(
        description="What made it necessary, e.g. `asset.registered`, `alert.raised`, `model.updated`."
    )
    trigger_event_id: UUID | None
    previous_risk_score: float | None
    previous_risk_level: RiskLevel | None
    treatment: Treatment | None = Field(description="`accept` while an acceptance is in force; it changes no score.")
    accepted_until: datetime | None
    assessed_date: date
    assessed_at: datetime

    @classmethod
    def simulated(
        cls,
        score: Score,
        *,
        asset_id: UUID | None,
        name: str,
        owner_team: str,
        model_version: int | None,
        at: datetime,
    ) -> AssessmentView:
        """From a score that nothing was stored of."""
        return cls(
            assessment_id=None,
            number=None,
            asset_id=asset_id,
            asset_name=name,
            asset_version=None,
            owner_team=owner_team,
            lifecycle=Lifecycle.ACTIVE,
            inherent_risk_score=float(score.inherent),
            control_effectiveness=float(score.control_effectiveness),
            base_residual_risk_score=float(score.base_residual),
            residual_risk_score=float(score.residual),
            risk_level=score.level,
            risk_reduction_percentage=float(risk_reduction_percentage(score.inherent, score.residual)),
            risk_factors=[
                FactorView(
                    dimension=factor.dimension,
                    score=float(factor.score),
                    weight=float(factor.weight),
                    contribution=float(factor.contribution),
                    details=factor.details,
                )
                for factor in score.factors
            ],
            recommendations=list(score.recommendations),
            adjustments=[],
            model_version=model_version,
            trigger="simulation",
            trigger_event_id=None,
            previous_risk_score=None,
            previous_risk_level=None,
            treatment=None,
            accepted_until=None,
            assessed_date=at.date(),
            assessed_at=at,
        )


def as_document(row: Any) -> dict[str, Any]:
    """A row of store.views in the shape of AssessmentView.

    A dictionary and not the view: what comes from our own tables was validated when it was made, and building two
    thousand objects for a page of two hundred took most of its time.
    """
    accepted_until: datetime | None = row.accepted_until
    assessed_at: datetime = row.assessed_at
    return {
        "assessment_id": str(row.assessment_id),
        "number": row.number,
        "asset_id": str(row.asset_id),
        "asset_name": row.asset_name,
        "asset_version": row.asset_version,
        "owner_team": row.owner_team,
        "lifecycle": row.lifecycle,
        "inherent_risk_score": float(row.inherent),
        "control_effectiveness": float(row.control_effectiveness),
        "base_residual_risk_score": float(row.base_residual),
        "residual_risk_score": float(row.residual),
        "risk_level": row.risk_level,
        "risk_reduction_percentage": float(risk_reduction_percentage(row.inherent, row.residual)),
        "risk_factors": row.factors,
        "recommendations": row.recommendations,
        "adjustments": row.adjustments,
        "model_version": row.model_version,
        "trigger": row.trigger,
        "trigger_event_id": str(row.trigger_event_id),
        "previous_risk_score": None if row.previous_residual is None else float(row.previous_residual),
        "previous_risk_level": row.previous_level,
        "treatment": "accept" if accepted_until else None,
        "accepted_until": accepted_until,
        "assessed_date": assessed_at.date(),
        "assessed_at": assessed_at,
    }


def answer(document: dict[str, Any], *, etag: int | None = None) -> Response:
    """A document as it stands, for answers that are assembled and not validated again."""
    headers = {} if etag is None else {"ETag": f'"{etag}"'}
    return Response(orjson.dumps(document, option=orjson.OPT_UTC_Z), headers=headers, media_type="application/json")
