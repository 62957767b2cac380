"""Own controls, control deployments and their evidence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.governance.domain.controls import (
    AlreadyDeployed,
    Control,
    ControlExists,
    ControlFunction,
    Deployment,
    DeploymentNotFound,
    DeploymentStatus,
    Evidence,
    StoredControl,
)
from services.governance.domain.library import InPlace
from services.governance.store.schema import (
    asset_table,
    control_table,
    deployment_table,
    evidence_table,
    fields,
    newest_first,
)
from shared.auth import Caller, visible
from shared.contracts.governance import ControlType
from shared.database import Tx
from shared.paging import PageRequest

_deployment = deployment_table.c
_LIVING = _deployment.status != DeploymentStatus.RETIRED


# -- own controls ------------------------------------------------------------------------------------------------------


def _stored(row: Any) -> StoredControl:
    return StoredControl(Control.model_validate(row.body), "own", row.version, row.updated_by, row.updated_at)


def _values(stored: StoredControl) -> dict[str, Any]:
    control = stored.control
    return {
        "control_id": control.id,
        "version": stored.version,
        "body": control.model_dump(mode="json"),
        "function": control.function,
        "control_type": control.control_type,
        "updated_by": stored.updated_by,
        "updated_at": stored.updated_at,
    }


async def own_controls(tx: Tx) -> list[StoredControl]:
    """All controls that the organisation added, by id. They are as few as what people write by hand."""
    return [_stored(row) for row in await tx.execute(sa.select(control_table).order_by(control_table.c.control_id))]


async def own_control(tx: Tx, control_id: str, *, lock: bool = False) -> StoredControl | None:
    stmt = sa.select(control_table).where(control_table.c.control_id == control_id)
    row = (await tx.execute(stmt.with_for_update() if lock else stmt)).first()
    return None if row is None else _stored(row)


async def add_control(tx: Tx, stored: StoredControl) -> None:
    """Add an own control.

    Raises:
        ControlExists: its id is taken.
    """
    stmt = insert(control_table).values(_values(stored)).on_conflict_do_nothing()
    if (await tx.execute(stmt.returning(control_table.c.control_id))).first() is None:
        raise ControlExists(f"{stored.control.id} is already there")


async def save_control(tx: Tx, stored: StoredControl) -> None:
    stmt = control_table.update().where(control_table.c.control_id == stored.control.id)
    await tx.execute(stmt.values(_values(stored)))


# -- deployments -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KnownDeployment:
    """A deployment with what its asset is called and whose it is."""

    deployment: Deployment
    asset_name: str
    owner_team: str

    @property
    def deployment_id(self) -> UUID:
        return self.deployment.deployment_id


_KNOWN = sa.select(
    deployment_table, asset_table.c.name.label("asset_name"), asset_table.c.owner_team.label("owner_team")
).select_from(deployment_table.join(asset_table, asset_table.c.asset_id == _deployment.asset_id))


def _known(row: Any) -> KnownDeployment:
    return KnownDeployment(_deployment_of(row), row.asset_name, row.owner_team)


def _deployment_of(row: Any) -> Deployment:
    return Deployment(
        deployment_id=row.deployment_id,
        version=row.version,
        asset_id=row.asset_id,
        control_id=row.control_id,
        control_type=None if row.control_type is None else ControlType(row.control_type),
        function=ControlFunction(row.function),
        status=DeploymentStatus(row.status),
        owner=row.owner,
        notes=row.notes,
        evidence_days=row.evidence_days,
        evidence_valid_until=row.evidence_valid_until,
        evidence_due_on=row.evidence_due_on,
        created_by=row.created_by,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


async def add_deployment(tx: Tx, deployment: Deployment) -> None:
    """Store a new deployment.

    Raises:
        AlreadyDeployed: the control is on the asset, and not retired.
    """
    stmt = insert(deployment_table).values(fields(deployment))
    stmt = stmt.on_conflict_do_nothing(
        index_elements=["asset_id", "control_id"], index_where=sa.text("status <> 'retired'")
    )
    if (await tx.execute(stmt.returning(_deployment.deployment_id))).first() is not None:
        return
    twin = await tx.scalar(
        sa.select(_deployment.deployment_id)
        .where(_deployment.asset_id == deployment.asset_id)
        .where(_deployment.control_id == deployment.control_id)
        .where(_LIVING)
    )
    raise AlreadyDeployed(
        f"{deployment.control_id} is already deployed on {deployment.asset_id}", deployment_id=str(twin)
    )


async def save_deployment(tx: Tx, deployment: Deployment) -> None:
    stmt = deployment_table.update().where(_deployment.deployment_id == deployment.deployment_id)
    await tx.execute(stmt.values(fields(deployment)))


async def get_deployment(tx: Tx, caller: Caller, deployment_id: UUID, *, lock: bool = False) -> KnownDeployment:
    """A deployment, its row locked if asked for.

    Raises:
        DeploymentNotFound: there is none, or its asset is not this caller's to see.
    """
    stmt = _KNOWN.where(_deployment.deployment_id == deployment_id)
    stmt = stmt.where(visible(caller, asset_table.c.owner_team))
    row = (await tx.execute(stmt.with_for_update(of=deployment_table) if lock else stmt)).first()
    if row is None:
        raise DeploymentNotFound(f"there is no control deployment {deployment_id}")
    return _known(row)


@dataclass(frozen=True, slots=True)
class DeploymentFilter:
    asset_id: UUID | None = None
    control_id: str | None = None
    control_type: ControlType | None = None
    status: DeploymentStatus | None = None
    operational: bool | None = None
    evidence_stale: bool | None = None
    owner_team: str | None = None


async def page_deployments(
    tx: Tx, caller: Caller, wanted: DeploymentFilter, page: PageRequest, today: date
) -> list[KnownDeployment]:
    """Deployments, newest first; one more than the page holds."""
    stmt = _KNOWN.where(visible(caller, asset_table.c.owner_team))
    for name in ("asset_id", "control_id", "control_type", "status"):
        value = getattr(wanted, name)
        if value is not None:
            stmt = stmt.where(_deployment[name] == value)
    if wanted.operational is not None:
        stmt = stmt.where((_deployment.status == DeploymentStatus.OPERATIONAL) == wanted.operational)
    if wanted.evidence_stale is not None:
        stale = sa.func.coalesce(_deployment.evidence_due_on < today, sa.false())
        stmt = stmt.where(stale == wanted.evidence_stale)
    if wanted.owner_team is not None:
        stmt = stmt.where(asset_table.c.owner_team == wanted.owner_team)
    return [_known(row) for row in await tx.execute(newest_first(stmt, _deployment.deployment_id, page))]


async def living_on(tx: Tx, asset_ids: Iterable[UUID]) -> list[KnownDeployment]:
    """Deployments on these assets that are not retired, locked."""
    stmt = _KNOWN.where(_deployment.asset_id.in_(list(asset_ids))).where(_LIVING)
    stmt = stmt.order_by(_deployment.deployment_id).with_for_update(of=deployment_table)
    return [_known(row) for row in await tx.execute(stmt)]


async def with_stale_evidence(tx: Tx, today: date, limit: int) -> list[KnownDeployment]:
    """Operational deployments whose evidence is no longer believed, locked."""
    stmt = _KNOWN.where(_deployment.status == DeploymentStatus.OPERATIONAL).where(_deployment.evidence_due_on < today)
    stmt = stmt.order_by(_deployment.deployment_id).limit(limit)
    stmt = stmt.with_for_update(of=deployment_table, skip_locked=True)
    return [_known(row) for row in await tx.execute(stmt)]


async def in_place(tx: Tx, caller: Caller, asset_id: UUID | None = None) -> dict[str, InPlace]:
    """By control id: deployments that the caller may see, and how many of them are operational."""
    operational = sa.func.count().filter(_deployment.status == DeploymentStatus.OPERATIONAL)
    stmt = (
        sa.select(_deployment.control_id, sa.func.count().label("deployments"), operational.label("operational"))
        .select_from(deployment_table.join(asset_table, asset_table.c.asset_id == _deployment.asset_id))
        .where(_LIVING)
        .where(visible(caller, asset_table.c.owner_team))
        .group_by(_deployment.control_id)
    )
    if asset_id is not None:
        stmt = stmt.where(_deployment.asset_id == asset_id)
    return {row.control_id: InPlace(row.deployments, row.operational) for row in await tx.execute(stmt)}


# -- evidence ----------------------------------------------------------------------------------------------------------


async def add_evidence(tx: Tx, deployment_id: UUID, evidence: Evidence) -> None:
    await tx.execute(evidence_table.insert().values(fields(evidence) | {"deployment_id": deployment_id}))


async def evidence_of(tx: Tx, deployment_id: UUID, limit: int = 50) -> Sequence[Evidence]:
    """Evidence on file for a deployment, newest first."""
    stmt = sa.select(evidence_table).where(evidence_table.c.deployment_id == deployment_id)
    rows = await tx.execute(stmt.order_by(evidence_table.c.evidence_id.desc()).limit(limit))
    return [
        Evidence(
            evidence_id=row.evidence_id,
            summary=row.summary,
            reference=row.reference,
            sha256=row.sha256,
            collected_on=row.collected_on,
            valid_until=row.valid_until,
            recorded_by=row.recorded_by,
            recorded_at=row.recorded_at,
        )
        for row in rows
    ]
