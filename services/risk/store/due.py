"""Which assets are due for another look, in pages of ids."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from uuid import UUID

import sqlalchemy as sa

from services.risk.store.tables import asset_copy
from shared.contracts.inventory import Lifecycle
from shared.database import Tx


async def in_estate(tx: Tx, *, after: UUID | None, limit: int) -> Sequence[UUID]:
    """Assets that are not retired, in order of ids."""
    return await _page(tx, asset_copy.c.lifecycle != Lifecycle.RETIRED, after, limit)


async def active(tx: Tx, *, after: UUID | None, limit: int) -> Sequence[UUID]:
    """Assets to which something happens, in order of ids."""
    return await _page(tx, asset_copy.c.active, after, limit)


async def grown_stale(tx: Tx, *, on: date, after: UUID | None, limit: int) -> Sequence[UUID]:
    """Assets that are not retired, whose review became old by that day and that were not assessed since, in order of
    ids."""
    grown = sa.and_(asset_copy.c.review_stale_on <= on, asset_copy.c.lifecycle != Lifecycle.RETIRED)
    return await _page(tx, grown, after, limit)


async def _page(tx: Tx, which: sa.ColumnElement[bool], after: UUID | None, limit: int) -> Sequence[UUID]:
    ids = sa.select(asset_copy.c.asset_id).where(which).order_by(asset_copy.c.asset_id).limit(limit)
    if after is not None:
        ids = ids.where(asset_copy.c.asset_id > after)
    return (await tx.scalars(ids)).all()
