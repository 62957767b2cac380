"""Single assets: in, out, changed, and what changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import sqlalchemy as sa
import sqlalchemy.exc

from services.inventory.domain.asset import (
    Asset,
    AssetNotFound,
    AttributeSource,
    Change,
    Digest,
    KeyTaken,
    SourceKind,
    as_json,
    key_of,
)
from services.inventory.domain.relations import DOWNSTREAM_ASSETS, UPSTREAM_ASSETS
from services.inventory.store import graph, risk
from services.inventory.store.schema import LIVING, among, asset_table, change_table, risk_table
from shared import atomic
from shared.auth import Caller, visible
from shared.contracts.inventory import (
    AssetRegistered,
    AssetType,
    DataClassification,
    DeploymentEnvironment,
    Lifecycle,
    NetworkExposure,
    RegulatoryScope,
)
from shared.database import Tx, cause_of

_asset = asset_table.c
_KEY_FIELDS = frozenset(
    {"model_name", "model_provider", "api_endpoint", "deployment_env", "name", "asset_type", "owner_team"}
)


@dataclass(frozen=True, slots=True)
class Known:
    """An asset with the risk that was last told of it, None before the first assessment."""

    asset: Asset
    risk_score: float | None = None
    risk_level: str | None = None


KNOWN = sa.select(asset_table, risk_table.c.risk_score, risk_table.c.risk_level).select_from(
    asset_table.outerjoin(risk_table, risk_table.c.asset_id == _asset.asset_id)
)
"""Rows for `known`."""


def known(row: Any) -> Known:
    """A row of KNOWN as what it means."""
    return Known(asset_of(row), row.risk_score, row.risk_level)


def asset_of(row: Any) -> Asset:
    """A row of the asset table as an asset."""
    return Asset(
        asset_id=row.asset_id,
        version=row.version,
        name=row.name,
        asset_type=AssetType(row.asset_type),
        description=row.description,
        owner_team=row.owner_team,
        owner_email=row.owner_email,
        data_classification=DataClassification(row.data_classification),
        deployment_env=DeploymentEnvironment(row.deployment_env),
        regulatory_scope=tuple(RegulatoryScope(scope) for scope in row.regulatory_scope),
        model_provider=row.model_provider,
        model_name=row.model_name,
        model_version=row.model_version,
        is_self_hosted=row.is_self_hosted,
        parameter_count=row.parameter_count,
        source_url=row.source_url,
        license_type=row.license_type,
        last_security_review=row.last_security_review,
        sbom_available=row.sbom_available,
        api_endpoint=row.api_endpoint,
        cloud_provider=row.cloud_provider,
        cloud_region=row.cloud_region,
        network_exposure=NetworkExposure(row.network_exposure),
        upstream_assets=tuple(row.upstream_assets),
        downstream_assets=tuple(row.downstream_assets),
        purpose=row.purpose,
        authorized_tools=tuple(row.authorized_tools),
        integrity=tuple(Digest(**item) for item in row.integrity),
        sources=tuple(
            AttributeSource(item["attribute"], SourceKind(item["kind"]), item["locator"]) for item in row.sources
        ),
        lifecycle=Lifecycle(row.lifecycle),
        compliance_status=row.compliance_status,
        registered_date=row.registered_date,
        registered_by=row.registered_by,
        last_updated=row.last_updated,
    )


def column_values(asset: Asset, names: Collection[str]) -> dict[str, Any]:
    """The asset's fields of those names as the table holds them."""
    values: dict[str, Any] = {}
    for name in names:
        value = getattr(asset, name)
        if name in ("integrity", "sources"):
            value = as_json(value)
        elif isinstance(value, tuple):
            value = list(value)
        values[name] = value
    return values


_FIELDS = tuple(column.name for column in asset_table.columns if column.name != "duplicate_key")


_COLUMNS = ", ".join((*_FIELDS, "duplicate_key"))
_PLACES = ", ".join(f"${number}" for number in range(1, len(_FIELDS) + 2))
_UPSTREAM, _DOWNSTREAM = (f"${_FIELDS.index(name) + 1}" for name in ("upstream_assets", "downstream_assets"))
_REGISTERED = f"${_FIELDS.index('registered_date') + 1}::timestamptz"
_ADD = f"""
    done AS (
        INSERT INTO asset ({_COLUMNS}) VALUES ({_PLACES})
        ON CONFLICT (duplicate_key) WHERE lifecycle <> 'retired' DO NOTHING RETURNING asset_id
    ),
    edges AS (
        INSERT INTO dependency (downstream_id, upstream_id, relation, source, locator, valid_from)
        SELECT asset_id, unnest({_UPSTREAM}::uuid[]), 'depends_on', '{UPSTREAM_ASSETS}', '', {_REGISTERED} FROM done
        UNION ALL
        SELECT unnest({_DOWNSTREAM}::uuid[]), asset_id, 'depends_on', '{DOWNSTREAM_ASSETS}', '', {_REGISTERED} FROM done
    )
"""  # noqa: S608  # the names of our own columns


