"""What incidents publishes: incidents, their steps and the automated actions taken."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from shared.contracts.envelope import Contract, Event


class IncidentSeverity(StrEnum):
    """sev1 is the gravest: active exploitation, breach or compromise; sev4 is informational."""

    SEV1 = "sev1"
    SEV2 = "sev2"
    SEV3 = "sev3"
    SEV4 = "sev4"


class IncidentCategory(StrEnum):
    PROMPT_INJECTION_EXPLOITATION = "prompt_injection_exploitation"
    DATA_EXFILTRATION_VIA_MODEL = "data_exfiltration_via_model"
    MODEL_SUPPLY_CHAIN_COMPROMISE = "model_supply_chain_compromise"
    AGENT_UNAUTHORIZED_ACTIONS = "agent_unauthorized_actions"
    TRAINING_DATA_POISONING = "training_data_poisoning"
    MODEL_DENIAL_OF_SERVICE = "model_denial_of_service"
    PII_LEAKAGE_IN_OUTPUT = "pii_leakage_in_output"
    JAILBREAK_BYPASS = "jailbreak_bypass"


class Phase(StrEnum):
    DETECTION = "detection"
    CONTAINMENT = "containment"
    ERADICATION = "eradication"
    RECOVERY = "recovery"
    LESSONS_LEARNED = "lessons_learned"


class IncidentStatus(StrEnum):
    OPEN = "open"
    INVESTIGATING = "investigating"
    CONTAINED = "contained"
    RESOLVED = "resolved"
    CLOSED = "closed"


class IncidentSnapshot(Contract):
    """An incident as it stands.

    `occurred_at` is the time of the first evidence, `detected_at` when the program knew: their distance is the time
    to detect. `contained_at` and `resolved_at` are null until then.
    """

    incident_id: UUID
    version: int
    category: IncidentCategory
    severity: IncidentSeverity
    title: str
    status: IncidentStatus
    current_phase: Phase
    affected_assets: tuple[UUID, ...] = ()
    owner_team: str = ""
    session_id: str | None = None
    actor: str | None = None
    detected_by: str
    assigned_to: str | None = None
    alert_ids: tuple[UUID, ...] = ()
    alert_count: int = 0
    occurred_at: datetime
    detected_at: datetime
    opened_at: datetime
    contained_at: datetime | None = None
    resolved_at: datetime | None = None
    closed_at: datetime | None = None
    steps_total: int = 0
    steps_done: int = 0
    steps_overdue: int = 0


class IncidentEvent(Event):
    """Something happened to an incident; the snapshot says how it stands now."""

    SUBJECT: ClassVar[str] = "incident.incident_id"

    incident: IncidentSnapshot


class IncidentOpened(IncidentEvent):
    """An incident was opened, by an alert or by a person. Exactly one per incident_id."""

    TYPE: ClassVar[str] = "ev.incidents.incident.opened.v1"


class IncidentUpdated(IncidentEvent):
    """Severity, status, phase, assignment or joined alerts changed; `changed` names the fields."""

    TYPE: ClassVar[str] = "ev.incidents.incident.updated.v1"

    changed: tuple[str, ...] = ()


class IncidentContained(IncidentEvent):
    """The incident does no further harm."""

    TYPE: ClassVar[str] = "ev.incidents.incident.contained.v1"


class IncidentResolved(IncidentEvent):
    """Cause removed, service restored."""

    TYPE: ClassVar[str] = "ev.incidents.incident.resolved.v1"


class IncidentClosed(IncidentEvent):
    """Nothing is left to do."""

    TYPE: ClassVar[str] = "ev.incidents.incident.closed.v1"


class IncidentReopened(IncidentEvent):
    """A contained, resolved or closed incident is being worked again, for a stated reason."""

    TYPE: ClassVar[str] = "ev.incidents.incident.reopened.v1"

    reason: str


INCIDENT_EVENTS: tuple[type[IncidentEvent], ...] = (
    IncidentOpened,
    IncidentUpdated,
    IncidentContained,
    IncidentResolved,
    IncidentClosed,
    IncidentReopened,
)


class StepEvent(Event):
    """A playbook step of an incident moved. `version` is the incident's."""

    SUBJECT: ClassVar[str] = "incident_id"

    incident_id: UUID
    owner_team: str = ""
    step_number: int
    phase: Phase
    status: str
    automated: bool
    action: str | None = None
    outcome: str = ""
    due_at: datetime | None = None


class StepCompleted(StepEvent):
    """A step was completed or skipped, by a person or by its automation."""

    TYPE: ClassVar[str] = "ev.incidents.step.completed.v1"


class StepOverdue(StepEvent):
    """A step passed its timeout and was escalated."""

    TYPE: ClassVar[str] = "ev.incidents.step.overdue.v1"
