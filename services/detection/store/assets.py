"""Assets: copies of what inventory says of them, and how each is watched."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.detection.domain.assets import Asset, FailMode, Handling, Mode, Profile
from services.detection.domain.similarity import Fragment
from services.detection.store import alerts
from services.detection.store.tables import asset_copy_table, asset_watch_table
from shared.auth import Caller, visible
from shared.bulk import upsert_newer
from shared.contracts.inventory import AssetSnapshot, AssetType, DataClassification, Lifecycle
from shared.database import Tx, driver


@dataclass(frozen=True, slots=True)
class Watched:
    """An asset as inspections need it: the copy of its record, how it is handled, its registered prompt fragments.

    `profile` and `fail_mode` are None where nobody declared one, and the installation's default holds.
    """

    asset: Asset
    mode: Mode
    fragments: tuple[Fragment, ...]
    version: int
    profile: Profile | None = None
    fail_mode: FailMode | None = None
    updated_at: datetime | None = None
    updated_by: str | None = None

    def handling(self, default: Handling) -> Handling:
        return Handling(self.mode, self.profile or default.profile, self.fail_mode or default.fail_mode)


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


_WATCHED = sa.select(
    asset_copy_table,
    asset_watch_table.c.mode,
    asset_watch_table.c.profile,
    asset_watch_table.c.fail_mode,
    asset_watch_table.c.fragments,
    asset_watch_table.c.updated_at,
    asset_watch_table.c.updated_by,
    sa.func.coalesce(asset_watch_table.c.version, 0).label("watch_version"),
).select_from(
    asset_copy_table.outerjoin(asset_watch_table, asset_watch_table.c.asset_id == asset_copy_table.c.asset_id)
)


async def watched(tx: Tx, asset_id: UUID) -> Watched | None:
    """An asset and how it is watched; None when it is not known here."""
    row = (await tx.execute(_WATCHED.where(asset_copy_table.c.asset_id == asset_id))).first()
    return None if row is None else _watched(row)


async def page(tx: Tx, caller: Caller, filters: Mapping[str, Any], after: UUID | None, limit: int) -> list[Watched]:
    """Assets that the caller may see with how each is watched, by id, one more than `limit` when there are more.

    Args:
        filters: column of how it is watched -> (the value sought, what stands where nobody declared one).
    """
    query = _WATCHED.where(visible(caller, asset_copy_table.c.owner_team))
    for column, (wanted, default) in filters.items():
        query = query.where(sa.func.coalesce(asset_watch_table.c[column], default) == wanted)
    if after is not None:
        query = query.where(asset_copy_table.c.asset_id > after)
    return [_watched(row) for row in await tx.execute(query.order_by(asset_copy_table.c.asset_id).limit(limit + 1))]


def _watched(row: Any) -> Watched:
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
    return Watched(
        asset=asset,
        mode=Mode(row.mode) if row.mode else Mode.ENFORCE,
        fragments=tuple(tuple(one) for one in row.fragments or ()),
        version=row.watch_version,
        profile=Profile(row.profile) if row.profile else None,
        fail_mode=FailMode(row.fail_mode) if row.fail_mode else None,
        updated_at=row.updated_at,
        updated_by=row.updated_by,
    )


async def hidden(tx: Tx, caller: Caller, asset_ids: Collection[UUID]) -> set[UUID]:
    """Those of the assets that the caller may not know of, among them those that nobody knows here."""
    copy = asset_copy_table.c
    query = sa.select(copy.asset_id).where(copy.asset_id.in_(asset_ids), visible(caller, copy.owner_team))
    return set(asset_ids) - set((await tx.execute(query)).scalars())


async def lock(tx: Tx, asset_id: UUID) -> None:
    """Let nobody else change how an asset is watched until the transaction ends."""
    await tx.execute(sa.select(asset_copy_table.c.asset_id).filter_by(asset_id=asset_id).with_for_update())


async def put_watch(tx: Tx, watched: Watched) -> None:
    """Keep how an asset is watched."""
    values: dict[str, Any] = {
        "version": watched.version,
        "mode": watched.mode.value,
        "profile": watched.profile and watched.profile.value,
        "fail_mode": watched.fail_mode and watched.fail_mode.value,
        "fragments": [list(fragment) for fragment in watched.fragments],
        "updated_at": watched.updated_at,
        "updated_by": watched.updated_by,
    }
    new = insert(asset_watch_table).values(asset_id=watched.asset.asset_id, **values)
    await tx.execute(new.on_conflict_do_update(index_elements=["asset_id"], set_=values))


async def named(tx: Tx, caller: Caller, names: Collection[str]) -> dict[str, UUID]:
    """The assets of these names, where the caller may see exactly one of a name that is not retired."""
    copy = asset_copy_table.c
    known = copy.name.in_(names) & (copy.lifecycle != Lifecycle.RETIRED.value)
    query = sa.select(copy.name, sa.func.min(copy.asset_id.cast(sa.Text)).label("asset_id"))
    query = query.where(known, visible(caller, copy.owner_team)).group_by(copy.name).having(sa.func.count() == 1)
    return {row.name: UUID(row.asset_id) for row in await tx.execute(query)}
