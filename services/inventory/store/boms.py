"""Bills of materials: those supplied, those kept for comparison, and what one is written from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.inventory.domain.asset import Asset
from services.inventory.domain.bom import Edge, Peer
from services.inventory.domain.bom.facts import merged
from services.inventory.domain.relations import ends
from services.inventory.store.assets import asset_of
from services.inventory.store.schema import (
    HOLDS,
    among,
    asset_table,
    bom_document_table,
    bom_table,
    dependency_table,
    model_card_table,
)
from shared.auth import Caller, visible
from shared.contracts.inventory import AssetType, Lifecycle, Relation
from shared.database import Tx

KEPT = 20
"""Bills of one asset that are kept for comparison, the newest."""

_asset = asset_table.c
_edge = dependency_table.c
_kept = bom_document_table.c


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


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of an asset's bill before a change: whether one was supplied, its card's facts, the newest kept."""

    supplied: bool
    facts: Mapping[str, Any]
    number: int
    parts: Mapping[str, Mapping[str, str]] | None


async def standing(tx: Tx, asset_id: UUID) -> Standing:
    """In one query: each change of an asset asks for it."""
    card = sa.select(model_card_table).where(model_card_table.c.asset_id == asset_id).subquery()
    last = (
        sa.select(_kept.number, _kept.parts)
        .where(_kept.asset_id == asset_id)
        .order_by(_kept.number.desc())
        .limit(1)
        .subquery()
    )
    query = sa.select(
        sa.exists().where(bom_table.c.asset_id == asset_id).label("supplied"),
        card.c.declared,
        card.c.inferred,
        last.c.number,
        last.c.parts,
    ).select_from(sa.select(sa.literal(1)).subquery().outerjoin(card, sa.true()).outerjoin(last, sa.true()))
    row = (await tx.execute(query)).one()
    return Standing(row.supplied, merged(row.declared or {}, row.inferred or {}), row.number or 0, row.parts)


# -- kept for comparison -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kept:
    """A bill that is kept.

    Attributes:
        asset_id: whose it is; None when it is of nothing that the inventory keeps.
        number: counts the bills of that asset, from 1.
        origin: supplied, or made by us.
        document: as it was sent; None of one that we made.
        parts: bom.parts_of the document.
    """

    bom_id: UUID
    asset_id: UUID | None
    number: int
    origin: str
    owner_team: str
    digest: str
    spec_version: str
    components: int
    document: bytes | None
    parts: Mapping[str, Mapping[str, str]]
    stored_at: datetime
    stored_by: str


async def keep(tx: Tx, bill: Kept) -> None:
    """Keep a bill, and of its asset no more than the newest KEPT."""
    await tx.execute(bom_document_table.insert().values({name: getattr(bill, name) for name in bill.__slots__}))
    if bill.asset_id is not None and bill.number > KEPT:
        old = (_kept.asset_id == bill.asset_id) & (_kept.number <= bill.number - KEPT)
        await tx.execute(bom_document_table.delete().where(old))


async def newest(tx: Tx, asset_id: UUID) -> Kept | None:
    query = sa.select(bom_document_table).where(_kept.asset_id == asset_id).order_by(_kept.number.desc()).limit(1)
    row = (await tx.execute(query)).first()
    return None if row is None else Kept(**row._mapping)


async def kept(tx: Tx, asset_id: UUID, numbers: Collection[int]) -> dict[int, Kept]:
    query = sa.select(bom_document_table).where(_kept.asset_id == asset_id, _kept.number.in_(numbers))
    return {row.number: Kept(**row._mapping) for row in await tx.execute(query)}


async def versions(tx: Tx, asset_id: UUID) -> list[Any]:
    """The kept bills of an asset, newest first, without their documents; there are no more than KEPT."""
    columns = [column for column in bom_document_table.columns if column.name not in ("document", "parts")]
    query = sa.select(*columns).where(_kept.asset_id == asset_id).order_by(_kept.number.desc())
    return list((await tx.execute(query)).all())


def _seen(caller: Caller) -> sa.ColumnElement[bool]:
    owner = sa.func.coalesce(_asset.owner_team, _kept.owner_team)
    return visible(caller, owner)


_DOCUMENTS = bom_document_table.outerjoin(asset_table, _asset.asset_id == _kept.asset_id)


async def supplied(tx: Tx, caller: Caller, *, before: UUID | None, limit: int) -> list[Any]:
    """What was supplied and the caller may see, newest first, without the documents."""
    columns = [column for column in bom_document_table.columns if column.name not in ("document", "parts")]
    query = sa.select(*columns).select_from(_DOCUMENTS).where(_kept.origin == "supplied", _seen(caller))
    if before is not None:
        query = query.where(_kept.bom_id < before)
    return list((await tx.execute(query.order_by(_kept.bom_id.desc()).limit(limit))).all())


async def document(tx: Tx, caller: Caller, bom_id: UUID) -> bytes | None:
    """A supplied document as it was sent, if the caller may see it."""
    query = sa.select(_kept.document).select_from(_DOCUMENTS).where(_kept.bom_id == bom_id, _seen(caller))
    return await tx.scalar(query)


# -- what a bill is written from ---------------------------------------------------------------------------------------


async def edges(tx: Tx, asset_ids: Iterable[UUID]) -> list[Edge]:
    """The edges that make these assets depend on others: (subject, relation, object)."""
    query = sa.select(_edge.relation, _edge.upstream_id, _edge.downstream_id).distinct()
    rows = await tx.execute(query.where(among(_edge.downstream_id, asset_ids), HOLDS))
    found = []
    for row in rows:
        relation = Relation(row.relation)
        subject, of = ends(relation, row.upstream_id, row.downstream_id)
        found.append((subject, relation, of))
    return found


async def peers(tx: Tx, caller: Caller, asset_ids: Collection[UUID]) -> dict[UUID, Peer]:
    """Those of the assets that are living and that the caller may see, as a component shows another."""
    if not asset_ids:
        return {}
    query = sa.select(
        _asset.asset_id,
        _asset.asset_type,
        _asset.name,
        _asset.model_name,
        _asset.model_version,
        _asset.model_provider,
    ).where(
        among(_asset.asset_id, asset_ids),
        _asset.lifecycle != Lifecycle.RETIRED,
        visible(caller, _asset.owner_team),
    )
    return {row.asset_id: Peer(row[0], AssetType(row[1]), *row[2:]) for row in await tx.execute(query)}


async def living(tx: Tx, caller: Caller, *, after: UUID | None, limit: int) -> list[Asset]:
    """Assets that are not retired and that the caller may see, by id."""
    query = sa.select(asset_table).where(_asset.lifecycle != Lifecycle.RETIRED, visible(caller, _asset.owner_team))
    if after is not None:
        query = query.where(_asset.asset_id > after)
    return [asset_of(row) for row in await tx.execute(query.order_by(_asset.asset_id).limit(limit))]
