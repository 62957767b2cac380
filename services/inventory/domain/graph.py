"""What depends on what: the tree below an asset, and what an asset's failure would touch.

Both work on a `Neighbourhood`, the part of the graph that store has read; nothing here asks for more. Edges are
facts of the two ends whoever declared them, so an edge written as A's upstream or as B's downstream is the same edge.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from shared.contracts.inventory import (
    AssetType,
    DataClassification,
    DeploymentEnvironment,
    Lifecycle,
    Relation,
)


class Direction(StrEnum):
    UPSTREAM = "upstream"
    DOWNSTREAM = "downstream"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Node:
    """What the graph shows of an asset."""

    asset_id: UUID
    name: str
    asset_type: AssetType
    owner_team: str
    data_classification: DataClassification
    deployment_env: DeploymentEnvironment
    lifecycle: Lifecycle
    risk_score: float | None
    risk_level: str | None


@dataclass(slots=True)
class Neighbourhood:
    """The graph around one asset in one direction.

    Attributes:
        neighbours: of each asset whose edges were read, the ids one step on, in a stable order.
        nodes: the assets that the caller may see.
        restricted: ids that exist and that the caller may not see; their edges are not read.
        relations: of each read edge, what its ends are to one another.
        unread: ids that lie behind the depth or the bound; what they are is not known here.
    """

    root: UUID
    neighbours: dict[UUID, list[UUID]] = field(default_factory=dict)
    nodes: dict[UUID, Node] = field(default_factory=dict)
    restricted: set[UUID] = field(default_factory=set)
    unread: set[UUID] = field(default_factory=set)
    relations: dict[tuple[UUID, UUID], tuple[Relation, ...]] = field(default_factory=dict)


def tree(graph: Neighbourhood, direction: Direction, depth: int) -> dict[str, Any]:
    """The root with what lies `depth` steps on: {id, name, type, <direction>: [...]}.

    A node that is its own ancestor is {id, circular: true}; an id that no asset has is {id, missing: true}; one that
    the caller may not see is {id, restricted: true}. A node to which several ways lead (no circle) is opened once, at
    its shortest distance, and marked `repeated` elsewhere, or a lattice would be printed once for every path through
    it. An entry that more than plain dependency binds to its parent says how in `relations`. Where the depth or the
    bound stops the walk and more follows, the node is marked `truncated`.
    """
    distance = _distances(graph)
    opened: set[UUID] = set()

    def walk(asset_id: UUID, ancestors: frozenset[UUID], level: int) -> dict[str, Any]:
        shown = str(asset_id)
        if asset_id in ancestors:
            return {"id": shown, "circular": True}
        if asset_id in graph.restricted:
            return {"id": shown, "restricted": True}
        if asset_id in graph.unread:
            return {"id": shown, "truncated": True}
        node = graph.nodes.get(asset_id)
        if node is None:
            return {"id": shown, "missing": True}
        entry: dict[str, Any] = {
            "id": shown,
            "name": node.name,
            "type": node.asset_type.value,
            "owner_team": node.owner_team,
            "lifecycle": node.lifecycle.value,
            "risk_level": node.risk_level,
            direction.value: [],
        }
        following = graph.neighbours.get(asset_id)
        if asset_id in opened or level > distance[asset_id]:
            if following:
                entry["repeated"] = True
        elif level == depth or following is None:
            # Not read means that the bound was met before this node; read and empty means that nothing follows.
            if following is None or following:
                entry["truncated"] = True
        else:
            opened.add(asset_id)
            line = ancestors | {asset_id}
            entry[direction.value] = [
                walk(neighbour, line, level + 1) | _related(graph.relations.get((asset_id, neighbour), ()))
                for neighbour in following
            ]
        return entry

    return walk(graph.root, frozenset(), 0)


def _related(relations: tuple[Relation, ...]) -> dict[str, Any]:
    if set(relations) <= {Relation.DEPENDS_ON}:
        return {}
    return {"relations": [relation.value for relation in relations]}


def _distances(graph: Neighbourhood) -> Mapping[UUID, int]:
    distance = {graph.root: 0}
    queue = deque([graph.root])
    while queue:
        here = queue.popleft()
        for neighbour in graph.neighbours.get(here, ()):
            if neighbour not in distance:
                distance[neighbour] = distance[here] + 1
                queue.append(neighbour)
    return distance


class Touched(NamedTuple):
    """An asset that would feel it. A plain tuple: ten thousand are made for one answer.

    Attributes:
        relation: along which harm takes the last step.
        path: the shortest way there, the failing asset first, as texts of ids.
    """

    asset_id: bytes
    relation: str
    path: tuple[str, ...]

    @property
    def distance(self) -> int:
        return len(self.path) - 1


@dataclass(slots=True)
class Impact:
    """The blast radius of one asset: everything downstream of it, nearest first and then by id.

    Ids are the sixteen bytes of the UUID: there may be a hundred thousand, of which few are shown.

    Attributes:
        levels: ids at each distance from 1 on.
        came_from: of each id, the one before it on a shortest way, and the relation of that step.
        owners: team -> how many of them it owns; complete.
        missing: ids that are named as dependents and that no asset has.
        restricted: directly reached assets that the caller may not see.
        truncated: there is more, behind the depth or the bound of the walk.
    """

    root: UUID
    levels: list[list[bytes]] = field(default_factory=list)
    came_from: dict[bytes, tuple[bytes, str]] = field(default_factory=dict)
    owners: dict[str, int] = field(default_factory=dict)
    missing: list[UUID] = field(default_factory=list)
    restricted: int = 0
    truncated: bool = False

    @property
    def count(self) -> int:
        return sum(map(len, self.levels))

    def page(self, after: tuple[int, UUID] | None, limit: int) -> list[Touched]:
        """Up to `limit` of the touched, from behind `after` (distance and id of the one before)."""
        start, behind = (1, b"") if after is None else (after[0], after[1].bytes)
        taken: list[bytes] = []
        for ids in self.levels[start - 1 :]:
            first = bisect_right(ids, behind) if behind else 0
            taken += ids[first : first + limit - len(taken)]
            behind = b""
            if len(taken) == limit:
                break
        paths: dict[bytes, tuple[str, ...]] = {self.root.bytes: (str(self.root),)}
        return [Touched(asset_id, self.came_from[asset_id][1], self._path(paths, asset_id)) for asset_id in taken]

    def _path(self, known: dict[bytes, tuple[str, ...]], to: bytes) -> tuple[str, ...]:
        steps = []
        while to not in known:
            steps.append(to)
            to = self.came_from[to][0]
        for step in reversed(steps):
            known[step] = (*known[to], id_text(step))
            to = step
        return known[to]


def id_text(asset_id: bytes) -> str:
    """The id as people write it; a fifth of what UUID takes."""
    digits = asset_id.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
