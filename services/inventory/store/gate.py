"""What governance and incidents say, as far as a deployment check needs it; and the facts of a check."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.inventory.domain.gate import ControlFact, DeniedDigest, Facts, IncidentFact, ceilings_of
from services.inventory.domain.graph import Direction
from services.inventory.store import combinations
from services.inventory.store.assets import Known
from services.inventory.store.graph import neighbourhood
from services.inventory.store.schema import (
    acceptance_table,
    among,
    appetite_table,
    artifact_digest_table,
    asset_digest_table,
    control_table,
    incident_table,
)
from shared.auth import Caller
from shared.contracts.governance import AcceptanceSnapshot, AppetiteChanged, ControlDeploymentSnapshot
from shared.contracts.incidents import IncidentSnapshot
from shared.database import Tx

_UPSTREAM_DEPTH = 50
_COMBINATIONS_SHOWN = 50
_DENIED_SHOWN = 50
_EVERYTHING = Caller("inventory", "service")


async def keep_controls(tx: Tx, told: Iterable[tuple[ControlDeploymentSnapshot, bool]]) -> None:
    """Keep the newest of each deployment (and whether it was removed); older news change nothing."""
    rows = (
        {
            "deployment_id": snapshot.deployment_id,
            "version": snapshot.version,
            "asset_id": snapshot.asset_id,
            "control_id": snapshot.control_id,
            "control_type": snapshot.control_type,
            "status": snapshot.status,
            "operational": snapshot.operational,
            "evidence_valid_until": snapshot.evidence_valid_until,
            "removed": removed,
        }
        for snapshot, removed in told
    )
    await _keep(tx, control_table, "deployment_id", rows)


async def keep_acceptances(tx: Tx, told: Iterable[tuple[AcceptanceSnapshot, bool]]) -> None:
    """The same for acceptances of an asset's risk, and whether they are in force."""
    rows = (
        {
            "acceptance_id": snapshot.acceptance_id,
            "version": snapshot.version,
            "asset_id": snapshot.asset_id,
            "in_force": in_force,
            "expires_at": snapshot.expires_at,
        }
        for snapshot, in_force in told
        if snapshot.kind == "risk" and snapshot.asset_id is not None
    )
    await _keep(tx, acceptance_table, "acceptance_id", rows)


async def keep_incidents(tx: Tx, told: Iterable[IncidentSnapshot]) -> None:
    """The same for incidents."""
    rows = (
        {
            "incident_id": snapshot.incident_id,
            "version": snapshot.version,
            "category": snapshot.category,
            "severity": snapshot.severity,
            "status": snapshot.status,
            "affected_assets": list(snapshot.affected_assets),
        }
        for snapshot in told
    )
    await _keep(tx, incident_table, "incident_id", rows)


async def keep_appetite(tx: Tx, told: Iterable[AppetiteChanged]) -> None:
    """The same for the appetite; events of before ceilings were told carry none and say nothing."""
    rows = (
        {
            "appetite": event.appetite,
            "version": event.version,
            "ceilings": ceilings_of(
                [(item.data_classification, item.deployment_env, item.max_residual_score) for item in event.ceilings]
            ),
        }
        for event in told
    )
    await _keep(tx, appetite_table, "appetite", rows)


async def _keep(tx: Tx, table: sa.Table, key: str, rows: Iterable[dict[str, Any]]) -> None:
    newest: dict[Any, dict[str, Any]] = {}
    for row in rows:
        before = newest.get(row[key])
        if before is None or row["version"] > before["version"]:
            newest[row[key]] = row
    if not newest:
        return
    stmt = insert(table)
    replaced = {name: stmt.excluded[name] for name in table.columns.keys() if name != key}  # noqa: SIM118  # not a dict
    stmt = stmt.on_conflict_do_update(
        index_elements=[key], set_=replaced, where=stmt.excluded.version > table.c.version
    )
    # In the order of keys, as everybody who writes several rows does.
    await tx.execute(stmt, [newest[own] for own in sorted(newest)])


