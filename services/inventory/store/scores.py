"""How complete bills of materials are, as last judged, and which are to be judged anew."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services.inventory.domain.asset import Asset
from services.inventory.store.assets import asset_of
from services.inventory.store.schema import asset_table, bom_score_table
from shared.auth import Caller, visible
from shared.contracts.inventory import Lifecycle
from shared.database import Tx, driver

_asset = asset_table.c
_score = bom_score_table.c

_PUT = """
    INSERT INTO bom_score (asset_id, owner_team, score, missing, scored_at)
    SELECT asset_id, owner_team, score, string_to_array(missing, ' '), scored_at
    FROM unnest($1::uuid[], $2::text[], $3::smallint[], $4::text[], $5::timestamptz[])
        AS judged (asset_id, owner_team, score, missing, scored_at)
    ON CONFLICT (asset_id) DO UPDATE SET owner_team = excluded.owner_team, score = excluded.score,
        missing = excluded.missing, scored_at = excluded.scored_at
"""


async def lowest(tx: Tx, caller: Caller, *, after: Sequence[Any] | None, limit: int) -> list[Any]:
    """Living assets that the caller may see, the least complete first."""
    query = (
        sa.select(
            _score.asset_id,
            _score.score,
            _score.missing,
            _score.scored_at,
            _asset.name,
            _asset.asset_type,
            _asset.owner_team,
        )
        .select_from(bom_score_table.join(asset_table, _asset.asset_id == _score.asset_id))
        .where(_asset.lifecycle != Lifecycle.RETIRED, visible(caller, _asset.owner_team))
        .order_by(_score.score, _score.asset_id)
        .limit(limit)
    )
    if caller.teams is not None:
        query = query.where(_score.owner_team.in_(sorted(caller.teams)))
    if after is not None:
        edge = sa.tuple_(sa.literal(int(after[0]), sa.SmallInteger), sa.literal(UUID(after[1]), sa.Uuid))
        query = query.where(sa.tuple_(_score.score, _score.asset_id) > edge)
    return list((await tx.execute(query)).all())


async def unjudged(tx: Tx, late: timedelta, limit: int) -> list[Asset]:
    """Assets that changed since they were judged, or never were, in the order of their changes.

    Looked for from `late` before the newest change that was judged: transactions end in another order than they begin.
    """
    newest = await tx.scalar(sa.select(sa.func.max(_score.scored_at)))
    query = (
        sa.select(asset_table)
        .select_from(asset_table.outerjoin(bom_score_table, _asset.asset_id == _score.asset_id))
        .where(_score.asset_id.is_(None) | (_score.scored_at != _asset.last_updated))
        .order_by(_asset.last_updated, _asset.asset_id)
        .limit(limit)
    )
    if newest is not None:
        query = query.where(_asset.last_updated >= newest - late)
    return [asset_of(row) for row in await tx.execute(query)]


async def put(tx: Tx, judged: Sequence[tuple[UUID, str, int, Sequence[str], datetime]]) -> None:
    columns = [list(column) for column in zip(*judged, strict=True)]
    columns[3] = [" ".join(missing) for missing in columns[3]]
    await (await driver(tx)).execute(_PUT, *columns)
