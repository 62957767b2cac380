"""Events of other services, with what a test does not care about filled in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from shared.contracts.detection import AlertDisposed, AlertRaised, AlertSnapshot
from shared.contracts.governance import (
    AcceptanceGranted,
    AcceptanceSnapshot,
    ControlDeployed,
    ControlDeploymentSnapshot,
)
from shared.contracts.incidents import IncidentOpened, IncidentReopened, IncidentSnapshot
from shared.contracts.inventory import AssetRegistered, AssetRetired, AssetSnapshot

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)

GOLDEN: dict[str, Any] = {
    "asset_type": "ai_agent",
    "data_classification": "restricted",
    "deployment_env": "production",
    "network_exposure": "public",
    "model_provider": "openai",
    "regulatory_scope": ["gdpr"],
}
"""Inherent 71.25, HIGH."""


def an_asset(asset_id: UUID | None = None, **changes: Any) -> AssetSnapshot:
    values = {"asset_id": asset_id or uuid4(), "version": 1, "name": "support agent", "registered_date": NOW}
    return AssetSnapshot.model_validate(values | {"owner_team": "support"} | GOLDEN | changes)


def registered(asset_id: UUID | None = None, *, at: datetime = NOW, **changes: Any) -> AssetRegistered:
    asset = an_asset(asset_id, **changes)
    return AssetRegistered(version=asset.version, occurred_at=at, asset=asset)


def now_is(kind: type[Any], asset_id: UUID, *, version: int, at: datetime = NOW, **changes: Any) -> Any:
    """An event of `kind` about an asset that exists."""
    own: dict[str, Any] = {
        "AssetReviewed": {"reviewer": "rita", "outcome": "passed"},
        "AssetQuarantined": {"reason": "attack", "actor": "rita"},
        "AssetReleased": {"reason": "clean", "actor": "rita"},
        "AssetRetired": {"reason": "replaced", "actor": "rita"},
    }.get(kind.__name__, {})
    asset = an_asset(asset_id, version=version, **changes)
    return kind(version=version, occurred_at=at, asset=asset, **own)


def retired(asset_id: UUID, *, version: int = 2, **changes: Any) -> AssetRetired:
    event: AssetRetired = now_is(AssetRetired, asset_id, version=version, lifecycle="retired", **changes)
    return event


def control(asset_id: UUID, control_type: str | None, *, at: datetime = NOW, **changes: Any) -> ControlDeployed:
    values = {"deployment_id": uuid4(), "version": 1, "asset_id": asset_id, "control_id": "C-1", "status": "deployed"}
    deployment = ControlDeploymentSnapshot.model_validate(
        values | {"control_type": control_type, "operational": True} | changes
    )
    return ControlDeployed(version=deployment.version, occurred_at=at, deployment=deployment)


def acceptance(asset_id: UUID | None, *, at: datetime = NOW, **changes: Any) -> AcceptanceGranted:
    values: dict[str, Any] = {
        "acceptance_id": uuid4(),
        "version": 1,
        "kind": "risk",
        "asset_id": asset_id,
        "status": "granted",
        "requested_by": "erin",
        "expires_at": at + timedelta(days=30),
    }
    accepted = AcceptanceSnapshot.model_validate(values | changes)
    return AcceptanceGranted(version=accepted.version, occurred_at=at, acceptance=accepted)


def alert(asset_id: UUID | None, severity: str = "critical", *, at: datetime = NOW, **changes: Any) -> AlertRaised:
    values: dict[str, Any] = {
        "alert_id": uuid4(),
        "version": 1,
        "title": "Instructions override the system prompt",
        "kind": "injection",
        "category": "prompt_injection_exploitation",
        "severity": severity,
        "verdict": "block",
        "decision": "block",
        "score": 0.97,
        "rule_id": "PI-001",
        "rule_version": 1,
        "asset_id": asset_id,
        "direction": "input",
        "inspection_id": uuid4(),
        "first_seen": at,
        "last_seen": at,
    }
    raised = AlertSnapshot.model_validate(values | changes)
    return AlertRaised(version=raised.version, occurred_at=at, alert=raised)


def incident(*asset_ids: UUID, severity: str = "sev1", at: datetime = NOW, **changes: Any) -> IncidentOpened:
    values: dict[str, Any] = {
        "incident_id": uuid4(),
        "version": 1,
        "category": "prompt_injection_exploitation",
        "severity": severity,
        "title": "Injection against the support agent",
        "status": "open",
        "current_phase": "detection",
        "affected_assets": list(asset_ids),
        "detected_by": "rule PI-001",
        "occurred_at": at,
        "detected_at": at,
        "opened_at": at,
    }
    opened = IncidentSnapshot.model_validate(values | changes)
    return IncidentOpened(version=opened.version, occurred_at=at, incident=opened)


def then(event: Any, kind: type[Any], *, at: datetime = NOW, **changes: Any) -> Any:
    """What an event is about, changed: the next version of it as an event of `kind`."""
    about = next(name for name in ("asset", "alert", "incident", "deployment", "acceptance") if hasattr(event, name))
    before = getattr(event, about)
    values = before.model_dump() | {"version": before.version + 1} | changes
    own = {"actor": "rita"} if kind is AlertDisposed else {"reason": "again"} if kind is IncidentReopened else {}
    return kind(version=values["version"], occurred_at=at, **{about: type(before).model_validate(values)}, **own)
