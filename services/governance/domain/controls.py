"""Controls, and their deployments on assets.

A deployment counts in risk scores while it is operational, and it stays operational only while somebody can show that
it works: when its evidence is older than agreed, it becomes degraded by itself. A control that was declared operational
without evidence gets the same time to bring some.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from services.governance.domain.documents import (
    Days,
    Document,
    DoesNotFit,
    Line,
    Mappings,
    Prose,
    RoleId,
    demand_near,
)
from shared.contracts.governance import ControlDeploymentSnapshot, ControlType
from shared.contracts.inventory import AssetType
from shared.errors import Conflict, Invalid, NotFound


class ControlNotFound(NotFound):
    """There is no such control."""


class ControlExists(Conflict):
    """A control of this id is already there."""


class LibraryControl(Conflict):
    """A control of the shipped library cannot be changed; add one of your own."""


class DeploymentNotFound(NotFound):
    """There is no such control deployment, or none that you may know of."""


class AlreadyDeployed(Conflict):
    """This control is already deployed on this asset."""


class DoesNotApply(DoesNotFit):
    """The control does not apply to assets of this type."""


class IllegalMove(Conflict):
    """A deployment cannot go from this status to that one."""


class EvidenceStale(Conflict):
    """The evidence is out of date; add new evidence to make the control operational."""


class ControlFunction(StrEnum):
    PREVENTIVE = "preventive"
    DETECTIVE = "detective"
    CORRECTIVE = "corrective"


class Setting(Document):
    """One thing to configure, to what, and why."""

    setting: Line
    value: Line
    reason: Line


class Verification(Document):
    """One test of the control and what passes."""

    test: Prose
    expected: Prose


class Implementation(Document):
    """How a control is put in place, tested and evidenced."""

    steps: tuple[Prose, ...] = Field(min_length=1, max_length=50)
    configuration: tuple[Setting, ...] = Field(default=(), max_length=50)
    verification: tuple[Verification, ...] = Field(min_length=1, max_length=50)
    evidence: tuple[Prose, ...] = Field(min_length=1, max_length=50)
    common_failures: tuple[Prose, ...] = Field(default=(), max_length=50)


ControlId = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9]{1,9}(-[A-Z0-9]{1,10}){1,3}$")]


class ControlText(Document):
    """What a control says.

    Attributes:
        control_type: what the risk model counts it as; null when no score counts it.
        applies_to: types of assets that it can be deployed on.
        owner_role: RACI role that operates it.
        evidence_valid_days: how long proof that it works is believed.
    """

    title: Line
    objective: Prose
    function: ControlFunction
    control_type: ControlType | None = None
    applies_to: tuple[AssetType, ...] = Field(min_length=1)
    owner_role: RoleId
    evidence_valid_days: Days = 90
    implementation: Implementation
    mappings: Mappings = Mappings()


class Control(ControlText):
    """A measure against AI risk. Ids beginning with CLN are those of the shipped library."""

    id: ControlId


@dataclass(frozen=True, slots=True)
class StoredControl:
    """A control with where it comes from: `library` (shipped, version 1) or `own`."""

    control: Control
    source: str
    version: int = 1
    updated_by: str | None = None
    updated_at: datetime | None = None


class DeploymentStatus(StrEnum):
    PLANNED = "planned"
    IMPLEMENTED = "implemented"
    OPERATIONAL = "operational"
    DEGRADED = "degraded"
    RETIRED = "retired"


_MOVES: dict[DeploymentStatus, frozenset[DeploymentStatus]] = {
    DeploymentStatus.PLANNED: frozenset(
        {DeploymentStatus.IMPLEMENTED, DeploymentStatus.OPERATIONAL, DeploymentStatus.RETIRED}
    ),
    DeploymentStatus.IMPLEMENTED: frozenset(
        {
            DeploymentStatus.PLANNED,
            DeploymentStatus.OPERATIONAL,
            DeploymentStatus.DEGRADED,
            DeploymentStatus.RETIRED,
        }
    ),
    DeploymentStatus.OPERATIONAL: frozenset(
        {DeploymentStatus.IMPLEMENTED, DeploymentStatus.DEGRADED, DeploymentStatus.RETIRED}
    ),
    DeploymentStatus.DEGRADED: frozenset(
        {DeploymentStatus.IMPLEMENTED, DeploymentStatus.OPERATIONAL, DeploymentStatus.RETIRED}
    ),
    DeploymentStatus.RETIRED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """Proof that a deployed control works, believed until the end of `valid_until`.

    Attributes:
        reference: where it can be seen, e.g. a URL or ticket; it is not fetched.
        sha256: digest of the evidence, hex, where there is a file.
    """

    evidence_id: UUID
    summary: str
    reference: str
    sha256: str | None
    collected_on: date
    valid_until: date
    recorded_by: str
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Deployment:
    """A control on an asset.

    Attributes:
        evidence_days: days that evidence without an end of its own is believed, from the control.
        evidence_valid_until: end of the newest evidence; None while there is none.
        evidence_due_on: last day on which the control may be called operational; None until it was put in place.
    """

    deployment_id: UUID
    version: int
    asset_id: UUID
    control_id: str
    control_type: ControlType | None
    function: ControlFunction
    status: DeploymentStatus
    owner: str
    notes: str
    evidence_days: int
    evidence_valid_until: date | None
    evidence_due_on: date | None
    created_by: str
    created_at: datetime
    updated_at: datetime

    @property
    def operational(self) -> bool:
        """Whether risk scores count it."""
        return self.status is DeploymentStatus.OPERATIONAL

    def evidence_stale(self, today: date) -> bool:
        return self.evidence_due_on is not None and today > self.evidence_due_on

    def changed(self, at: datetime, *, owner: str | None = None, notes: str | None = None) -> Deployment:
        """The next version, with what is not None replaced."""
        return replace(
            self,
            version=self.version + 1,
            updated_at=at,
            owner=self.owner if owner is None else owner,
            notes=self.notes if notes is None else notes,
        )

    def proved(self, evidence: Evidence) -> Deployment:
        """With `evidence` on file. Older evidence never shortens what newer evidence gave."""
        until = max(evidence.valid_until, self.evidence_valid_until or evidence.valid_until)
        return replace(self, evidence_valid_until=until, evidence_due_on=until)

    def moved(self, status: DeploymentStatus, today: date) -> Deployment:
        """In another status.

        Raises:
            IllegalMove: the status cannot follow the current one.
            EvidenceStale: it would become operational on evidence that is out of date.
        """
        if status is self.status:
            return self
        if status not in _MOVES[self.status]:
            raise IllegalMove(f"a deployment that is {self.status} cannot become {status}", current_status=self.status)
        due = self.evidence_due_on
        if status is DeploymentStatus.OPERATIONAL:
            if due is None:
                due = today + timedelta(days=self.evidence_days)
            elif today > due:
                raise EvidenceStale(f"the last evidence was valid until {due}")
        return replace(self, status=status, evidence_due_on=due)

    def lapsed(self, at: datetime) -> Deployment:
        """Degraded because nobody has shown lately that it works."""
        return replace(self, status=DeploymentStatus.DEGRADED, version=self.version + 1, updated_at=at)

    def snapshot(self, owner_team: str) -> ControlDeploymentSnapshot:
        return ControlDeploymentSnapshot(
            deployment_id=self.deployment_id,
            version=self.version,
            asset_id=self.asset_id,
            owner_team=owner_team,
            control_id=self.control_id,
            control_type=self.control_type,
            status=self.status,
            operational=self.operational,
            evidence_valid_until=self.evidence_valid_until,
        )


def intended_status(
    current: DeploymentStatus | None, status: DeploymentStatus | None, operational: bool | None
) -> DeploymentStatus | None:
    """The status that a request means by `status`, by `operational`, or by both.

    Args:
        current: the status now; None for a new deployment.

    Returns:
        None when neither asks for a change.

    Raises:
        Invalid: the two contradict each other.
    """
    if status is not None and operational is not None:
        if operational != (status is DeploymentStatus.OPERATIONAL):
            raise Invalid(f"operational {str(operational).lower()} contradicts status {status}", field="/operational")
        return status
    if status is not None or operational is None:
        return status
    if operational:
        return DeploymentStatus.OPERATIONAL
    if current is None:
        return DeploymentStatus.IMPLEMENTED
    return DeploymentStatus.DEGRADED if current is DeploymentStatus.OPERATIONAL else None


def evidence_end(collected_on: date, valid_until: date | None, days: int, today: date) -> date:
    """Last day on which evidence is believed.

    Raises:
        Invalid: the dates contradict each other, or reach further than two years.
        DoesNotFit: it would be collected in the future.
    """
    demand_near(collected_on, today, "/evidence/collected_on")
    if collected_on > today:
        raise DoesNotFit("evidence cannot be collected in the future", field="/evidence/collected_on")
    until = valid_until if valid_until is not None else collected_on + timedelta(days=days)
    if until < collected_on:
        raise Invalid("valid_until is before collected_on", field="/evidence/valid_until")
    if until > collected_on + timedelta(days=730):
        raise Invalid("evidence is believed for two years at most", field="/evidence/valid_until")
    return until
