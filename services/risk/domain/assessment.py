"""An assessment: the formula and the adjustments joined, as one immutable record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from services.risk.domain.adjustments import Adjustment, Situation, adjust
from services.risk.domain.formula import Control, Factor, Subject, apply_formula, level_of, rounded
from services.risk.domain.model import HUNDRED, ZERO, ScoringModel
from shared.contracts.risk import RiskLevel


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


def risk_reduction_percentage(inherent: Decimal, residual: Decimal) -> Decimal:
    """How much less risk there is than without controls, in percent; negative when activity outweighs controls, 0
    when there is no inherent risk."""
    return ZERO if inherent == 0 else rounded((1 - residual / inherent) * 100)


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
    day: date = at.date()
    formula = apply_formula(model, subject, controls, on=day)
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
