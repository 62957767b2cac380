"""How often what replicas keep in memory has changed: they look at it to know when to load anew."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from services.detection.store.tables import generation_table
from shared.database import Tx


async def current(tx: Tx) -> Mapping[str, int]:
    """How often `rules`, `containments` and `suppressions` have changed."""
    row = (await tx.execute(sa.select(generation_table))).one()
    return {name: value for name, value in row._mapping.items() if name not in ("singleton", "pack")}


async def move(tx: Tx, what: str) -> int:
    """Tell every replica that one of them changed, when the transaction commits; the number it has then."""
    moved = generation_table.update().values({what: generation_table.c[what] + 1})
    return int(await tx.scalar(moved.returning(generation_table.c[what])) or 0)


async def pack_revision(tx: Tx) -> int:
    """Revision of the pack of rules that was brought in last; 0 before there were any."""
    return int(await tx.scalar(sa.select(generation_table.c.pack)) or 0)


async def set_pack_revision(tx: Tx, revision: int) -> None:
    await tx.execute(generation_table.update().values(pack=revision))
