"""What is known for the model cards of assets."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.inventory.domain.bom.facts import merged
from services.inventory.store.schema import among, model_card_table
from shared.database import Tx

_card = model_card_table.c


@dataclass(frozen=True, slots=True)
class Card:
    """The facts for one asset's card.

    Attributes:
        version: grows by one a change; 0 of a card that was never written.
        declared: what people said, which wins; inferred: what sources say.
        sources: field -> {kind, locator, at} of what is inferred.
    """

    asset_id: UUID
    version: int
    declared: Mapping[str, Any]
    inferred: Mapping[str, Any]
    sources: Mapping[str, Any]
    updated_at: datetime | None
    updated_by: str

    @property
    def facts(self) -> dict[str, Any]:
        return merged(self.declared, self.inferred)


async def get(tx: Tx, asset_id: UUID) -> Card:
    """The asset's card; an empty one where nothing is known."""
    row = (await tx.execute(sa.select(model_card_table).where(_card.asset_id == asset_id))).first()
    return Card(asset_id, 0, {}, {}, {}, None, "") if row is None else Card(**row._mapping)


async def facts_of(tx: Tx, asset_ids: Collection[UUID]) -> dict[UUID, dict[str, Any]]:
    """The facts of those of the assets that have any."""
    if not asset_ids:
        return {}
    query = sa.select(_card.asset_id, _card.declared, _card.inferred).where(among(_card.asset_id, asset_ids))
    return {row.asset_id: merged(row.declared, row.inferred) for row in await tx.execute(query)}


async def put(tx: Tx, card: Card) -> None:
    values = {name: getattr(card, name) for name in card.__slots__}
    stmt = insert(model_card_table).values(values)
    await tx.execute(stmt.on_conflict_do_update(index_elements=["asset_id"], set_=values))
