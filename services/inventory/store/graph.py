"""The dependency graph around an asset."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa

from services.inventory.domain.graph import Direction, Neighbourhood, Node
from services.inventory.store.schema import among, asset_table, dependency_table, risk_table
from shared.auth import Caller
from shared.contracts.inventory import AssetType, DataClassification, DeploymentEnvironment, Lifecycle
from shared.database import Tx

NODES_LIMIT = 5_000
EDGES_LIMIT = 50_000
"""Most that one walk reads; beyond, the answer says that it is cut."""

_edge = dependency_table.c
_asset = asset_table.c


async def neighbourhood(tx: Tx, caller: Caller, root: UUID, direction: Direction, depth: int) -> Neighbourhood:
    """What lies up to `depth` steps from `root`, and the edges one step further, so that it shows where more follows.

    One query a level rather than one recursive query: each asset's edges are read once however many ways lead to it,
    where a recursion that carries its depth reads them once a depth, and a wall (an asset of another team) stops the
    walk at once.
    """
    graph = Neighbourhood(root)
    await _read_nodes(tx, caller, graph, [root])
    seen = {root}
    frontier = [root]
    edges = 0
    for level in range(depth + 1):
        opened = [asset_id for asset_id in frontier if asset_id in graph.nodes]
        if not opened or edges > EDGES_LIMIT:
            break
        following = await _edges(tx, opened, direction, EDGES_LIMIT + 1)
        edges += len(following)
        graph.neighbours.update((asset_id, []) for asset_id in opened)
        for here, there in following:
            graph.neighbours[here].append(there)
        frontier = [asset_id for asset_id in dict.fromkeys(there for _, there in following) if asset_id not in seen]
        seen.update(frontier)
        room = 0 if level == depth else max(0, NODES_LIMIT - len(seen))
        graph.unread.update(frontier[room:])
        frontier = frontier[:room]
        await _read_nodes(tx, caller, graph, frontier)
    return graph


async def _edges(tx: Tx, from_ids: list[UUID], direction: Direction, limit: int) -> list[tuple[UUID, UUID]]:
    here, there = (
        (_edge.downstream_id, _edge.upstream_id)
        if direction is Direction.UPSTREAM
        else (_edge.upstream_id, _edge.downstream_id)
    )
    stmt = sa.select(here, there).where(among(here, from_ids)).distinct().order_by(here, there).limit(limit)
    return [(row[0], row[1]) for row in await tx.execute(stmt)]


async def _read_nodes(tx: Tx, caller: Caller, graph: Neighbourhood, asset_ids: list[UUID]) -> None:
    if not asset_ids:
        return
    stmt = sa.select(
        _asset.asset_id,
        _asset.name,
        _asset.asset_type,
        _asset.owner_team,
        _asset.data_classification,
        _asset.deployment_env,
        _asset.lifecycle,
        risk_table.c.risk_score,
        risk_table.c.risk_level,
    ).select_from(asset_table.outerjoin(risk_table, risk_table.c.asset_id == _asset.asset_id))
    for row in await tx.execute(stmt.where(among(_asset.asset_id, asset_ids))):
        if not caller.sees(row.owner_team):
            graph.restricted.add(row.asset_id)
            continue
        graph.nodes[row.asset_id] = Node(
            asset_id=row.asset_id,
            name=row.name,
            asset_type=AssetType(row.asset_type),
            owner_team=row.owner_team,
            data_classification=DataClassification(row.data_classification),
            deployment_env=DeploymentEnvironment(row.deployment_env),
            lifecycle=Lifecycle(row.lifecycle),
            risk_score=row.risk_score,
            risk_level=row.risk_level,
        )
