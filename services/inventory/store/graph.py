"""The graph: edges in and out, and what lies around an asset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
import uuid_utils.compat as uuid_utils

from services.inventory.domain.asset import Asset
from services.inventory.domain.graph import Direction, Neighbourhood, Node
from services.inventory.domain.relations import DOWNSTREAM_ASSETS, UPSTREAM_ASSETS, Edge, KnownEdge, ends
from services.inventory.store.schema import among, asset_table, dependency_table, risk_table
from shared import outbox
from shared.auth import Caller
from shared.contracts.inventory import (
    AssetType,
    DataClassification,
    DeploymentEnvironment,
    EdgeClosed,
    EdgeEvent,
    EdgeOpened,
    EdgeSnapshot,
    Lifecycle,
    Relation,
)
from shared.database import Tx, driver

NODES_LIMIT = 5_000
EDGES_LIMIT = 50_000
"""Most that one tree shows; beyond, it says that it is cut. A blast radius goes further: store/walk.py."""

_edge = dependency_table.c
_asset = asset_table.c


# In the order of the unique index, so that two who write the same edges wait for one another instead of deadlocking.
_GIVEN = """
    SELECT DISTINCT ON (downstream_id, upstream_id, relation, source) *
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::uuid[])
        AS given (upstream_id, downstream_id, relation, source, locator, edge_id)
    ORDER BY downstream_id, upstream_id, relation, source
"""
_LINK = f"""
    INSERT INTO dependency (upstream_id, downstream_id, relation, source, locator, edge_id, valid_from)
    SELECT given.*, $7::timestamptz FROM ({_GIVEN}) given
    ON CONFLICT (downstream_id, upstream_id, relation, source) WHERE valid_to IS NULL DO NOTHING
    RETURNING *
"""  # noqa: S608  # our own text
_UNLINK = f"""
    UPDATE dependency SET valid_to = greatest(valid_from, $7::timestamptz)
    FROM (
        SELECT holding.edge_id FROM ({_GIVEN}) given
        JOIN dependency holding USING (downstream_id, upstream_id, relation, source)
        WHERE holding.valid_to IS NULL
        ORDER BY downstream_id, upstream_id, relation, source
        FOR UPDATE OF holding
    ) AS ending
    WHERE dependency.edge_id = ending.edge_id AND valid_to IS NULL
    RETURNING dependency.*
"""  # noqa: S608  # our own text


def _columns(edges: Iterable[Edge]) -> list[list[Any]]:
    rows = [
        (
            *ends(edge.relation, edge.from_id, edge.to_id),
            edge.relation.value,
            edge.source,
            edge.locator,
            uuid_utils.uuid7(),
        )
        for edge in edges
        if edge.from_id != edge.to_id
    ]
    return [list(column) for column in zip(*rows, strict=True)]


async def link(tx: Tx, edges: Sequence[Edge], at: datetime) -> int:
    """Let the edges hold from `at` on and announce those that did not hold; returns how many these are.

    An edge is known by its ends, relation and source. One that holds already is left alone, also when it was found at
    another place: it keeps its first locator. An edge from an asset to itself is passed over.
    """
    columns = _columns(edges)
    if not columns:
        return 0
    opened = await (await driver(tx)).fetch(_LINK, *columns, at)
    await outbox.add(tx, *(_announced(EdgeOpened, edge_of(row), at) for row in opened))
    return len(opened)


async def unlink(tx: Tx, edges: Sequence[Edge], at: datetime) -> int:
    """Let the edges hold no more from `at` on and announce it; returns how many did hold. Locators do not matter."""
    columns = _columns(edges)
    if not columns:
        return 0
    closed = await (await driver(tx)).fetch(_UNLINK, *columns, at)
    await outbox.add(tx, *(_announced(EdgeClosed, edge_of(row), at) for row in closed))
    return len(closed)


def edge_of(row: Any) -> KnownEdge:
    """A row of the dependency table as what it means."""
    relation = Relation(row["relation"])
    from_id, to_id = ends(relation, row["upstream_id"], row["downstream_id"])
    edge = Edge(from_id, to_id, relation, row["source"], row["locator"])
    return KnownEdge(row["edge_id"], edge, row["valid_from"], row["valid_to"])


def _announced(event: type[EdgeEvent], known: KnownEdge, at: datetime) -> EdgeEvent:
    edge = known.edge
    snapshot = EdgeSnapshot(
        edge_id=known.edge_id,
        from_id=edge.from_id,
        to_id=edge.to_id,
        relation=edge.relation,
        upstream_id=edge.upstream_id,
        downstream_id=edge.downstream_id,
        source=edge.source,
        locator=edge.locator,
        valid_from=known.valid_from,
        valid_to=known.valid_to,
    )
    return event(version=1 if event is EdgeOpened else 2, occurred_at=at, edge=snapshot)


async def change_record(tx: Tx, before: Asset, after: Asset) -> None:
    """Let the edges that the asset's own record states follow a change of it; the change itself is announced."""
    gone = _of_record(before) - _of_record(after)
    new = _of_record(after) - _of_record(before)
    connection = await driver(tx)
    for statement, edges in ((_UNLINK, gone), (_LINK, new)):
        if edges:
            listed = [Edge(subject, of, Relation.DEPENDS_ON, source, "") for subject, of, source in edges]
            await connection.execute(statement, *_columns(listed), after.last_updated)


