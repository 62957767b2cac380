"""Controls and their deployments."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from services.governance.application import charter, reviews
from services.governance.application.actors import GOVERNANCE, new_id
from services.governance.application.fields import named
from services.governance.domain.controls import (
    Control,
    ControlNotFound,
    Deployment,
    DeploymentStatus,
    DoesNotApply,
    Evidence,
    LibraryControl,
    StoredControl,
    evidence_end,
    intended_status,
)
from services.governance.domain.documents import DoesNotFit
from services.governance.shipped import library
from services.governance.store import assets
from services.governance.store import controls as store
from services.governance.store.controls import KnownDeployment
from shared import audit, outbox
from shared.auth import demand_organization
from shared.contracts.governance import ControlDeployed, ControlEvent, ControlRemoved, ControlUpdated
from shared.database import Tx
from shared.errors import Invalid
from shared.http import check_version
from shared.tokens import Caller

LAPSES_A_ROUND = 500


# -- controls ----------------------------------------------------------------------------------------------------------


async def find_control(tx: Tx, control_id: str) -> StoredControl:
    """A control of the library or of our own.

    Raises:
        ControlNotFound: there is none of that id.
    """
    shipped = library().controls.get(control_id)
    if shipped is not None:
        return StoredControl(shipped, "library")
    own = await store.own_control(tx, control_id)
    if own is None:
        raise ControlNotFound(f"there is no control {control_id!r}")
    return own


async def add_control(tx: Tx, caller: Caller, control: Control, at: datetime) -> StoredControl:
    """Add a control of our own.

    Raises:
        Invalid: it maps to ids that do not exist.
        DoesNotFit: it names a role that does not exist, or takes an id of the library's.
        ControlExists: its id is taken.
        Forbidden: the caller is bound to teams.
    """
    demand_organization(caller, "the control library")
    if control.id.startswith("CLN-"):
        raise DoesNotFit("ids beginning with CLN- are those of the shipped library", field="/control_id")
    await _check(tx, control)
    stored = StoredControl(control, "own", 1, caller.subject, at)
    await store.add_control(tx, stored)
    await audit.record(tx, caller, action="control.added", target=control.id)
    return stored


async def change_control(tx: Tx, caller: Caller, control: Control, expected: int | None, at: datetime) -> StoredControl:
    """Replace a control of our own. Deployments keep the type they were made with.

    Raises:
        LibraryControl: it is a shipped one.
        ControlNotFound: there is none of that id.
        Invalid: it maps to ids that do not exist.
        DoesNotFit: it names a role that does not exist.
        Forbidden: the caller is bound to teams.
    """
    demand_organization(caller, "the control library")
    if control.id in library().controls:
        raise LibraryControl(f"{control.id} is a control of the shipped library")
    current = await store.own_control(tx, control.id, lock=True)
    if current is None:
        raise ControlNotFound(f"there is no control {control.id!r}")
    check_version(current.version, expected)
    await _check(tx, control)
    stored = StoredControl(control, "own", current.version + 1, caller.subject, at)
    await store.save_control(tx, stored)
    await audit.record(tx, caller, action="control.changed", target=control.id, detail={"version": stored.version})
    return stored


async def _check(tx: Tx, control: Control) -> None:
    library().check_mappings(control.mappings)
    library().check_role(control.owner_role, (await charter.raci(tx)).document, "/owner_role")


# -- deployments -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewEvidence:
    """Evidence as somebody brings it; without `valid_until` it is believed as long as the control says."""

    summary: str
    reference: str = ""
    sha256: str | None = None
    collected_on: date | None = None
    valid_until: date | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request wants of a deployment; None leaves it as it is."""

    status: DeploymentStatus | None = None
    operational: bool | None = None
    evidence: NewEvidence | None = None
    owner: str | None = None
    notes: str | None = None
    named: frozenset[str] = field(default_factory=frozenset)
    """Fields that the request named, for the audit."""


async def deploy(
    tx: Tx, caller: Caller, control_id: str, asset_id: Any, wanted: Wanted, at: datetime
) -> KnownDeployment:
    """Put a control on an asset, planned unless told otherwise.

    Raises:
        AssetNotFound: there is no such asset, or none that the caller may see.
        AssetRetired: the asset is retired.
        ControlNotFound: there is no such control.
        Invalid: dates or status contradict each other.
        DoesNotApply: the control is not made for assets of this type.
        AlreadyDeployed: it is there already.
    """
    with named("/asset_id"):
        asset = await assets.get(tx, caller, asset_id, hold=True)
    asset.demand_active()
    with named("/control_id"):
        control = (await find_control(tx, control_id)).control
    if asset.asset_type not in control.applies_to:
        applies = ", ".join(control.applies_to)
        raise DoesNotApply(f"{control.id} applies to {applies}; the asset is a {asset.asset_type}", field="/control_id")
    deployment = Deployment(
        deployment_id=new_id(),
        version=1,
        asset_id=asset.asset_id,
        control_id=control.id,
        control_type=control.control_type,
        function=control.function,
        status=DeploymentStatus.PLANNED,
        owner=wanted.owner or control.owner_role,
        notes=wanted.notes or "",
        evidence_days=control.evidence_valid_days,
        evidence_valid_until=None,
        evidence_due_on=None,
        created_by=caller.subject,
        created_at=at,
        updated_at=at,
    )
    status = intended_status(None, wanted.status, wanted.operational) or DeploymentStatus.PLANNED
    if status in (DeploymentStatus.DEGRADED, DeploymentStatus.RETIRED):
        raise Invalid(f"a new deployment cannot be {status}", field="/status")
    evidence = _evidence(deployment, wanted.evidence, caller, at)
    if evidence is not None:
        deployment = deployment.proved(evidence)
    deployment = deployment.moved(status, at.date())
    await store.add_deployment(tx, deployment)
    known = KnownDeployment(deployment, asset.name, asset.owner_team)
    if evidence is not None:
        await store.add_evidence(tx, deployment.deployment_id, evidence)
    await reviews.follow_evidence(tx, known, evidence, at)
    await outbox.add(tx, _event(ControlDeployed, known))
    await audit.record(
        tx,
        caller,
        action="control.deployed",
        target=str(deployment.deployment_id),
        detail={"control_id": control.id, "asset_id": str(asset.asset_id), "status": deployment.status},
        owner_team=asset.owner_team,
    )
    return known


