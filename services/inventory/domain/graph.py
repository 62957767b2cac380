"""What depends on what: the tree below an asset, and what an asset's failure would touch.

Both work on a `Neighbourhood`, the part of the graph that store has read; nothing here asks for more. Edges are
facts of the two ends whoever declared them, so an edge written as A's upstream or as B's downstream is the same edge.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

from shared.contracts.inventory import (
    AssetType,
    DataClassification,
    DeploymentEnvironment,
    Lifecycle,
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
        unread: ids that lie behind the depth or the bound; what they are is not known here.
    """

    root: UUID
    neighbours: dict[UUID, list[UUID]] = field(default_factory=dict)
    nodes: dict[UUID, Node] = field(default_factory=dict)
    restricted: set[UUID] = field(default_factory=set)
    unread: set[UUID] = field(default_factory=set)


def tree(graph: Neighbourhood, direction: Direction, depth: int) -> dict[str, Any]:
    """The root with what lies `depth` steps on: {id, name, type, <direction>: [...]}.

    A node that is its own ancestor is {id, circular: true}; an id that no asset has is {id, missing: true}; one that
    the caller may not see is {id, restricted: true}. A node to which several ways lead (no circle) is opened once, at
    its shortest distance, and marked `repeated` elsewhere, or a lattice would be printed once for every path through
    it. Where the depth or the bound stops the walk and more follows, the node is marked `truncated`.
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
            entry[direction.value] = [walk(neighbour, line, level + 1) for neighbour in following]
        return entry

    return walk(graph.root, frozenset(), 0)


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


@dataclass(frozen=True, slots=True)
class Touched:
    """An asset that would feel it, and the shortest way there, the failing asset first."""

    node: Node
    path: tuple[UUID, ...]

    @property
    def distance(self) -> int:
        return len(self.path) - 1


@dataclass(frozen=True, slots=True)
class Impact:
    """The blast radius of one asset: everything downstream of it, nearest first."""

    asset_id: UUID
    touched: tuple[Touched, ...]
    owners: Mapping[str, int]
    missing: tuple[UUID, ...]
    restricted: int
    truncated: bool


def impact(graph: Neighbourhood) -> Impact:
    """Everything reached from the root along the read edges, each once, by its shortest path."""
    came_from: dict[UUID, UUID | None] = {graph.root: None}
    touched: list[Touched] = []
    missing: list[UUID] = []
    restricted = 0
    queue = deque([graph.root])
    while queue:
        here = queue.popleft()
        for neighbour in graph.neighbours.get(here, ()):
            if neighbour in came_from:
                continue
            came_from[neighbour] = here
            if neighbour in graph.unread:
                continue
            if neighbour in graph.restricted:
                restricted += 1
            elif (node := graph.nodes.get(neighbour)) is None:
                missing.append(neighbour)
            else:
                touched.append(Touched(node, _path(came_from, neighbour)))
                queue.append(neighbour)
    owners: dict[str, int] = {}
    for item in touched:
        owners[item.node.owner_team] = owners.get(item.node.owner_team, 0) + 1
    return Impact(graph.root, tuple(touched), owners, tuple(missing), restricted, bool(graph.unread))


def _path(came_from: Mapping[UUID, UUID | None], to: UUID) -> tuple[UUID, ...]:
    steps = [to]
    while (before := came_from[steps[-1]]) is not None:
        steps.append(before)
    return tuple(reversed(steps))
