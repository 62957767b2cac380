"""The specification's risk assessment (its Phase 2), in exact decimals.

inherent = sum of score x weight over six dimensions; residual = inherent x (1 - control effectiveness). Every number
that is shown is rounded to two places, half to even, which is what Python's round() does to the specification's
floats; the level is judged before rounding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

from services.risk.domain.model import DIMENSIONS, HUNDRED, ONE, ZERO, ScoringModel, Thresholds
from shared.contracts.inventory import RegulatoryScope
from shared.contracts.risk import RiskLevel

CENT = Decimal("0.01")
UNLISTED = Decimal(50)
"""The specification's score for a classification or type that its tables do not list."""


def rounded(value: Decimal) -> Decimal:
    """Two decimal places, half to even."""
    return value.quantize(CENT, rounding=ROUND_HALF_EVEN)


@dataclass(frozen=True, slots=True)
class Subject:
    """What of an asset the formula looks at; the names are the inventory's."""

    asset_type: str
    data_classification: str
    deployment_env: str
    network_exposure: str
    regulatory_scope: tuple[str, ...] = ()
    model_provider: str | None = None
    is_self_hosted: bool = False
    last_security_review: date | None = None
    sbom_available: bool = False
    license_type: str | None = None
    source_url: str | None = None

    def review_is_stale(self, model: ScoringModel, on: date) -> bool:
        """A review exists and is older than the model allows."""
        reviewed = self.last_security_review
        return reviewed is not None and (on - reviewed).days > model.tables.model_provenance.stale_after_days

    def stale_from(self, model: ScoringModel, after: date) -> date | None:
        """The day after `after` on which the passing of time alone will change the score; None when no such day is."""
        if self.last_security_review is None or self.review_is_stale(model, after):
            return None
        return self.last_security_review + timedelta(days=model.tables.model_provenance.stale_after_days + 1)


@dataclass(frozen=True, slots=True)
class Factor:
    """One dimension of a score, with its reasons in words. `contribution` = score x weight, in points."""

    dimension: str
    score: Decimal
    weight: Decimal
    details: str

    @property
    def contribution(self) -> Decimal:
        return self.score * self.weight


@dataclass(frozen=True, slots=True)
class Formula:
    """The specification's result, not yet rounded, with its factors in the order of DIMENSIONS."""

    factors: tuple[Factor, ...]
    recommendations: tuple[str, ...]
    inherent: Decimal
    effectiveness: Decimal
    residual: Decimal


@dataclass(frozen=True, slots=True)
class Control:
    """A control on an asset; only an operational one of a type that the model knows counts."""

    type: str
    operational: bool


def apply_formula(model: ScoringModel, subject: Subject, controls: Iterable[Control], *, on: date) -> Formula:
    """Score one asset as of a day (UTC), which decides whether its review is old."""
    scored = (
        _data_sensitivity(model, subject),
        _deployment_exposure(model, subject),
        _model_provenance(model, subject, on),
        _regulatory_impact(model, subject),
        _capability_risk(model, subject),
        _supply_chain(model, subject),
    )
    factors = tuple(
        Factor(dimension, score, model.weights[dimension], details)
        for dimension, (score, details) in zip(DIMENSIONS, scored, strict=True)
    )
    inherent = sum((factor.contribution for factor in factors), ZERO)
    effectiveness = control_effectiveness(model, controls)
    return Formula(
        factors=factors,
        recommendations=recommendations(model, factors),
        inherent=inherent,
        effectiveness=effectiveness,
        residual=inherent * (ONE - effectiveness),
    )


def control_effectiveness(model: ScoringModel, controls: Iterable[Control]) -> Decimal:
    """Share of the inherent risk that controls remove, 0 to 1. Each entry counts, as the specification has it: a
    caller that wants a type counted once names it once."""
    shares = model.tables.controls
    return min(ONE, sum((shares.get(control.type, ZERO) for control in controls if control.operational), ZERO))


def level_of(thresholds: Thresholds, score: Decimal) -> RiskLevel:
    """The level of a score that was not rounded."""
    if score >= thresholds.critical:
        return RiskLevel.CRITICAL
    if score >= thresholds.high:
        return RiskLevel.HIGH
    return RiskLevel.MEDIUM if score >= thresholds.medium else RiskLevel.LOW


