"""The copies of assets and of their risk."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services.governance.domain.acceptances import Standing
from services.governance.domain.assets import AssetCopy, AssetNotFound
from services.governance.store.schema import asset_risk_table, asset_table
from shared.auth import Caller, visible
from shared.contracts.inventory import AssetType, DataClassification, DeploymentEnvironment, Lifecycle
from shared.contracts.risk import AssessmentCompleted, RiskLevel
from shared.database import Tx, driver

_asset = asset_table.c

# unnest, since one statement for a run of events is what keeps up with an import of a hundred thousand assets.
_UPSERT_ASSETS = """
    INSERT INTO asset_copy AS copy (asset_id, version, name, asset_type, owner_team, data_classification,
                                    deployment_env, lifecycle, last_security_review, registered_at)
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                         $8::text[], $9::date[], $10::timestamptz[])
    ON CONFLICT (asset_id) DO UPDATE SET
        version = excluded.version, name = excluded.name, asset_type = excluded.asset_type,
        owner_team = excluded.owner_team, data_classification = excluded.data_classification,
        deployment_env = excluded.deployment_env, lifecycle = excluded.lifecycle,
        last_security_review = excluded.last_security_review, registered_at = excluded.registered_at
    WHERE excluded.version > copy.version
"""
_UPSERT_RISK = """
    INSERT INTO asset_risk_copy AS copy (asset_id, version, residual_risk_score, risk_level, assessed_at)
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::float8[], $4::text[], $5::timestamptz[])
    ON CONFLICT (asset_id) DO UPDATE SET
        version = excluded.version, residual_risk_score = excluded.residual_risk_score,
        risk_level = excluded.risk_level, assessed_at = excluded.assessed_at
    WHERE excluded.version > copy.version
"""


async def upsert(tx: Tx, copies: Iterable[AssetCopy]) -> None:
    """Take over newer copies; at most one of each asset."""
    rows = sorted(copies, key=lambda copy: copy.asset_id)
    columns = [[getattr(copy, column.name) for copy in rows] for column in asset_table.columns]
    await (await driver(tx)).execute(_UPSERT_ASSETS, *columns)


async def upsert_risk(tx: Tx, assessments: Iterable[AssessmentCompleted]) -> None:
    """Take over newer assessments; at most one of each asset."""
    rows = sorted(assessments, key=lambda assessment: assessment.asset_id)
    names = ("asset_id", "version", "residual_risk_score", "risk_level", "assessed_at")
    await (await driver(tx)).execute(_UPSERT_RISK, *([getattr(row, name) for row in rows] for name in names))


def copy_of(row: Any) -> AssetCopy:
    """A row of the table as a copy."""
    return AssetCopy(
        asset_id=row.asset_id,
        version=row.version,
        name=row.name,
        asset_type=AssetType(row.asset_type),
        owner_team=row.owner_team,
        data_classification=DataClassification(row.data_classification),
        deployment_env=DeploymentEnvironment(row.deployment_env),
        lifecycle=Lifecycle(row.lifecycle),
        last_security_review=row.last_security_review,
        registered_at=row.registered_at,
    )


async def get(tx: Tx, caller: Caller, asset_id: UUID, *, hold: bool = False) -> AssetCopy:
    """The asset; with `hold` it cannot be retired until the transaction ends.

    Raises:
        AssetNotFound: there is none, or it is not this caller's to see.
    """
    stmt = sa.select(asset_table).where(_asset.asset_id == asset_id).where(visible(caller, _asset.owner_team))
    row = (await tx.execute(stmt.with_for_update(read=True) if hold else stmt)).first()
    if row is None:
        raise AssetNotFound(f"there is no asset {asset_id}")
    return copy_of(row)


async def known(tx: Tx, caller: Caller, asset_ids: Collection[UUID]) -> bool:
    """Whether the caller may see all of these assets."""
    stmt = sa.select(sa.func.count()).where(_asset.asset_id.in_(asset_ids)).where(visible(caller, _asset.owner_team))
    return int(await tx.scalar(stmt) or 0) == len(set(asset_ids))


async def teams(tx: Tx, asset_ids: Collection[UUID]) -> dict[UUID, str]:
    """Owner team of each asset that is known."""
    stmt = sa.select(_asset.asset_id, _asset.owner_team).where(_asset.asset_id.in_(asset_ids))
    return {row.asset_id: row.owner_team for row in await tx.execute(stmt)}


async def team(tx: Tx, asset_id: UUID | None) -> str:
    """Owner team of an asset; empty for none."""
    if asset_id is None:
        return ""
    return str(await tx.scalar(sa.select(_asset.owner_team).where(_asset.asset_id == asset_id)) or "")


async def standing(tx: Tx, asset_id: UUID | None) -> Standing:
    """The asset's risk as last assessed."""
    found = None
    if asset_id is not None:
        found = (await tx.execute(sa.select(asset_risk_table).where(asset_risk_table.c.asset_id == asset_id))).first()
    if found is None:
        return Standing(None, None)
    return Standing(found.residual_risk_score, RiskLevel(found.risk_level))


async def walk(tx: Tx, after: UUID | None, limit: int) -> Sequence[AssetCopy]:
    """The next assets in the order of their ids."""
    stmt = sa.select(asset_table).order_by(_asset.asset_id).limit(limit)
    if after is not None:
        stmt = stmt.where(_asset.asset_id > after)
    return [copy_of(row) for row in await tx.execute(stmt)]
