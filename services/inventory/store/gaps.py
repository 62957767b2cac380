"""The compliance gaps of the whole estate."""

from __future__ import annotations

from datetime import date, timedelta
from uuid import UUID

import sqlalchemy as sa

from services.inventory.domain.gaps import STALE_AFTER_DAYS, Gap
from services.inventory.store.schema import GAP_CONDITIONS, LIVING, asset_table
from shared.auth import Caller, visible
from shared.database import Tx

_asset = asset_table.c


def _condition(gap: Gap, as_of: date) -> sa.TextClause:
    condition = GAP_CONDITIONS[gap]
    if gap is Gap.STALE_REVIEW:
        # Nothing is older than the first days that there are.
        stale_before = as_of - min(timedelta(days=STALE_AFTER_DAYS), as_of - date.min)
        return sa.text(condition.text).bindparams(sa.bindparam("stale_before", stale_before, sa.Date))
    return condition


async def count(tx: Tx, caller: Caller, as_of: date) -> dict[Gap, int]:
    """How many living assets have each gap on that day, in one pass over what the caller sees."""
    columns = [sa.func.count().filter(_condition(gap, as_of)).label(gap.value) for gap in Gap]
    stmt = sa.select(*columns).select_from(asset_table).where(LIVING, visible(caller, _asset.owner_team))
    row = (await tx.execute(stmt)).one()
    return {gap: int(row._mapping[gap.value]) for gap in Gap}


async def ids(tx: Tx, caller: Caller, gap: Gap, as_of: date, *, after: UUID | None, limit: int) -> list[UUID]:
    """Up to `limit` living assets with that gap, in the order of registration."""
    stmt = sa.select(_asset.asset_id).where(LIVING, _condition(gap, as_of), visible(caller, _asset.owner_team))
    if after is not None:
        stmt = stmt.where(_asset.asset_id > after)
    return list(await tx.scalars(stmt.order_by(_asset.asset_id).limit(limit)))