_ADVICE = {
    "data_sensitivity": (
        "Put data loss prevention on what enters and leaves the model, and find and redact personal data before it "
        "reaches the model."
    ),
    "deployment_exposure": (
        "Take the asset off open networks: private endpoints inside a VPC, and in front of them an API gateway that "
        "authenticates callers and limits their rate."
    ),
    "model_provenance": (
        "Review the security of the model and of where it comes from; produce an AI SBOM and verify the model's "
        "checksums."
    ),
    "regulatory_impact": (
        "Trace each regulatory obligation to the technical control that meets it, and keep audit logs for as long as "
        "the law asks."
    ),
    "capability_risk": (
        "Give the model or agent the fewest capabilities that its task needs, and have a person approve actions of "
        "high impact."
    ),
    "supply_chain": (
        "Keep an AI software bill of materials current, and watch the model's dependencies and frameworks for "
        "vulnerabilities."
    ),
}


def recommendations(model: ScoringModel, factors: Iterable[Factor]) -> tuple[str, ...]:
    """Advice on the three factors that contribute most, largest first, for those whose score is high enough.

    Equal contributions keep the order of DIMENSIONS.
    """
    drivers = sorted(factors, key=lambda factor: factor.contribution, reverse=True)[:3]
    return tuple(
        _ADVICE[driver.dimension] for driver in drivers if driver.score > model.recommend_above[driver.dimension]
    )


def _data_sensitivity(model: ScoringModel, subject: Subject) -> tuple[Decimal, str]:
    score = model.tables.data_sensitivity.get(subject.data_classification, UNLISTED)
    return score, f"Reads data classified {subject.data_classification}."


def _deployment_exposure(model: ScoringModel, subject: Subject) -> tuple[Decimal, str]:
    table = model.tables.deployment_exposure
    network = table.network.get(subject.network_exposure, table.network_other)
    environment = table.environment.get(subject.deployment_env, table.environment_other)
    details = f"Network exposure {subject.network_exposure} ({plain(network)}) in {subject.deployment_env}"
    return min(HUNDRED, network * environment), f"{details} (x {plain(environment)})."


def _model_provenance(model: ScoringModel, subject: Subject, on: date) -> tuple[Decimal, str]:
    table = model.tables.model_provenance
    if subject.model_provider is not None and subject.model_provider in table.providers:
        score = table.providers[subject.model_provider]
        origin = f"Provider {subject.model_provider} ({plain(score)})"
    elif subject.is_self_hosted:
        score = table.self_hosted
        origin = f"Self-hosted ({plain(score)})"
    else:
        score = table.other
        origin = f"Provider {subject.model_provider or 'not named'}, not a listed one ({plain(score)})"
    if subject.last_security_review is None:
        score += table.never_reviewed
        review = f"never reviewed (+{plain(table.never_reviewed)})"
    elif subject.review_is_stale(model, on):
        score += table.stale_review
        review = (
            f"last review {subject.last_security_review} older than {table.stale_after_days} days "
            f"(+{plain(table.stale_review)})"
        )
    else:
        review = f"reviewed {subject.last_security_review}"
    return min(HUNDRED, score), f"{origin}, {review}."


def _regulatory_impact(model: ScoringModel, subject: Subject) -> tuple[Decimal, str]:
    table = model.tables.regulatory_impact
    applying = [scope for scope in subject.regulatory_scope if scope != RegulatoryScope.NONE]
    if not applying:
        return table.unregulated, "No regulation in scope."
    score = max(table.scopes.get(scope, UNLISTED) for scope in applying)
    return score, f"In scope of {', '.join(applying)}."


def _capability_risk(model: ScoringModel, subject: Subject) -> tuple[Decimal, str]:
    score = model.tables.capability_risk.get(subject.asset_type, UNLISTED)
    return score, f"Asset type {subject.asset_type}."


def _supply_chain(model: ScoringModel, subject: Subject) -> tuple[Decimal, str]:
    table = model.tables.supply_chain
    score = table.base
    reasons = []
    if subject.sbom_available:
        score -= table.sbom
        reasons.append(f"SBOM (-{plain(table.sbom)})")
    else:
        reasons.append("No SBOM")
    if subject.license_type and subject.license_type != "unknown":
        score -= table.known_license
        reasons.append(f"licence {subject.license_type} (-{plain(table.known_license)})")
    else:
        reasons.append("no known licence")
    # Anywhere in the address, as the specification has it: mirrors and proxies of a hub name it in their path.
    hub = next((hub for hub in table.hubs if hub in (subject.source_url or "")), None)
    if hub is not None:
        score += table.model_hub
        reasons.append(f"from {hub} (+{plain(table.model_hub)})")
    return max(ZERO, min(HUNDRED, score)), f"{', '.join(reasons)}."


def plain(value: Decimal) -> str:
    """The number as a person writes it: no exponent, no trailing zeros."""
    return f"{value.normalize():f}"
