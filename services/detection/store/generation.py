"""How often what replicas keep in memory has changed: they look at it to know when to load anew."""

from __future__ import annotations

import sqlalchemy as sa

from services.detection.store.tables import generation_table
from shared.database import Tx


async def current(tx: Tx) -> tuple[int, int]:
    """How often rules and containments have changed."""
    row = (await tx.execute(sa.select(generation_table))).one()
    return row.rules, row.containments


async def move(tx: Tx, what: str) -> None:
    """Tell every replica that `rules` or `containments` changed, when the transaction commits."""
    await tx.execute(generation_table.update().values({what: generation_table.c[what] + 1}))