async def facts(tx: Tx, known: Known, at: datetime) -> Facts:
    """Everything that a deployment check of this asset looks at; of upstream assets whoever owns them."""
    asset = known.asset
    upstream = await neighbourhood(tx, _EVERYTHING, asset.asset_id, Direction.UPSTREAM, _UPSTREAM_DEPTH)
    above = {asset_id: node.lifecycle for asset_id, node in upstream.nodes.items() if asset_id != asset.asset_id}
    named = {there for following in upstream.neighbours.values() for there in following}
    appetite = (await tx.execute(sa.select(appetite_table).order_by(appetite_table.c.appetite).limit(1))).first()
    ceilings: Mapping[str, Mapping[str, float]] | None = appetite.ceilings if appetite is not None else None
    findings, _ = await combinations.find(tx, _EVERYTHING, asset_id=asset.asset_id, limit=_COMBINATIONS_SHOWN)
    return Facts(
        asset=asset,
        risk_score=known.risk_score,
        ceilings=ceilings or None,
        appetite_version=appetite.version if appetite is not None else 0,
        accepted=await _accepted(tx, asset.asset_id, at),
        controls=await _controls(tx, asset.asset_id),
        upstreams=above,
        missing_upstreams=sorted(named - set(upstream.nodes) - upstream.unread),
        upstreams_unread=bool(upstream.unread) or not set(upstream.nodes) <= set(upstream.neighbours),
        incidents=await _incidents(tx, [asset.asset_id, *above]),
        denied_digests=await _denied(tx, [asset.asset_id, *above], at),
        combinations=findings,
    )


async def _denied(tx: Tx, asset_ids: Sequence[UUID], at: datetime) -> list[DeniedDigest]:
    held, entry = asset_digest_table.c, artifact_digest_table.c
    same = sa.and_(entry.algorithm == held.algorithm, entry.digest == held.digest)
    in_force = sa.or_(entry.expires_at.is_(None), entry.expires_at > at)
    stmt = (
        sa.select(held.asset_id, held.algorithm, held.digest, entry.reason)
        .distinct()
        .select_from(asset_digest_table.join(artifact_digest_table, same))
        .where(among(held.asset_id, asset_ids), entry.verdict == "denied", in_force)
        .order_by(held.asset_id, held.digest)
        .limit(_DENIED_SHOWN)
    )
    return [DeniedDigest(*row) for row in await tx.execute(stmt)]


async def _accepted(tx: Tx, asset_id: UUID, at: datetime) -> bool:
    column = acceptance_table.c
    stmt = sa.select(sa.true()).where(column.asset_id == asset_id, column.in_force, column.expires_at > at)
    return (await tx.execute(stmt.limit(1))).first() is not None


async def _controls(tx: Tx, asset_id: UUID) -> list[ControlFact]:
    column = control_table.c
    stmt = sa.select(
        column.deployment_id,
        column.version,
        column.control_id,
        column.control_type,
        column.status,
        column.operational,
        column.evidence_valid_until,
    ).where(column.asset_id == asset_id, ~column.removed)
    return [ControlFact(*row) for row in await tx.execute(stmt.order_by(column.deployment_id))]


async def _incidents(tx: Tx, asset_ids: Sequence[UUID]) -> list[IncidentFact]:
    column = incident_table.c
    among = sa.literal(list(asset_ids), sa.ARRAY(sa.Uuid))
    stmt = sa.select(column.incident_id, column.category, column.severity, column.status, column.affected_assets)
    stmt = stmt.where(sa.text("status NOT IN ('resolved', 'closed')"), column.affected_assets.overlap(among))
    asked = set(asset_ids)
    return [
        IncidentFact(
            row.incident_id,
            row.category,
            row.severity,
            row.status,
            tuple(asset_id for asset_id in row.affected_assets if asset_id in asked),
        )
        for row in await tx.execute(stmt.order_by(column.severity, column.incident_id))
    ]
