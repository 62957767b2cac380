"""Events and snapshots for the tests, with only what a test is about spelled out."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from services.metrics.domain.ledger import MINUTES_A_DAY, MINUTES_AN_HOUR, ORGANISATION, Posting, Totals
from shared.contracts.detection import (
    AlertDisposed,
    AlertEvent,
    AlertRaised,
    AlertSnapshot,
    Decision,
    Direction,
    Disposition,
    FindingKind,
    Severity,
    Verdict,
)
from shared.contracts.envelope import Event
from shared.contracts.governance import (
    AcceptanceGranted,
    AcceptanceRevoked,
    AcceptanceSnapshot,
    AppetiteChanged,
    ControlDeployed,
    ControlDeploymentSnapshot,
    ControlEvent,
    ControlRemoved,
    ControlType,
    ControlUpdated,
    DecisionRecorded,
    EngagementChanged,
    EngagementSnapshot,
    FindingChanged,
    FindingSnapshot,
    PolicyApproved,
    ReviewChanged,
    ReviewSnapshot,
)
from shared.contracts.incidents import (
    IncidentCategory,
    IncidentContained,
    IncidentEvent,
    IncidentOpened,
    IncidentResolved,
    IncidentSeverity,
    IncidentSnapshot,
    IncidentStatus,
    Phase,
    StepCompleted,
    StepOverdue,
)
from shared.contracts.inventory import (
    AssetEvent,
    AssetRegistered,
    AssetRetired,
    AssetSnapshot,
    AssetType,
    AssetUpdated,
)
from shared.contracts.risk import AssessmentCompleted, RiskLevel

# A Wednesday noon; every test tells time from here.
NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
_NAMESPACE = UUID("4a3f6f0e-58a5-4f33-9a65-0a4a2f6b9c01")


def an_id(name: str) -> UUID:
    return uuid5(_NAMESPACE, name)


def an_asset(name: str = "assistant", **fields: Any) -> AssetSnapshot:
    """A reviewed, owned, internal asset without any compliance gap."""
    values: dict[str, Any] = {
        "asset_id": an_id(name),
        "version": 1,
        "name": name,
        "asset_type": AssetType.AI_AGENT,
        "owner_team": "search",
        "last_security_review": date(2026, 6, 1),
        "registered_date": NOON,
    }
    return AssetSnapshot(**values | fields)


def a_registration(name: str = "assistant", at: datetime = NOON, **fields: Any) -> AssetRegistered:
    return AssetRegistered(version=1, occurred_at=at, asset=an_asset(name, **fields))


def an_update(name: str = "assistant", *, version: int = 2, at: datetime = NOON, **fields: Any) -> AssetUpdated:
    return AssetUpdated(version=version, occurred_at=at, asset=an_asset(name, version=version, **fields))


def a_retirement(name: str = "assistant", *, version: int = 2, at: datetime = NOON, **fields: Any) -> AssetEvent:
    snapshot = an_asset(name, version=version, lifecycle="retired", **fields)
    return AssetRetired(version=version, occurred_at=at, asset=snapshot, reason="replaced", actor="ada")


def level_of(score: float) -> RiskLevel:
    for floor, level in ((75, RiskLevel.CRITICAL), (50, RiskLevel.HIGH), (25, RiskLevel.MEDIUM)):
        if score >= floor:
            return level
    return RiskLevel.LOW


def an_assessment(
    name: str = "assistant", score: float = 53.44, *, version: int = 1, at: datetime = NOON
) -> AssessmentCompleted:
    return AssessmentCompleted(
        version=version,
        occurred_at=at,
        assessment_id=an_id(f"{name}/{version}"),
        asset_id=an_id(name),
        asset_version=1,
        owner_team="search",
        inherent_risk_score=71.25,
        control_effectiveness=0.25,
        base_residual_risk_score=score,
        residual_risk_score=score,
        risk_level=level_of(score),
        model_version=1,
        trigger="asset.registered",
        assessed_at=at,
    )


def a_deployment(
    asset: str = "assistant",
    control: str = "monitoring",
    *,
    version: int = 1,
    operational: bool = True,
    at: datetime = NOON,
    removed: bool = False,
    scored: bool = True,
    status: str = "",
) -> ControlEvent:
    snapshot = ControlDeploymentSnapshot(
        deployment_id=an_id(f"{asset}/{control}"),
        version=version,
        asset_id=an_id(asset),
        owner_team="search",
        control_id=f"CTL-{control}",
        control_type=ControlType(control) if scored else None,
        status=status or ("operational" if operational else "implemented"),
        operational=operational,
    )
    kind = ControlRemoved if removed else ControlDeployed if version == 1 else ControlUpdated
    return kind(version=version, occurred_at=at, deployment=snapshot)


def an_incident_snapshot(name: str = "leak", **fields: Any) -> IncidentSnapshot:
    values: dict[str, Any] = {
        "incident_id": an_id(name),
        "version": 1,
        "category": IncidentCategory.PII_LEAKAGE_IN_OUTPUT,
        "severity": IncidentSeverity.SEV2,
        "title": name,
        "status": IncidentStatus.OPEN,
        "current_phase": Phase.DETECTION,
        "owner_team": "search",
        "detected_by": "detection",
        "occurred_at": NOON - timedelta(hours=2),
        "detected_at": NOON,
        "opened_at": NOON,
    }
    return IncidentSnapshot(**values | fields)


def an_opening(name: str = "leak", at: datetime = NOON, **fields: Any) -> IncidentEvent:
    return IncidentOpened(version=1, occurred_at=at, incident=an_incident_snapshot(name, **fields))


def a_containment(name: str = "leak", *, at: datetime, version: int = 2, **fields: Any) -> IncidentEvent:
    snapshot = an_incident_snapshot(name, version=version, status="contained", contained_at=at, **fields)
    return IncidentContained(version=version, occurred_at=at, incident=snapshot)


def a_resolution(
    name: str = "leak", *, contained_at: datetime, at: datetime, version: int = 3, **fields: Any
) -> IncidentEvent:
    snapshot = an_incident_snapshot(
        name, version=version, status="resolved", contained_at=contained_at, resolved_at=at, **fields
    )
    return IncidentResolved(version=version, occurred_at=at, incident=snapshot)


def a_late_step(name: str = "leak", number: int = 1, *, at: datetime, version: int = 2) -> StepOverdue:
    return StepOverdue(
        version=version,
        occurred_at=at,
        incident_id=an_id(name),
        owner_team="search",
        step_number=number,
        phase=Phase.DETECTION,
        status="overdue",
        automated=False,
    )


def a_done_step(name: str = "leak", number: int = 1, *, at: datetime, version: int = 3) -> StepCompleted:
    return StepCompleted(
        version=version,
        occurred_at=at,
        incident_id=an_id(name),
        owner_team="search",
        step_number=number,
        phase=Phase.DETECTION,
        status="completed",
        automated=False,
    )


def _acceptance(name: str, version: int, kind: str, expires_at: datetime) -> AcceptanceSnapshot:
    return AcceptanceSnapshot(
        acceptance_id=an_id(name),
        version=version,
        kind=kind,
        owner_team="search",
        status="granted",
        requested_by="ada",
        expires_at=expires_at,
    )


def a_grant(
    name: str = "acceptance", *, at: datetime = NOON, expires_at: datetime, kind: str = "risk", version: int = 2
) -> AcceptanceGranted:
    return AcceptanceGranted(version=version, occurred_at=at, acceptance=_acceptance(name, version, kind, expires_at))


def a_revocation(
    name: str = "acceptance", *, at: datetime, expires_at: datetime, version: int = 3
) -> AcceptanceRevoked:
    return AcceptanceRevoked(version=version, occurred_at=at, acceptance=_acceptance(name, version, "risk", expires_at))


def an_engagement(
    name: str = "spring", *, status: str = "in_progress", at: datetime = NOON, version: int = 1, **days: Any
) -> EngagementChanged:
    snapshot = EngagementSnapshot(
        engagement_id=an_id(name), version=version, title=name, status=status, owner_team="search", **days
    )
    return EngagementChanged(version=version, occurred_at=at, engagement=snapshot)


def a_finding(
    name: str = "weakness",
    *,
    status: str = "open",
    at: datetime = NOON,
    version: int = 1,
    due_on: date | None = None,
) -> FindingChanged:
    snapshot = FindingSnapshot(
        finding_id=an_id(name),
        version=version,
        engagement_id=an_id("spring"),
        owner_team="search",
        title=name,
        severity="high",
        status=status,
        due_on=due_on,
        found_at=at,
    )
    return FindingChanged(version=version, occurred_at=at, finding=snapshot)


def a_review(
    name: str = "yearly review", *, due_on: date, status: str = "due", at: datetime = NOON, version: int = 1
) -> ReviewChanged:
    snapshot = ReviewSnapshot(
        review_id=an_id(name),
        version=version,
        kind="asset_security",
        target=name,
        owner_team="search",
        status=status,
        due_on=due_on,
    )
    return ReviewChanged(version=version, occurred_at=at, review=snapshot)


def a_policy(name: str = "acceptable_use", *, at: datetime = NOON, version: int = 1) -> PolicyApproved:
    return PolicyApproved(
        version=version, occurred_at=at, policy_id=name, policy_version=version, title=name, approved_by="ada"
    )


def an_appetite(at: datetime = NOON) -> AppetiteChanged:
    return AppetiteChanged(version=1, occurred_at=at, changed_by="ada")


def a_decision(name: str = "budget", at: datetime = NOON) -> DecisionRecorded:
    return DecisionRecorded(version=1, occurred_at=at, decision_id=an_id(name), title=name, outcome="approved")


def an_alert(
    name: str = "alert", *, version: int = 1, at: datetime = NOON, disposition: str | None = None
) -> AlertEvent:
    snapshot = AlertSnapshot(
        alert_id=an_id(name),
        version=version,
        title=name,
        kind=FindingKind.INJECTION,
        category="prompt_injection_exploitation",
        severity=Severity.HIGH,
        verdict=Verdict.BLOCK,
        decision=Decision.ALLOW,
        score=0.9,
        rule_id="rule",
        rule_version=1,
        owner_team="search",
        direction=Direction.INPUT,
        inspection_id=an_id(f"{name}/inspection"),
        first_seen=at,
        last_seen=at,
        disposition=None if disposition is None else Disposition(disposition),
    )
    if disposition is None:
        return AlertRaised(version=version, occurred_at=at, alert=snapshot)
    return AlertDisposed(version=version, occurred_at=at, alert=snapshot, actor="ada")


def an_estate() -> list[Event]:
    """A program that has seen most of what can happen, in the order it happened."""
    late = NOON + 3 * HOUR
    return [
        a_policy("acceptable_use"),
        a_policy("red_teaming"),
        an_appetite(),
        a_decision(),
        a_registration("agent", last_security_review=date(2026, 6, 1)),
        a_registration("model", asset_type="foundation_model", last_security_review=date(2026, 1, 1)),
        a_registration("store", asset_type="vector_database", owner_team="data", last_security_review=None),
        a_registration("prompt", asset_type="prompt_template", owner_team=""),
        a_registration("gone", owner_team="data"),
        an_assessment("agent", 80.0),
        an_assessment("model", 60.5),
        an_assessment("store", 20.25),
        an_assessment("gone", 90.0),
        a_retirement("gone", owner_team="data", at=NOON + HOUR),
        an_update("agent", at=NOON + HOUR, network_exposure="public", data_classification="restricted"),
        an_assessment("agent", 85.75, version=2, at=NOON + HOUR),
        a_deployment("agent", "monitoring"),
        a_deployment("agent", "guardrails", operational=False),
        a_deployment("store", "encryption_at_rest"),
        a_deployment("store", "encryption_at_rest", version=2, removed=True, at=NOON + HOUR),
        an_alert("alert"),
        an_alert("alert", version=2, disposition="true_positive"),
        an_opening("leak", occurred_at=NOON - HOUR),
        an_opening("probe", category="jailbreak_bypass", owner_team="data", occurred_at=NOON - 3 * HOUR),
        a_containment("leak", at=NOON + 2 * HOUR, occurred_at=NOON - HOUR),
        a_late_step("leak", 1, at=NOON + 2 * HOUR),
        a_late_step("leak", 2, at=NOON + 2 * HOUR),
        a_done_step("leak", 1, at=late),
        a_late_step("probe", 1, at=NOON + 2 * HOUR),
        a_resolution(
            "probe",
            contained_at=NOON + HOUR,
            at=late,
            version=4,
            category="jailbreak_bypass",
            owner_team="data",
            occurred_at=NOON - 3 * HOUR,
        ),
        a_grant("accepted", expires_at=NOON + 30 * DAY),
        a_grant("revoked", expires_at=NOON + 30 * DAY),
        a_revocation("revoked", at=late, expires_at=NOON + 30 * DAY),
        a_grant("deviation", kind="exception", expires_at=NOON + 30 * DAY),
        an_engagement("spring", started_on=date(2026, 4, 1)),
        an_engagement("old", status="completed", started_on=date(2025, 4, 1)),
        an_engagement("planned", status="planned", planned_for=date(2026, 9, 1)),
        a_finding("one", due_on=date(2026, 6, 30)),
        a_finding("two"),
        a_finding("two", status="remediated", version=2, at=late),
        a_review("due", due_on=date(2026, 6, 30)),
        a_review("done", due_on=date(2026, 6, 30), status="completed"),
    ]


def total_at(posting: Posting, minute: int, scope: str = ORGANISATION) -> Totals:
    """What the ledger's rows add up to at the end of `minute`: whole days, then hours, then minutes."""
    hour, day = minute - minute % MINUTES_AN_HOUR, minute - minute % MINUTES_A_DAY
    counted = {1: range(hour, minute + 1), MINUTES_AN_HOUR: range(day, hour), MINUTES_A_DAY: range(day)}
    totals = Totals.zero()
    for key, span, start, change in posting.rows():
        if key == scope and start in counted[span]:
            totals = totals.plus(change)
    return totals
