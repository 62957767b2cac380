"""Risk appetite: how much residual risk needs no decision, and who may accept how much more, for how long."""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise
from typing import Annotated

from pydantic import Field

from services.governance.domain.documents import Days, Document, Prose, RoleId
from shared.contracts.inventory import DataClassification, DeploymentEnvironment
from shared.contracts.risk import RiskLevel
from shared.errors import Invalid


class Severity(StrEnum):
    """How bad a red-team finding is."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    INFORMATIONAL = "informational"


Score = Annotated[float, Field(strict=True, ge=0, le=100)]


class Rule(Document):
    """What it takes to decide something.

    Attributes:
        max_days: longest time until it expires.
        accepted_by: RACI role that decides, for people.
        roles: platform roles, one of which the service demands; empty demands only the scope.
        board_decision: whether a recorded, approving board decision must be named.
    """

    max_days: Days
    accepted_by: RoleId
    roles: tuple[RoleId, ...] = Field(default=(), max_length=10)
    board_decision: bool = False


class LevelRule(Rule):
    """A rule for one risk level; scores above `max_residual_score` cannot be accepted at all."""

    max_residual_score: Score


class ReviewDays(Document):
    """Days between security reviews of an asset, and from its registration to the first."""

    asset_security: Days
    first_asset_security: Days


class Appetite(Document):
    """The organisation's risk appetite.

    Attributes:
        ceilings: highest residual score that needs no acceptance, by data classification and environment.
        levels: what may be accepted above it, by the asset's risk level.
        exceptions: what it takes to deviate from a policy or control.
        finding_days: days in which a red-team finding is to be fixed.
    """

    statement: Prose
    ceilings: dict[DataClassification, dict[DeploymentEnvironment, Score]]
    levels: dict[RiskLevel, LevelRule]
    exceptions: Rule
    finding_days: dict[Severity, Days]
    review_days: ReviewDays

    def check(self) -> None:
        """Refuse an appetite that leaves a case undecided.

        Raises:
            Invalid: a class, environment, level or severity is missing, or a lower level allows more than a higher.
        """
        errors = []
        for classification in DataClassification:
            row = self.ceilings.get(classification, {})
            errors += [
                _missing(f"/ceilings/{classification}/{environment}")
                for environment in DeploymentEnvironment
                if environment not in row
            ]
        errors += [_missing(f"/levels/{level}") for level in RiskLevel if level not in self.levels]
        errors += [_missing(f"/finding_days/{severity}") for severity in Severity if severity not in self.finding_days]
        if not errors:
            ascending = [RiskLevel.LOW, RiskLevel.MEDIUM, RiskLevel.HIGH, RiskLevel.CRITICAL]
            for lower, higher in pairwise(ascending):
                if self.levels[lower].max_residual_score > self.levels[higher].max_residual_score:
                    message = f"allows a higher score than {higher}"
                    errors.append({"field": f"/levels/{lower}/max_residual_score", "message": message})
                if self.levels[lower].max_days < self.levels[higher].max_days:
                    errors.append({"field": f"/levels/{higher}/max_days", "message": f"is longer than for {lower}"})
        if errors:
            raise Invalid(f"{errors[0]['field']}: {errors[0]['message']}", errors=errors)

    def ceiling(self, classification: DataClassification, environment: DeploymentEnvironment) -> float:
        return self.ceilings[classification][environment]

    def rule_for(self, level: RiskLevel | None) -> LevelRule:
        """The rule for a level; an asset that nobody assessed yet is treated like the worst."""
        return self.levels[level or RiskLevel.CRITICAL]


def _missing(field: str) -> dict[str, str]:
    return {"field": field, "message": "is missing"}
