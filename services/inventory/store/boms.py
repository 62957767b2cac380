"""Bills of materials that somebody supplied."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.inventory.store.schema import bom_table
from shared.database import Tx


@dataclass(frozen=True, slots=True)
class StoredBom:
    """A document as it was sent, and what is known of it without reading it."""

    asset_id: UUID
    document: bytes
    digest: str
    spec_version: str
    components: int
    stored_at: datetime
    stored_by: str


async def put(tx: Tx, bom: StoredBom) -> bool:
    """Keep the document in place of any before; True when there was none."""
    values = {name: getattr(bom, name) for name in bom.__slots__}
    stmt = insert(bom_table).values(values)
    replaced = {name: value for name, value in values.items() if name != "asset_id"}
    stmt = stmt.on_conflict_do_update(index_elements=["asset_id"], set_=replaced)
    # xmax is 0 in a row that this statement inserted and not in one that it updated.
    return bool(await tx.scalar(stmt.returning(sa.text("xmax = 0"))))


async def get(tx: Tx, asset_id: UUID) -> StoredBom | None:
    row = (await tx.execute(sa.select(bom_table).where(bom_table.c.asset_id == asset_id))).first()
    return None if row is None else StoredBom(**row._mapping)
