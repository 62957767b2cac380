"""Things that tests begin with, each complete and with what a test cares about as arguments."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx

from services.governance.domain.acceptances import Acceptance, AcceptanceKind, AcceptanceStatus
from services.governance.domain.appetite import Severity
from services.governance.domain.controls import ControlFunction, Deployment, DeploymentStatus, Evidence
from services.governance.domain.policies import PolicyStatus, PolicyText, PolicyVersion
from services.governance.domain.redteam import Finding, FindingStatus
from services.governance.shipped import library
from shared.contracts.governance import ControlType
from shared.contracts.inventory import (
    AssetEvent,
    AssetRegistered,
    AssetSnapshot,
    AssetType,
    DataClassification,
    DeploymentEnvironment,
)
from shared.contracts.risk import AssessmentCompleted, RiskLevel
from shared.testing import Harness

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
TODAY = NOON.date()


def a_snapshot(asset_id: UUID | None = None, version: int = 1, **fields: Any) -> AssetSnapshot:
    values: dict[str, Any] = {
        "name": "support agent",
        "asset_type": AssetType.AI_AGENT,
        "owner_team": "support",
        "data_classification": DataClassification.RESTRICTED,
        "deployment_env": DeploymentEnvironment.PRODUCTION,
        "registered_date": datetime.now(UTC),
    }
    return AssetSnapshot(asset_id=asset_id or uuid4(), version=version, **(values | fields))


def announced(kind: type[AssetEvent], snapshot: AssetSnapshot, **fields: Any) -> AssetEvent:
    return kind(version=snapshot.version, occurred_at=datetime.now(UTC), asset=snapshot, **fields)


def assessed(asset_id: UUID, score: float, version: int = 1) -> AssessmentCompleted:
    level = RiskLevel.LOW
    for threshold, name in ((25, RiskLevel.MEDIUM), (50, RiskLevel.HIGH), (75, RiskLevel.CRITICAL)):
        level = name if score >= threshold else level
    return AssessmentCompleted(
        version=version,
        occurred_at=datetime.now(UTC),
        assessment_id=uuid4(),
        asset_id=asset_id,
        asset_version=1,
        inherent_risk_score=score,
        control_effectiveness=0.0,
        base_residual_risk_score=score,
        residual_risk_score=score,
        risk_level=level,
        model_version=1,
        trigger="asset.registered",
        assessed_at=datetime.now(UTC),
    )


async def an_asset(governance: Harness, *, score: float | None = None, **fields: Any) -> UUID:
    """An asset that inventory announced, and risk assessed where a score is given."""
    snapshot = a_snapshot(**fields)
    await governance.deliver(announced(AssetRegistered, snapshot))
    if score is not None:
        await governance.deliver(assessed(snapshot.asset_id, score))
    return snapshot.asset_id


def in_days(days: float) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


def day(days: int = 0) -> str:
    return (datetime.now(UTC).date() + timedelta(days=days)).isoformat()


async def made(answer: httpx.Response, status: int = 201) -> dict[str, Any]:
    """What was made or changed; fails with the problem otherwise."""
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    return body


def a_deployment(**fields: Any) -> Deployment:
    values: dict[str, Any] = {
        "deployment_id": uuid4(),
        "version": 1,
        "asset_id": uuid4(),
        "control_id": "CLN-INP-01",
        "control_type": ControlType.INPUT_FILTERING,
        "function": ControlFunction.PREVENTIVE,
        "status": DeploymentStatus.PLANNED,
        "owner": "ml_engineer",
        "notes": "",
        "evidence_days": 90,
        "evidence_valid_until": None,
        "evidence_due_on": None,
        "created_by": "alice",
        "created_at": NOON,
        "updated_at": NOON,
    }
    return Deployment(**(values | fields))


def an_evidence(valid_until: date = TODAY + timedelta(days=30)) -> Evidence:
    return Evidence(uuid4(), "regression set passed", "", None, TODAY, valid_until, "alice", NOON)


def an_acceptance(**fields: Any) -> Acceptance:
    values: dict[str, Any] = {
        "acceptance_id": uuid4(),
        "version": 1,
        "kind": AcceptanceKind.RISK,
        "status": AcceptanceStatus.REQUESTED,
        "asset_id": uuid4(),
        "policy_id": None,
        "statement_id": None,
        "control_id": None,
        "justification": "the vendor fixes it in January",
        "compensating_measures": (),
        "expires_at": NOON + timedelta(days=60),
        "requested_by": "alice",
        "requested_at": NOON,
        "requested_score": 53.44,
        "requested_level": RiskLevel.HIGH,
    }
    return Acceptance(**(values | fields))


def a_policy_version(**fields: Any) -> PolicyVersion:
    shipped = library().policies["acceptable-use"]
    values: dict[str, Any] = {
        "policy_id": "acceptable-use",
        "number": 1,
        "version": 1,
        "status": PolicyStatus.DRAFT,
        "text": PolicyText.model_validate(shipped.model_dump(exclude={"id"})),
        "authors": ("alice",),
        "change_note": "",
        "created_at": NOON,
        "updated_at": NOON,
    }
    return PolicyVersion(**(values | fields))


def a_finding(**fields: Any) -> Finding:
    values: dict[str, Any] = {
        "finding_id": uuid4(),
        "version": 1,
        "engagement_id": uuid4(),
        "asset_id": uuid4(),
        "owner_team": "support",
        "title": "tool results are obeyed",
        "description": "",
        "severity": Severity.HIGH,
        "status": FindingStatus.OPEN,
        "owasp": (),
        "atlas": (),
        "due_on": TODAY + timedelta(days=30),
        "owner": "",
        "remediation": "results are inspected",
        "acceptance_id": None,
        "found_by": "mallory",
        "found_at": NOON,
        "updated_at": NOON,
        "remediated_at": None,
    }
    return Finding(**(values | fields))


def a_control(**fields: Any) -> dict[str, Any]:
    """A control of our own as a request body."""
    values: dict[str, Any] = {
        "control_id": "OWN-INP-01",
        "title": "Screen uploads",
        "objective": "Keep instructions in uploads from the model.",
        "function": "preventive",
        "control_type": "input_filtering",
        "applies_to": ["ai_agent", "api_endpoint"],
        "owner_role": "ml_engineer",
        "evidence_valid_days": 60,
        "implementation": {
            "steps": ["Inspect each upload."],
            "verification": [{"test": "Upload a marked file.", "expected": "It is refused."}],
            "evidence": ["Result of the test"],
        },
        "mappings": {"owasp_llm_2026": ["LLM01:2026"], "atlas": ["AML.T0051.001"]},
    }
    return values | fields