async def change_deployment(
    tx: Tx, caller: Caller, deployment_id: Any, expected: int | None, wanted: Wanted, at: datetime
) -> KnownDeployment:
    """Change status, operation, evidence, owner or notes of a deployment; evidence is filed before the status moves.

    Raises:
        DeploymentNotFound: there is none, or none that the caller may see.
        PreconditionFailed: it was changed in the meantime.
        IllegalMove, EvidenceStale: the status cannot be reached.
        Invalid: dates or status contradict each other.
    """
    known = await store.get_deployment(tx, caller, deployment_id, lock=True)
    current = known.deployment
    check_version(current.version, expected)
    if not wanted.named:
        return known
    changed = current.changed(at, owner=wanted.owner, notes=wanted.notes)
    evidence = _evidence(current, wanted.evidence, caller, at)
    if evidence is not None:
        if current.status is DeploymentStatus.RETIRED:
            changed.moved(DeploymentStatus.IMPLEMENTED, at.date())  # refuses: nothing is proved of what is gone
        changed = changed.proved(evidence)
    status = intended_status(current.status, wanted.status, wanted.operational)
    if status is not None:
        changed = changed.moved(status, at.date())
    known = KnownDeployment(changed, known.asset_name, known.owner_team)
    await store.save_deployment(tx, changed)
    if evidence is not None:
        await store.add_evidence(tx, changed.deployment_id, evidence)
    await reviews.follow_evidence(tx, known, evidence, at)
    ended = changed.status is DeploymentStatus.RETIRED and current.status is not DeploymentStatus.RETIRED
    await outbox.add(tx, _event(ControlRemoved if ended else ControlUpdated, known))
    await audit.record(
        tx,
        caller,
        action="control.removed" if ended else "control.updated",
        target=str(changed.deployment_id),
        detail={"changed": sorted(wanted.named), "status": changed.status},
        owner_team=known.owner_team,
    )
    return known


async def degrade_stale(tx: Tx, at: datetime) -> int:
    """Degrade operational deployments whose evidence is no longer believed; returns how many, in a bounded round."""
    stale = await store.with_stale_evidence(tx, at.date(), LAPSES_A_ROUND)
    for known in stale:
        lapsed = KnownDeployment(known.deployment.lapsed(at), known.asset_name, known.owner_team)
        await store.save_deployment(tx, lapsed.deployment)
        await outbox.add(tx, _event(ControlUpdated, lapsed))
        await audit.record(
            tx,
            GOVERNANCE,
            action="control.evidence_lapsed",
            target=str(known.deployment_id),
            detail={"evidence_due_on": str(known.deployment.evidence_due_on)},
            owner_team=known.owner_team,
        )
    return len(stale)


async def retire_on(tx: Tx, asset_ids: set[Any], at: datetime) -> None:
    """End all deployments on assets that are retired."""
    for known in await store.living_on(tx, asset_ids):
        ended = known.deployment.changed(at).moved(DeploymentStatus.RETIRED, at.date())
        await store.save_deployment(tx, ended)
        await outbox.add(tx, _event(ControlRemoved, KnownDeployment(ended, known.asset_name, known.owner_team)))
        await audit.record(
            tx,
            GOVERNANCE,
            action="control.removed",
            target=str(known.deployment_id),
            detail={"reason": "the asset was retired"},
            owner_team=known.owner_team,
        )


def _evidence(deployment: Deployment, new: NewEvidence | None, caller: Caller, at: datetime) -> Evidence | None:
    if new is None:
        return None
    today = at.date()
    collected_on = new.collected_on or today
    return Evidence(
        evidence_id=new_id(),
        summary=new.summary,
        reference=new.reference,
        sha256=new.sha256,
        collected_on=collected_on,
        valid_until=evidence_end(collected_on, new.valid_until, deployment.evidence_days, today),
        recorded_by=caller.subject,
        recorded_at=at,
    )


def _event(kind: type[ControlEvent], known: KnownDeployment) -> ControlEvent:
    deployment = known.deployment
    return kind(
        version=deployment.version, occurred_at=deployment.updated_at, deployment=deployment.snapshot(known.owner_team)
    )
