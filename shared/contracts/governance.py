"""What governance publishes: controls in place, decisions about risk, red teaming, policies and reviews."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from shared.contracts.envelope import Contract, Event
from shared.contracts.inventory import DataClassification, DeploymentEnvironment


class ControlType(StrEnum):
    """The controls that the risk model counts."""

    INPUT_FILTERING = "input_filtering"
    OUTPUT_FILTERING = "output_filtering"
    RATE_LIMITING = "rate_limiting"
    AUTHENTICATION = "authentication"
    ENCRYPTION_AT_REST = "encryption_at_rest"
    ENCRYPTION_IN_TRANSIT = "encryption_in_transit"
    MONITORING = "monitoring"
    GUARDRAILS = "guardrails"
    ACCESS_LOGGING = "access_logging"
    NETWORK_ISOLATION = "network_isolation"


class ControlDeploymentSnapshot(Contract):
    """A control on an asset. Only `operational` ones count in scores; `control_type` is null for those never scored."""

    deployment_id: UUID
    version: int
    asset_id: UUID
    owner_team: str = ""
    control_id: str
    control_type: ControlType | None = None
    status: str
    operational: bool
    evidence_valid_until: date | None = None


class ControlEvent(Event):
    """Something happened to a control deployment."""

    SUBJECT: ClassVar[str] = "deployment.deployment_id"

    deployment: ControlDeploymentSnapshot


class ControlDeployed(ControlEvent):
    """A control was deployed on an asset. Exactly one per deployment_id."""

    TYPE: ClassVar[str] = "ev.governance.control.deployed.v1"


class ControlUpdated(ControlEvent):
    """Status, operation or evidence of a deployment changed."""

    TYPE: ClassVar[str] = "ev.governance.control.updated.v1"


class ControlRemoved(ControlEvent):
    """A deployment ended."""

    TYPE: ClassVar[str] = "ev.governance.control.removed.v1"


CONTROL_EVENTS: tuple[type[ControlEvent], ...] = (ControlDeployed, ControlUpdated, ControlRemoved)


class AcceptanceSnapshot(Contract):
    """A decision to live with a risk (`risk`) or with a deviation from policy (`exception`), until it expires."""

    acceptance_id: UUID
    version: int
    kind: str
    asset_id: UUID | None = None
    owner_team: str = ""
    status: str
    requested_by: str
    decided_by: str | None = None
    justification: str = ""
    expires_at: datetime


class AcceptanceEvent(Event):
    """Something happened to an acceptance."""

    SUBJECT: ClassVar[str] = "acceptance.acceptance_id"

    acceptance: AcceptanceSnapshot


class AcceptanceRequested(AcceptanceEvent):
    """Somebody asked to accept a risk."""

    TYPE: ClassVar[str] = "ev.governance.acceptance.requested.v1"


class AcceptanceGranted(AcceptanceEvent):
    """Somebody else, entitled to, accepted it."""

    TYPE: ClassVar[str] = "ev.governance.acceptance.granted.v1"


class AcceptanceRejected(AcceptanceEvent):
    """The request was refused."""

    TYPE: ClassVar[str] = "ev.governance.acceptance.rejected.v1"


class AcceptanceExpired(AcceptanceEvent):
    """Its time is over."""

    TYPE: ClassVar[str] = "ev.governance.acceptance.expired.v1"


class AcceptanceRevoked(AcceptanceEvent):
    """It was taken back before its time."""

    TYPE: ClassVar[str] = "ev.governance.acceptance.revoked.v1"


ACCEPTANCE_EVENTS: tuple[type[AcceptanceEvent], ...] = (
    AcceptanceRequested,
    AcceptanceGranted,
    AcceptanceRejected,
    AcceptanceExpired,
    AcceptanceRevoked,
)


class PolicyApproved(Event):
    """A policy version came into force."""

    TYPE: ClassVar[str] = "ev.governance.policy.approved.v1"
    SUBJECT: ClassVar[str] = "policy_id"

    policy_id: str
    policy_version: int
    title: str
    approved_by: str
    next_review: date | None = None


class RiskCeiling(Contract):
    """Highest residual risk score (0 to 100) that needs no acceptance, for assets of a class in an environment."""

    data_classification: DataClassification
    deployment_env: DeploymentEnvironment
    max_residual_score: float


class AppetiteChanged(Event):
    """The organisation's risk appetite changed; `ceilings` are those now in force, empty in events of old."""

    TYPE: ClassVar[str] = "ev.governance.appetite.changed.v1"
    SUBJECT: ClassVar[str] = "appetite"

    appetite: str = "organization"
    changed_by: str
    ceilings: tuple[RiskCeiling, ...] = ()


class DecisionRecorded(Event):
    """The oversight board decided something."""

    TYPE: ClassVar[str] = "ev.governance.decision.recorded.v1"
    SUBJECT: ClassVar[str] = "decision_id"

    decision_id: UUID
    title: str
    outcome: str


class EngagementSnapshot(Contract):
    """A red-team engagement; `started_on` and `completed_on` are null until then."""

    engagement_id: UUID
    version: int
    title: str
    status: str
    asset_ids: tuple[UUID, ...] = ()
    owner_team: str = ""
    planned_for: date | None = None
    started_on: date | None = None
    completed_on: date | None = None


class EngagementChanged(Event):
    """A red-team engagement was planned, started, completed or cancelled."""

    TYPE: ClassVar[str] = "ev.governance.engagement.changed.v1"
    SUBJECT: ClassVar[str] = "engagement.engagement_id"

    engagement: EngagementSnapshot


class FindingSnapshot(Contract):
    """A weakness that red teaming found. status: open, remediated, accepted or retest."""

    finding_id: UUID
    version: int
    engagement_id: UUID
    asset_id: UUID | None = None
    owner_team: str = ""
    title: str
    severity: str
    status: str
    due_on: date | None = None
    found_at: datetime
    remediated_at: datetime | None = None


class FindingChanged(Event):
    """A red-team finding was recorded or moved."""

    TYPE: ClassVar[str] = "ev.governance.finding.changed.v1"
    SUBJECT: ClassVar[str] = "finding.finding_id"

    finding: FindingSnapshot


class ReviewSnapshot(Contract):
    """A review that is owed: of an asset's security, a policy or evidence. status: due, completed or cancelled."""

    review_id: UUID
    version: int
    kind: str
    target: str
    asset_id: UUID | None = None
    owner_team: str = ""
    status: str
    due_on: date
    completed_at: datetime | None = None


class ReviewChanged(Event):
    """A review was scheduled, completed or cancelled. Overdue is due_on in the past while status is due."""

    TYPE: ClassVar[str] = "ev.governance.review.changed.v1"
    SUBJECT: ClassVar[str] = "review.review_id"

    review: ReviewSnapshot
