"""Assets: copies of what inventory says of them, and how each is watched."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.detection.domain.assets import Asset, Mode
from services.detection.domain.similarity import Fragment
from services.detection.store import alerts
from services.detection.store.tables import asset_copy_table, asset_watch_table
from shared.auth import Caller, visible
from shared.bulk import upsert_newer
from shared.contracts.inventory import AssetSnapshot, AssetType, DataClassification, Lifecycle
from shared.database import Tx, driver


@dataclass(frozen=True, slots=True)
class Watched:
    """An asset as inspections need it: the copy of its record, its mode, its registered prompt fragments."""

    asset: Asset
    mode: Mode
    fragments: tuple[Fragment, ...]
    version: int


async def put(tx: Tx, assets: Iterable[AssetSnapshot]) -> None:
    newest = {asset.asset_id: asset for asset in sorted(assets, key=lambda asset: asset.version)}
    rows = [
        {
            "asset_id": asset.asset_id,
            "version": asset.version,
            "name": asset.name,
            "owner_team": asset.owner_team,
            "asset_type": asset.asset_type.value,
            "data_classification": asset.data_classification.value,
            "lifecycle": asset.lifecycle.value,
            "authorized_tools": orjson.dumps(asset.authorized_tools).decode(),
        }
        for asset in sorted(newest.values(), key=lambda asset: asset.asset_id)
    ]
    await upsert_newer(tx, asset_copy_table, rows)


_FOLLOW_OWNER = """
    UPDATE {table} SET owner_team = owner.team
    FROM unnest($1::uuid[], $2::text[]) AS owner (asset_id, team)
    WHERE {table}.{column} = owner.asset_id{cast} AND {table}.owner_team <> owner.team
"""
_FOLLOW_OWNERS = (
    _FOLLOW_OWNER.format(table="alert", column="asset_id", cast=""),
    _FOLLOW_OWNER.format(table="containment", column="target", cast="::text AND target_kind = 'asset'"),
)


async def follow_owners(tx: Tx, assets: Iterable[AssetSnapshot]) -> None:
    """Alerts and containments of an asset belong to whoever owns it now, also those older than we knew of it.

    Holds the lock on alerts until the transaction ends: alerts that fold are rows of the same table in another order.
    """
    await alerts.lock(tx)
    newest = {asset.asset_id: asset.owner_team for asset in sorted(assets, key=lambda asset: asset.version)}
    owners = sorted(newest.items())
    connection = await driver(tx)
    for statement in _FOLLOW_OWNERS:
        await connection.execute(statement, [asset_id for asset_id, _ in owners], [team for _, team in owners])


async def watched(tx: Tx, asset_id: UUID) -> Watched | None:
    """An asset and how it is watched; None when it is not known here."""
    watch = asset_watch_table
    query = sa.select(
        asset_copy_table,
        watch.c.mode,
        watch.c.fragments,
        sa.func.coalesce(watch.c.version, 0).label("watch_version"),
    ).select_from(asset_copy_table.outerjoin(watch, watch.c.asset_id == asset_copy_table.c.asset_id))
    row = (await tx.execute(query.where(asset_copy_table.c.asset_id == asset_id))).first()
    if row is None:
        return None
    asset = Asset(
        asset_id=row.asset_id,
        version=row.version,
        name=row.name,
        owner_team=row.owner_team,
        asset_type=AssetType(row.asset_type),
        data_classification=DataClassification(row.data_classification),
        lifecycle=Lifecycle(row.lifecycle),
        authorized_tools=frozenset(orjson.loads(row.authorized_tools)),
    )
    mode = Mode(row.mode) if row.mode else Mode.ENFORCE
    return Watched(asset, mode, tuple(tuple(one) for one in row.fragments or ()), row.watch_version)


async def hidden(tx: Tx, caller: Caller, asset_ids: Collection[UUID]) -> set[UUID]:
    """Those of the assets that the caller may not know of, among them those that nobody knows here."""
    copy = asset_copy_table.c
    query = sa.select(copy.asset_id).where(copy.asset_id.in_(asset_ids), visible(caller, copy.owner_team))
    return set(asset_ids) - set((await tx.execute(query)).scalars())


async def lock(tx: Tx, asset_id: UUID) -> None:
    """Let nobody else change how an asset is watched until the transaction ends."""
    await tx.execute(sa.select(asset_copy_table.c.asset_id).filter_by(asset_id=asset_id).with_for_update())


async def put_watch(
    tx: Tx, asset_id: UUID, version: int, mode: Mode, fragments: Sequence[Fragment], at: datetime, by: str
) -> None:
    values: dict[str, Any] = {"version": version, "mode": mode.value, "updated_at": at, "updated_by": by}
    values["fragments"] = [list(fragment) for fragment in fragments]
    new = insert(asset_watch_table).values(asset_id=asset_id, **values)
    await tx.execute(new.on_conflict_do_update(index_elements=["asset_id"], set_=values))


async def named(tx: Tx, caller: Caller, names: Collection[str]) -> dict[str, UUID]:
    """The assets of these names, where the caller may see exactly one of a name that is not retired."""
    copy = asset_copy_table.c
    known = copy.name.in_(names) & (copy.lifecycle != Lifecycle.RETIRED.value)
    query = sa.select(copy.name, sa.func.min(copy.asset_id.cast(sa.Text)).label("asset_id"))
    query = query.where(known, visible(caller, copy.owner_team)).group_by(copy.name).having(sa.func.count() == 1)
    return {row.name: UUID(row.asset_id) for row in await tx.execute(query)}