async def add(tx: Tx, caller: Caller, asset: Asset, event: AssetRegistered) -> bool:
    """Store a new asset with its edges, announce it and audit it; False, and nothing done, when a living asset has its
    key.

    Waits for a twin that is being registered at this moment. It is one statement, so `tx` need be no transaction.
    """
    values = column_values(asset, _FIELDS)
    for name in ("integrity", "sources"):
        values[name] = orjson.dumps(values[name]).decode()
    return await atomic.change(
        tx,
        _ADD,
        (*values.values(), key_of(asset)),
        event=event,
        caller=caller,
        action="asset.registered",
        target=str(asset.asset_id),
        detail={"name": asset.name, "asset_type": asset.asset_type.value},
        owner_team=asset.owner_team,
    )


async def save(tx: Tx, before: Asset, after: Asset) -> None:
    """Store what a change made of an asset whose row this transaction has locked.

    Raises:
        KeyTaken: the change gives it the key of another living asset.
    """
    changed = [name for name in _FIELDS if getattr(before, name) != getattr(after, name)]
    if not changed:
        return
    values = column_values(after, changed)
    if _KEY_FIELDS.intersection(changed):
        values["duplicate_key"] = key_of(after)
    try:
        await tx.execute(asset_table.update().where(_asset.asset_id == after.asset_id).values(values))
    except sqlalchemy.exc.IntegrityError as error:
        cause = cause_of(error)
        if isinstance(cause, asyncpg.UniqueViolationError) and cause.constraint_name == "asset_duplicate_key":
            raise KeyTaken("another asset has this name, provider, endpoint and environment") from error
        raise
    if "owner_team" in changed:
        await risk.change_owner(tx, after.asset_id, after.owner_team)
    if {"upstream_assets", "downstream_assets"}.intersection(changed):
        await graph.change_record(tx, before, after)


async def get(tx: Tx, caller: Caller, asset_id: UUID, *, lock: bool = False) -> Known:
    """The asset, its row locked until the transaction ends if asked for.

    Raises:
        AssetNotFound: there is none, or it is not this caller's to see.
    """
    stmt = KNOWN.where(_asset.asset_id == asset_id).where(visible(caller, _asset.owner_team))
    row = (await tx.execute(stmt.with_for_update(of=asset_table) if lock else stmt)).first()
    if row is None:
        raise AssetNotFound(f"there is no asset {asset_id}")
    return known(row)


async def get_by_key(tx: Tx, key: bytes) -> Known | None:
    """The living asset with that key, its row locked; None when it was retired a moment ago."""
    stmt = KNOWN.where(_asset.duplicate_key == key).where(LIVING).with_for_update(of=asset_table)
    row = (await tx.execute(stmt)).first()
    return None if row is None else known(row)


async def get_many(tx: Tx, caller: Caller, asset_ids: Collection[UUID]) -> list[Known]:
    """Those of the assets that the caller may see, by id."""
    stmt = KNOWN.where(among(_asset.asset_id, asset_ids)).where(visible(caller, _asset.owner_team))
    return [known(row) for row in await tx.execute(stmt.order_by(_asset.asset_id))]


async def touch(tx: Tx, asset_ids: Collection[UUID], at: datetime) -> None:
    """Note that the assets were heard of; no change of theirs, so their versions stay."""
    if asset_ids:
        await tx.execute(asset_table.update().where(among(_asset.asset_id, asset_ids)).values(last_updated=at))


async def foreign(tx: Tx, caller: Caller, asset_ids: Collection[UUID]) -> set[UUID]:
    """Those of the ids that are assets which the caller may not see."""
    if caller.organization_wide or not asset_ids:
        return set()
    stmt = sa.select(_asset.asset_id).where(among(_asset.asset_id, asset_ids))
    return set(await tx.scalars(stmt.where(~visible(caller, _asset.owner_team))))


async def add_change(
    tx: Tx, asset: Asset, *, actor: str, action: str, detail: Mapping[str, Any], changes: Sequence[Change]
) -> None:
    """Write into the asset's history how it came to its present version."""
    await tx.execute(
        change_table.insert().values(
            asset_id=asset.asset_id,
            version=asset.version,
            at=asset.last_updated,
            actor=actor,
            action=action,
            detail=dict(detail),
            changes=[{"field": change.field, "old": change.old, "new": change.new} for change in changes],
        )
    )


async def history(tx: Tx, asset: Asset, *, before_version: int | None, limit: int) -> list[dict[str, Any]]:
    """The asset's changes, newest first, its registration last.

    The registration has no row of its own (a hundred thousand imported assets would have as many): version 1 is what
    the asset's own row says of who registered it and when.
    """
    stmt = sa.select(change_table).where(change_table.c.asset_id == asset.asset_id)
    if before_version is not None:
        stmt = stmt.where(change_table.c.version < before_version)
    rows = (await tx.execute(stmt.order_by(change_table.c.version.desc()).limit(limit))).all()
    entries = [
        {
            "version": row.version,
            "at": row.at,
            "actor": row.actor,
            "action": row.action,
            "detail": row.detail,
            "changes": row.changes,
        }
        for row in rows
    ]
    if len(entries) < limit and (before_version is None or before_version > 1):
        entries.append(
            {
                "version": 1,
                "at": asset.registered_date,
                "actor": asset.registered_by,
                "action": "registered",
                "detail": {},
                "changes": [],
            }
        )
    return entries
