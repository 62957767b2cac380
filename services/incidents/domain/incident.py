"""What an incident is made of: its steps, its state, what happened to it, and what can be refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from services.incidents.domain.evidence import GENESIS
from services.incidents.domain.playbooks import ActionName
from shared.contracts.detection import Severity
from shared.contracts.incidents import (
    IncidentCategory,
    IncidentSeverity,
    IncidentSnapshot,
    IncidentStatus,
    Phase,
)
from shared.errors import Conflict, Forbidden, Invalid, NotFound

PATH: tuple[IncidentStatus, ...] = tuple(IncidentStatus)
ENDED: frozenset[IncidentStatus] = frozenset({IncidentStatus.RESOLVED, IncidentStatus.CLOSED})


class UnknownIncident(NotFound):
    """There is no such incident."""


class UnknownStep(NotFound):
    """The incident has no step of that number."""


class StepsRemain(Conflict):
    """Steps before that status are neither completed nor skipped."""


class IncidentClosedAlready(Conflict):
    """The incident is closed; reopen it to work on it."""


class NotReopened(Conflict):
    """Going back needs a reason."""


class ResolutionRefused(Conflict):
    """That resolution does not fit the status."""


class StepRefused(Conflict):
    """The step's status forbids that."""


class OutOfOrder(Conflict):
    """An earlier phase is not finished."""


class ReasonMissing(Invalid):
    """This needs a reason."""


class SelfApproval(Forbidden):
    """Nobody approves what they asked for themselves."""


class AlreadyOpen(Conflict):
    """An incident is open for the same category, asset and session or actor."""


class StepStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    AWAITING_APPROVAL = "awaiting_approval"
    COMPLETED = "completed"
    SKIPPED = "skipped"
    FAILED = "failed"


SETTLED: frozenset[StepStatus] = frozenset({StepStatus.COMPLETED, StepStatus.SKIPPED})


class Resolution(StrEnum):
    """How an incident ended."""

    RESOLVED = "resolved"
    FALSE_POSITIVE = "false_positive"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class Step:
    """A playbook step within an incident.

    `run` counts how often it was set in motion, so that a repeated automated step gets a new idempotency key.
    `due_at` is null until the step can be worked. `outcome` says in words how it ended.
    """

    number: int
    phase: Phase
    action: str
    responsible_role: str
    automated: bool
    automation_script: ActionName | None
    requires_approval: bool
    timeout_minutes: int
    escalation_trigger: str | None
    escalate_to_severity: IncidentSeverity | None
    escalate_to_role: str | None
    status: StepStatus = StepStatus.PENDING
    run: int = 1
    due_at: datetime | None = None
    started_at: datetime | None = None
    settled_at: datetime | None = None
    settled_by: str | None = None
    overdue_at: datetime | None = None
    requested_by: str | None = None
    approved_by: str | None = None
    outcome: str = ""

    @property
    def settled(self) -> bool:
        return self.status in SETTLED


@dataclass(frozen=True, slots=True)
class Incident:
    """An incident as it stands. `steps` are in order of their numbers, which count from 1.

    `reports` are pairs of a session and the subject in whose requests, as alerts told, it was named.
    """

    id: UUID
    version: int
    category: IncidentCategory
    severity: IncidentSeverity
    title: str
    description: str
    status: IncidentStatus
    current_phase: Phase
    affected_assets: tuple[UUID, ...]
    owner_team: str
    owner_teams: tuple[str, ...]
    session_id: str | None
    actor: str | None
    sessions: tuple[str, ...]
    detected_by: str
    opened_by: str
    assigned_to: str | None
    playbook_version: int
    playbook_author: str
    alert_ids: tuple[UUID, ...]
    alert_count: int
    occurrence_count: int
    alert_severity: Severity | None
    occurred_at: datetime
    detected_at: datetime
    opened_at: datetime
    last_alert_at: datetime | None
    updated_at: datetime
    contained_at: datetime | None = None
    resolved_at: datetime | None = None
    closed_at: datetime | None = None
    resolution: Resolution | None = None
    reopened_count: int = 0
    evidence_count: int = 0
    evidence_head: str = GENESIS
    reports: tuple[tuple[str, str], ...] = ()
    steps: tuple[Step, ...] = ()

    @property
    def reach(self) -> tuple[str | None, ...]:
        """Whose traffic blocks of its sessions and actors hold for: that of each of its teams.

        These names are the sender's words and count within the sender's own team. Without a team that is the traffic
        which belongs to none ("") if an alert brought them, and everybody's (None) if somebody did who speaks for the
        whole organisation, for nobody else opens an incident without a team.
        """
        return self.owner_teams or ((None,) if self.alert_count == 0 else ("",))

    def reporters(self, session_id: str | None) -> tuple[str, ...]:
        """The subjects in whose requests the session was named."""
        return tuple(subject for session, subject in self.reports if session == session_id)

    def step(self, number: int) -> Step:
        """Raises: UnknownStep."""
        if not 1 <= number <= len(self.steps):
            raise UnknownStep(f"this incident has steps 1 to {len(self.steps)}")
        return self.steps[number - 1]

    def snapshot(self) -> IncidentSnapshot:
        """The incident as the rest of the program is told of it."""
        return IncidentSnapshot(
            incident_id=self.id,
            version=self.version,
            category=self.category,
            severity=self.severity,
            title=self.title,
            status=self.status,
            current_phase=self.current_phase,
            affected_assets=self.affected_assets,
            owner_team=self.owner_team,
            session_id=self.session_id,
            actor=self.actor,
            detected_by=self.detected_by,
            assigned_to=self.assigned_to,
            alert_ids=self.alert_ids,
            alert_count=self.alert_count,
            occurred_at=self.occurred_at,
            detected_at=self.detected_at,
            opened_at=self.opened_at,
            contained_at=self.contained_at,
            resolved_at=self.resolved_at,
            closed_at=self.closed_at,
            steps_total=len(self.steps),
            steps_done=sum(step.settled for step in self.steps),
            steps_overdue=sum(step.overdue_at is not None and not step.settled for step in self.steps),
        )


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened, as the timeline tells it. `step` is the number of the step it concerns."""

    kind: str
    summary: str
    step: int | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """The incident after a change, with one version more, and what happened.

    `starting` are the numbers of automated steps to set in motion now. Nothing changed when nothing happened.
    """

    incident: Incident
    happenings: tuple[Happening, ...]
    starting: tuple[int, ...]

    def happened(self, kind: str) -> bool:
        return any(happening.kind == kind for happening in self.happenings)

    def then(self, later: Change) -> Change:
        """Both changes as one, made in one transaction: one version for both."""
        if not later.happenings:
            return self
        if not self.happenings:
            return later
        return Change(
            replace(later.incident, version=self.incident.version),
            self.happenings + later.happenings,
            self.starting + later.starting,
        )
