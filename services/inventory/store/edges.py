"""Edges of one asset, and what differs between two times."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services.inventory.domain.graph import Direction, Neighbourhood
from services.inventory.domain.relations import Edge, EdgeNotFound, KnownEdge
from services.inventory.store.graph import edge_of, held, read_nodes
from services.inventory.store.schema import HOLDS, dependency_table
from shared.auth import Caller
from shared.contracts.inventory import Relation
from shared.database import Tx, driver

_edge = dependency_table.c


async def edges_of(
    tx: Tx,
    asset_id: UUID,
    *,
    direction: Direction = Direction.BOTH,
    relations: Collection[Relation] = (),
    as_of: datetime | None = None,
    after: UUID | None = None,
    limit: int,
) -> list[KnownEdge]:
    """Up to `limit` edges of the asset that hold, or held at `as_of`, in the order of their ids.

    Args:
        direction: UPSTREAM for those along which harm reaches the asset, DOWNSTREAM for those along which it goes on.
        relations: only these; all when empty.
    """
    sides = {
        Direction.UPSTREAM: [_edge.downstream_id],
        Direction.DOWNSTREAM: [_edge.upstream_id],
        Direction.BOTH: [_edge.downstream_id, _edge.upstream_id],
    }[direction]
    conditions = [held(as_of)]
    if relations:
        conditions.append(_edge.relation.in_([relation.value for relation in relations]))
    if after is not None:
        conditions.append(_edge.edge_id > after)
    parts = [sa.select(dependency_table).where(side == asset_id, *conditions) for side in sides]
    found = sa.union_all(*parts).subquery()
    rows = await tx.execute(sa.select(found).order_by(found.c.edge_id).limit(limit))
    return [edge_of(row._mapping) for row in rows]


async def get_edge(tx: Tx, asset_id: UUID, edge_id: UUID) -> KnownEdge:
    """The edge, whether or not it holds.

    Raises:
        EdgeNotFound: there is none, or the asset is neither of its ends.
    """
    stmt = sa.select(dependency_table).where(_edge.edge_id == edge_id)
    row = (await tx.execute(stmt.where(sa.or_(_edge.upstream_id == asset_id, _edge.downstream_id == asset_id)))).first()
    if row is None:
        raise EdgeNotFound(f"{asset_id} has no edge {edge_id}")
    return edge_of(row._mapping)


async def holding(tx: Tx, edge: Edge) -> KnownEdge | None:
    """The stored edge with these ends, relation and source that holds now."""
    stmt = sa.select(dependency_table).where(
        _edge.downstream_id == edge.downstream_id,
        _edge.upstream_id == edge.upstream_id,
        _edge.relation == edge.relation.value,
        _edge.source == edge.source,
        HOLDS,
    )
    row = (await tx.execute(stmt)).first()
    return None if row is None else edge_of(row._mapping)


async def nodes_of(tx: Tx, caller: Caller, asset_ids: Iterable[UUID]) -> Neighbourhood:
    """What the caller may know of these assets."""
    found = Neighbourhood(UUID(int=0))
    await read_nodes(tx, caller, found, list(dict.fromkeys(asset_ids)), None)
    return found


class Difference(StrEnum):
    """What differs between an earlier and a later time."""

    ASSET_REGISTERED = "asset_registered"
    ASSET_RETIRED = "asset_retired"
    EDGE_OPENED = "edge_opened"
    EDGE_CLOSED = "edge_closed"


_KINDS = tuple(Difference)


@dataclass(frozen=True, slots=True)
class Differing:
    """One thing that is at one of the times and not at the other; `edge` or `asset_id` says which."""

    at: datetime
    kind: Difference
    asset_id: UUID | None
    edge: KnownEdge | None

    @property
    def position(self) -> tuple[str, int, UUID]:
        """What `after` is for the page behind it."""
        own = self.edge.edge_id if self.edge is not None else self.asset_id
        assert own is not None
        return self.at.isoformat(), _KINDS.index(self.kind), own


def _part(kind: Difference, table: str, at: str, own: str, where: str) -> str:
    number = _KINDS.index(kind)
    names = ("upstream_id", "relation", "source", "locator", "valid_from", "valid_to", "downstream_id")
    kinds = ("uuid", "text", "text", "text", "timestamptz", "timestamptz", "uuid")
    shown = ", ".join(f"NULL::{type_} AS {name}" for name, type_ in zip(names, kinds, strict=True))
    if own == "edge_id":
        shown = ", ".join(names)
    return f"""
        (
            SELECT {at} AS at, {number} AS kind, {own} AS id, {shown} FROM {table} item
            WHERE {at} > $1 AND {at} <= $2 AND {at} >= $3
              AND ({at} > $3 OR {number} > $4::int OR {number} = $4::int AND {own} > $5::uuid) AND {where}
            ORDER BY {at}, {own} LIMIT $6
        )
    """  # noqa: S608  # our own text


# The same statement of the same source: an edge that ended and began again within the window makes no difference.
# Looked up edge by edge, each part in an index of its own, until the page is full: as NOT EXISTS it would become a
# join of all edges.
_SAME = """
    (
        SELECT true FROM dependency other
        WHERE other.downstream_id = item.downstream_id AND other.upstream_id = item.upstream_id
          AND other.relation = item.relation AND other.source = item.source AND other.valid_from <= {0} AND {1}
        LIMIT 1
    ) IS NULL
