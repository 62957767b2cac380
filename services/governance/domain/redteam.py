"""Red-team engagements and their findings.

An engagement: planned -> in_progress -> completed, or cancelled before it is completed.
A finding: open, in retest once a fix is claimed, remediated, or accepted by an acceptance in force; when that ends, the
finding is open again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from services.governance.domain.appetite import Severity
from services.governance.domain.documents import DoesNotFit
from shared.contracts.governance import EngagementChanged, EngagementSnapshot, FindingChanged, FindingSnapshot
from shared.errors import Conflict, NotFound


class EngagementNotFound(NotFound):
    """There is no such red-team engagement, or none that you may know of."""


class FindingNotFound(NotFound):
    """There is no such finding, or none that you may know of."""


class IllegalStep(Conflict):
    """It cannot go from this status to that one."""


class NotUnderWay(Conflict):
    """Findings are recorded in engagements that have started."""


class NotAccepted(Conflict):
    """A finding is accepted only by an acceptance in force for the same asset."""


class EngagementStatus(StrEnum):
    PLANNED = "planned"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


_ENGAGEMENT_STEPS: dict[EngagementStatus, frozenset[EngagementStatus]] = {
    EngagementStatus.PLANNED: frozenset({EngagementStatus.IN_PROGRESS, EngagementStatus.CANCELLED}),
    EngagementStatus.IN_PROGRESS: frozenset({EngagementStatus.COMPLETED, EngagementStatus.CANCELLED}),
    EngagementStatus.COMPLETED: frozenset(),
    EngagementStatus.CANCELLED: frozenset(),
}


class Team(StrEnum):
    INTERNAL = "internal"
    EXTERNAL = "external"


@dataclass(frozen=True, slots=True)
class Engagement:
    """A planned attack on our own systems.

    Attributes:
        owner_team: the team whose assets it concerns; empty when it is several teams' or the organisation's.
        rules: what is allowed, what is not, whom to call, when to stop.
    """

    engagement_id: UUID
    version: int
    title: str
    objectives: str
    rules: str
    team: Team
    lead: str
    asset_ids: tuple[UUID, ...]
    owner_team: str
    status: EngagementStatus
    planned_for: date | None
    started_on: date | None
    completed_on: date | None
    summary: str
    created_by: str
    created_at: datetime
    updated_at: datetime

    def moved(self, status: EngagementStatus, on: date) -> Engagement:
        """In another status, with its day.

        Raises:
            IllegalStep: the status cannot follow the current one.
        """
        if status is self.status:
            return self
        if status not in _ENGAGEMENT_STEPS[self.status]:
            raise IllegalStep(f"an engagement that is {self.status} cannot become {status}", current_status=self.status)
        return replace(
            self,
            status=status,
            started_on=on if status is EngagementStatus.IN_PROGRESS else self.started_on,
            completed_on=on if status is EngagementStatus.COMPLETED else self.completed_on,
        )

    def event(self) -> EngagementChanged:
        return EngagementChanged(
            version=self.version,
            occurred_at=self.updated_at,
            engagement=EngagementSnapshot(
                engagement_id=self.engagement_id,
                version=self.version,
                title=self.title,
                status=self.status,
                asset_ids=self.asset_ids,
                owner_team=self.owner_team,
                planned_for=self.planned_for,
                started_on=self.started_on,
                completed_on=self.completed_on,
            ),
        )


class FindingStatus(StrEnum):
    OPEN = "open"
    RETEST = "retest"
    REMEDIATED = "remediated"
    ACCEPTED = "accepted"


_FINDING_STEPS: dict[FindingStatus, frozenset[FindingStatus]] = {
    FindingStatus.OPEN: frozenset({FindingStatus.RETEST, FindingStatus.REMEDIATED, FindingStatus.ACCEPTED}),
    FindingStatus.RETEST: frozenset({FindingStatus.OPEN, FindingStatus.REMEDIATED, FindingStatus.ACCEPTED}),
    FindingStatus.REMEDIATED: frozenset({FindingStatus.OPEN, FindingStatus.RETEST}),
    FindingStatus.ACCEPTED: frozenset({FindingStatus.OPEN, FindingStatus.RETEST}),
}


@dataclass(frozen=True, slots=True)
class AcceptanceInForce:
    """As much of an approved acceptance as a finding needs."""

    acceptance_id: UUID
    asset_id: UUID | None


@dataclass(frozen=True, slots=True)
class Finding:
    """A weakness that red teaming found.

    Attributes:
        remediation: what was done about it; needed before it is remediated.
        due_on: day by which it is to be fixed.
    """

    finding_id: UUID
    version: int
    engagement_id: UUID
    asset_id: UUID | None
    owner_team: str
    title: str
    description: str
    severity: Severity
    status: FindingStatus
    owasp: tuple[str, ...]
    atlas: tuple[str, ...]
    due_on: date
    owner: str
    remediation: str
    acceptance_id: UUID | None
    found_by: str
    found_at: datetime
    updated_at: datetime
    remediated_at: datetime | None

    def overdue(self, today: date) -> bool:
        return self.status in (FindingStatus.OPEN, FindingStatus.RETEST) and today > self.due_on

    def moved(self, status: FindingStatus, at: datetime, acceptance: AcceptanceInForce | None = None) -> Finding:
        """In another status.

        Raises:
            IllegalStep: the status cannot follow the current one.
            NotAccepted: it would be accepted without an acceptance in force for the same asset.
            DoesNotFit: it would be remediated without saying how.
        """
        if status is self.status:
            return self
        if status not in _FINDING_STEPS[self.status]:
            raise IllegalStep(f"a finding that is {self.status} cannot become {status}", current_status=self.status)
        if status is FindingStatus.ACCEPTED and (acceptance is None or acceptance.asset_id != self.asset_id):
            raise NotAccepted("name an approved acceptance for the finding's asset in acceptance_id")
        if status is FindingStatus.REMEDIATED and not self.remediation:
            raise DoesNotFit("say in remediation what was done", field="/remediation")
        accepted = status is FindingStatus.ACCEPTED and acceptance is not None
        return replace(
            self,
            status=status,
            acceptance_id=acceptance.acceptance_id if accepted and acceptance else None,
            remediated_at=at if status is FindingStatus.REMEDIATED else None,
        )

    def event(self) -> FindingChanged:
        return FindingChanged(
            version=self.version,
            occurred_at=self.updated_at,
            finding=FindingSnapshot(
                finding_id=self.finding_id,
                version=self.version,
                engagement_id=self.engagement_id,
                asset_id=self.asset_id,
                owner_team=self.owner_team,
                title=self.title,
                severity=self.severity,
                status=self.status,
                due_on=self.due_on,
                found_at=self.found_at,
                remediated_at=self.remediated_at,
            ),
        )