def _of_record(asset: Asset) -> set[tuple[UUID, UUID, str]]:
    own = asset.asset_id
    return {(own, other, UPSTREAM_ASSETS) for other in asset.upstream_assets} | {
        (other, own, DOWNSTREAM_ASSETS) for other in asset.downstream_assets
    }


async def neighbourhood(
    tx: Tx, caller: Caller, root: UUID, direction: Direction, depth: int, as_of: datetime | None = None
) -> Neighbourhood:
    """What lies up to `depth` steps from `root`, and the edges one step further, so that it shows where more follows.

    With `as_of`, the edges that held then between assets that were registered then; what is told of an asset is always
    what is known of it now.

    One query a level rather than one recursive query: each asset's edges are read once however many ways lead to it,
    where a recursion that carries its depth reads them once a depth, and a wall (an asset of another team) stops the
    walk at once.
    """
    graph = Neighbourhood(root)
    await read_nodes(tx, caller, graph, [root], as_of)
    seen = {root}
    frontier = [root]
    edges = 0
    for level in range(depth + 1):
        opened = [asset_id for asset_id in frontier if asset_id in graph.nodes]
        if not opened or edges > EDGES_LIMIT:
            break
        following = await _edges(tx, opened, direction, EDGES_LIMIT + 1, as_of)
        edges += len(following)
        graph.neighbours.update((asset_id, []) for asset_id in opened)
        for here, there, relations in following:
            graph.neighbours[here].append(there)
            graph.relations[here, there] = tuple(Relation(relation) for relation in relations)
        frontier = [asset_id for asset_id in dict.fromkeys(there for _, there, _ in following) if asset_id not in seen]
        seen.update(frontier)
        room = 0 if level == depth else max(0, NODES_LIMIT - len(seen))
        graph.unread.update(frontier[room:])
        frontier = frontier[:room]
        await read_nodes(tx, caller, graph, frontier, as_of)
    return graph


def held(as_of: datetime | None) -> sa.ColumnElement[bool]:
    """The condition on an edge that it holds, or held at that time."""
    if as_of is None:
        return _edge.valid_to.is_(None)
    # Written as two cases, each of which has its own partial indexes.
    return sa.and_(
        _edge.valid_from <= as_of,
        sa.or_(_edge.valid_to.is_(None), sa.and_(_edge.valid_to.is_not(None), _edge.valid_to > as_of)),
    )


async def _edges(
    tx: Tx, from_ids: list[UUID], direction: Direction, limit: int, as_of: datetime | None
) -> list[tuple[UUID, UUID, list[str]]]:
    here, there = (
        (_edge.downstream_id, _edge.upstream_id)
        if direction is Direction.UPSTREAM
        else (_edge.upstream_id, _edge.downstream_id)
    )
    relations = sa.func.array_agg(sa.distinct(_edge.relation))
    stmt = sa.select(here, there, relations).where(among(here, from_ids), held(as_of)).group_by(here, there)
    return [(row[0], row[1], row[2]) for row in await tx.execute(stmt.order_by(here, there).limit(limit))]


async def read_nodes(
    tx: Tx, caller: Caller, graph: Neighbourhood, asset_ids: list[UUID], as_of: datetime | None
) -> None:
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
    if as_of is not None:
        stmt = stmt.where(_asset.registered_date <= as_of)
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