"""


def _not_at(time_: str) -> str:
    now = _SAME.format(time_, "other.valid_to IS NULL")
    return f"{now} AND {_SAME.format(time_, f'other.valid_to IS NOT NULL AND other.valid_to > {time_}')}"


_OPENED = f"(valid_to IS NULL OR valid_to > $2) AND {_not_at('$1')}"
_CLOSED = f"valid_to IS NOT NULL AND valid_from <= $1 AND {_not_at('$2')}"
_REGISTERED = "NOT (lifecycle = 'retired' AND last_updated <= $2)"
_RETIRED = "lifecycle = 'retired' AND registered_date <= $1"

# A team's part is found from its assets, few among many; everybody's in the order of time.
_TOUCHING = """
    WITH mine AS MATERIALIZED (SELECT asset_id FROM asset WHERE owner_team = ANY($7::text[])),
    touching AS MATERIALIZED (
        SELECT edge.* FROM mine JOIN dependency edge ON upstream_id = asset_id AND valid_to IS NULL
        UNION SELECT edge.* FROM mine JOIN dependency edge ON downstream_id = asset_id AND valid_to IS NULL
        UNION SELECT edge.* FROM mine JOIN dependency edge ON upstream_id = asset_id AND valid_to IS NOT NULL
        UNION SELECT edge.* FROM mine JOIN dependency edge ON downstream_id = asset_id AND valid_to IS NOT NULL
    )
"""


def _diff(edges: str, also: str) -> str:
    parts = (
        _part(Difference.ASSET_REGISTERED, "asset", "registered_date", "asset_id", _REGISTERED + also),
        _part(Difference.ASSET_RETIRED, "asset", "last_updated", "asset_id", _RETIRED + also),
        _part(Difference.EDGE_OPENED, edges, "valid_from", "edge_id", _OPENED),
        _part(Difference.EDGE_CLOSED, edges, "valid_to", "edge_id", _CLOSED),
    )
    return f"SELECT * FROM ({' UNION ALL '.join(parts)}) AS differing ORDER BY at, kind, id LIMIT $6"  # noqa: S608


_DIFF_OF_ALL = _diff("dependency", "")
_DIFF_OF_TEAMS = _TOUCHING + _diff("touching", " AND owner_team = ANY($7::text[])")


async def diff(
    tx: Tx, caller: Caller, since: datetime, until: datetime, *, after: Sequence[Any] | None, limit: int
) -> list[Differing]:
    """What is at `until` and was not at `since`, and the other way round, in the order of time.

    To a caller bound to teams: their assets, and edges with one of them at an end.
    """
    at, kind, own = (since, -1, UUID(int=0)) if after is None else (datetime.fromisoformat(after[0]), *after[1:])
    values: list[Any] = [since, until, at, kind, own if isinstance(own, UUID) else UUID(own), limit]
    statement = _DIFF_OF_ALL
    if caller.teams is not None:
        statement = _DIFF_OF_TEAMS
        values.append(sorted(caller.teams))
    rows = await (await driver(tx)).fetch(statement, *values)
    return [
        Differing(
            row["at"],
            _KINDS[row["kind"]],
            None if row["upstream_id"] else row["id"],
            edge_of(dict(row) | {"edge_id": row["id"]}) if row["upstream_id"] else None,
        )
        for row in rows
    ]
