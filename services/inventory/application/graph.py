"""Stating that two assets are related, and that they are no more."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from services.inventory.domain.asset import SelfDependency, WrongState
from services.inventory.domain.relations import (
    DECLARED,
    RECORD_SOURCES,
    Edge,
    EdgeOfRecord,
    ForeignEdge,
    KnownEdge,
    UnknownNeighbour,
)
from services.inventory.store import assets as assets_store
from services.inventory.store import edges as store
from services.inventory.store.graph import link, unlink
from shared import audit
from shared.auth import Caller
from shared.contracts.inventory import Lifecycle, Relation
from shared.database import Tx
from shared.errors import Unavailable


async def add_edge(
    tx: Tx, caller: Caller, asset_id: UUID, relation: Relation, to_id: UUID, locator: str, at: datetime
) -> tuple[KnownEdge, bool]:
    """State that the asset has that relation to another; True when nobody had stated it.

    Raises:
        AssetNotFound, WrongState, SelfDependency.
        UnknownNeighbour: no asset has the other id.
        ForeignEdge: harm would reach an asset of another team.
    """
    current = await assets_store.get(tx, caller, asset_id)
    if current.asset.lifecycle is Lifecycle.RETIRED:
        raise WrongState("a retired asset gets no new edges")
    if to_id == asset_id:
        raise SelfDependency(f"{asset_id} names itself", field="/to")
    edge = Edge(asset_id, to_id, relation, DECLARED, locator)
    known = await store.nodes_of(tx, caller, [to_id])
    if to_id in known.restricted:
        # As with upstream_assets: depending on another team's asset is free, making it depend on mine is not.
        if edge.downstream_id == to_id:
            raise ForeignEdge(f"{to_id} is not yours to describe", field="/to")
    elif to_id not in known.nodes:
        raise UnknownNeighbour(f"there is no asset {to_id}", field="/to")
    # Whoever closes it between our two looks has to be quick several times.
    for _ in range(3):
        new = await link(tx, [edge], at)
        stored = await store.holding(tx, edge)
        if stored is not None:
            if new:
                await _record(tx, caller, "asset.edge_added", stored, asset_id, current.asset.owner_team)
            return stored, bool(new)
    raise Unavailable("this edge is being closed at this moment")


async def close_edge(tx: Tx, caller: Caller, asset_id: UUID, edge_id: UUID, at: datetime) -> None:
    """Let an edge that somebody stated hold no more; nothing to do when it does not.

    Raises:
        AssetNotFound, EdgeNotFound.
        EdgeOfRecord: an asset's own record, or a discovery source, keeps it.
        ForeignEdge: its downstream end is another team's.
    """
    current = await assets_store.get(tx, caller, asset_id)
    known = await store.get_edge(tx, asset_id, edge_id)
    if known.valid_to is not None:
        return
    edge = known.edge
    if edge.source in RECORD_SOURCES:
        where = edge.downstream_id if edge.source == "upstream_assets" else edge.upstream_id
        raise EdgeOfRecord(f"it stands in {edge.source} of {where}; change that")
    if edge.source != DECLARED:
        raise EdgeOfRecord(f"{edge.source} found it and closes it when it no longer does")
    if edge.downstream_id in (await store.nodes_of(tx, caller, [edge.downstream_id])).restricted:
        raise ForeignEdge(f"{edge.downstream_id} is not yours to describe")
    if await unlink(tx, [edge], at):
        await _record(tx, caller, "asset.edge_closed", known, asset_id, current.asset.owner_team)


async def _record(tx: Tx, caller: Caller, action: str, known: KnownEdge, asset_id: UUID, team: str) -> None:
    edge = known.edge
    await audit.record(
        tx,
        caller,
        action=action,
        target=str(asset_id),
        detail={"edge_id": str(known.edge_id), "relation": edge.relation.value, "to": str(edge.to_id)},
        owner_team=team,
    )
