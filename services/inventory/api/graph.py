"""/v1/assets/{id}: edges, dependencies, impact; /v1/graph/diff: what differs between two times."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import Query
from pydantic import ConfigDict, Field, StringConstraints
from starlette.responses import JSONResponse, Response

from services.inventory.api.models import Instant
from services.inventory.application import graph as use_cases
from services.inventory.domain import graph
from services.inventory.domain.asset import AssetNotFound
from services.inventory.domain.graph import Direction, Impact, Neighbourhood, Touched, id_text
from services.inventory.domain.relations import DECLARED_SOURCES, KnownEdge
from services.inventory.store import assets as assets_store
from services.inventory.store import edges as store
from services.inventory.store import walk
from services.inventory.store.assets import Known
from services.inventory.store.edges import Difference, Differing
from services.inventory.store.graph import neighbourhood
from shared.auth import requires
from shared.contracts.inventory import (
    AssetType,
    DataClassification,
    DeploymentEnvironment,
    Lifecycle,
    Relation,
)
from shared.contracts.risk import RiskLevel
from shared.database import Tx
from shared.errors import Invalid
from shared.http import reply
from shared.models import In, Out, PageOf
from shared.paging import Page, PageRequest, page_up_to
from shared.service import router as make_router
from shared.work import UnitOfWork, Work

router = make_router("/v1", "graph")

DEPTH_LIMIT = 50

AsOf = Annotated[
    Instant | None, Query(description="The graph as it was at that time, with its offset from UTC; now when left out.")
]
Depth = Annotated[int, Query(ge=1, le=DEPTH_LIMIT, description="Steps to go at most.")]


class EdgeIn(In):
    """How the asset is related to another: it is the subject, `to` the object."""

    relation: Relation
    to: UUID
    locator: Annotated[str, StringConstraints(strip_whitespace=True, max_length=2_048)] = Field(
        default="", description="Where that can be seen: a file and line, an ARN, a page."
    )


class EndView(Out):
    """An end of an edge; of one that you may not see, only that it is `restricted`."""

    id: UUID
    name: str | None = None
    type: AssetType | None = None
    owner_team: str | None = None
    lifecycle: Lifecycle | None = None
    restricted: bool = False
    missing: bool = Field(default=False, description="No asset has this id.")

    @classmethod
    def of(cls, asset_id: UUID, known: Neighbourhood) -> EndView:
        if asset_id in known.restricted:
            return cls(id=asset_id, restricted=True)
        node = known.nodes.get(asset_id)
        if node is None:
            return cls(id=asset_id, missing=True)
        return cls(
            id=asset_id, name=node.name, type=node.asset_type, owner_team=node.owner_team, lifecycle=node.lifecycle
        )


class EdgeView(Out):
    """A relation between two assets, `from` its subject and `to` its object, as one source states it."""

    model_config = ConfigDict(serialize_by_alias=True)

    edge_id: UUID
    relation: Relation
    from_: EndView = Field(alias="from")
    to: EndView
    upstream_id: UUID = Field(description="The end that harm comes from.")
    downstream_id: UUID = Field(description="The end that harm reaches.")
    source: str = Field(
        description="`declared`; `upstream_assets` or `downstream_assets` of an end's record; or a discovery source."
    )
    declared: bool = Field(description="A person said so.")
    locator: str = Field(description="Where it can be seen; empty where an end is restricted.")
    valid_from: datetime
    valid_to: datetime | None = Field(description="Null while it holds.")

    @classmethod
    def of(cls, known: KnownEdge, ends: Neighbourhood) -> EdgeView:
        edge = known.edge
        walled = edge.from_id in ends.restricted or edge.to_id in ends.restricted
        return cls.model_validate(
            {
                "edge_id": known.edge_id,
                "relation": edge.relation,
                "from": EndView.of(edge.from_id, ends),
                "to": EndView.of(edge.to_id, ends),
                "upstream_id": edge.upstream_id,
                "downstream_id": edge.downstream_id,
                "source": edge.source,
                "declared": edge.source in DECLARED_SOURCES,
                "locator": "" if walled else edge.locator,
                "valid_from": known.valid_from,
                "valid_to": known.valid_to,
            }
        )


def _ends(edges: list[KnownEdge]) -> list[UUID]:
    return [asset_id for known in edges for asset_id in (known.edge.from_id, known.edge.to_id)]


@router.post(
    "/assets/{asset_id:uuid}/edges",
    status_code=201,
    response_model=EdgeView,
    responses={200: {"model": EdgeView, "description": "It was stated before; this is it."}},
)
@requires("inventory:write")
async def add_edge(asset_id: UUID, body: EdgeIn, work: Work) -> Response:
    """State how the asset is related to another.

    Depending on another team's asset is free; an edge along which harm would reach another team's asset is refused.
    """

    async def state(tx: Tx) -> tuple[EdgeView, bool]:
        stored, new = await use_cases.add_edge(
            tx, work.caller, asset_id, body.relation, body.to, body.locator, datetime.now(UTC)
        )
        return EdgeView.of(stored, await store.nodes_of(tx, work.caller, _ends([stored]))), new

    return await work.run(state, lambda done: reply(done[0], status=201 if done[1] else 200))


@router.get("/assets/{asset_id:uuid}/edges", response_model=PageOf[EdgeView])
@requires("inventory:read")
async def list_edges(
    asset_id: UUID,
    work: Work,
    page: Page,
    relation: Annotated[Relation | None, Query()] = None,
    direction: Annotated[
        Direction, Query(description="upstream: harm reaches this asset along it; downstream: harm goes on along it.")
    ] = Direction.BOTH,
    as_of: AsOf = None,
) -> Response:
    """The asset's edges, oldest first, each as often as sources state it."""
    after = UUID(page.after[0]) if page.after else None

    async def read(tx: Tx) -> tuple[list[KnownEdge], Neighbourhood]:
        await assets_store.get(tx, work.caller, asset_id)
        found = await store.edges_of(
            tx,
            asset_id,
            direction=direction,
            relations=() if relation is None else (relation,),
            as_of=as_of,
            after=after,
            limit=page.limit + 1,
        )
        return found, await store.nodes_of(tx, work.caller, _ends(found))

    found, ends = await work.read(read)
    items, cursor = page.cut(found, "edge_id")
    return reply(PageOf[EdgeView](items=[EdgeView.of(known, ends) for known in items], next_cursor=cursor))


@router.delete("/assets/{asset_id:uuid}/edges/{edge_id:uuid}", status_code=204)
@requires("inventory:write")
async def close_edge(asset_id: UUID, edge_id: UUID, work: Work) -> Response:
    """Let an edge that somebody stated hold no more; it stays visible to `as_of`.

    409 for edges that an asset's own record or a discovery source keeps: change that record, or what was discovered.
    """
    return await work.run(
        lambda tx: use_cases.close_edge(tx, work.caller, asset_id, edge_id, datetime.now(UTC)),
        lambda _: reply(None, status=204),
    )


_TREE = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "name": {"type": "string"},
        "type": {"type": "string"},
        "owner_team": {"type": "string"},
        "lifecycle": {"type": "string"},
        "risk_level": {"type": ["string", "null"]},
        "upstream": {"type": "array", "items": {"type": "object"}},
        "downstream": {"type": "array", "items": {"type": "object"}},
        "relations": {
            "type": "array",
            "items": {"type": "string"},
            "description": "What binds it to the entry above, unless that is plain dependency.",
        },
        "circular": {"type": "boolean", "description": "Its own ancestor in this tree."},
        "missing": {"type": "boolean", "description": "No asset has this id."},
        "restricted": {"type": "boolean", "description": "An asset that you may not see."},
        "repeated": {"type": "boolean", "description": "Opened elsewhere in this tree, nearer to the root."},
        "truncated": {"type": "boolean", "description": "More follows, behind the depth or the bound of the walk."},
    },
}


async def _known_then(tx: Tx, work: UnitOfWork, asset_id: UUID, as_of: datetime | None) -> Known:
    known = await assets_store.get(tx, work.caller, asset_id)
    if as_of is not None and known.asset.registered_date > as_of:
        raise AssetNotFound(f"{asset_id} was registered only at {known.asset.registered_date.isoformat()}")
    return known


@router.get(
    "/assets/{asset_id:uuid}/dependencies",
    responses={200: {"description": "The tree.", "content": {"application/json": {"schema": _TREE}}}},
)
@requires("inventory:read")
async def read_dependencies(
    asset_id: UUID,
    work: Work,
    direction: Annotated[Direction, Query(description="both gives the root two branches.")] = Direction.BOTH,
    depth: Depth = 10,
    as_of: AsOf = None,
) -> Response:
    """What the asset depends on (upstream), and what depends on it (downstream), as a tree."""
    wanted = [Direction.UPSTREAM, Direction.DOWNSTREAM] if direction is Direction.BOTH else [direction]

    async def read(tx: Tx) -> dict[str, Any]:
        await _known_then(tx, work, asset_id, as_of)
        shown: dict[str, Any] = {}
        for way in wanted:
            shown |= graph.tree(await neighbourhood(tx, work.caller, asset_id, way, depth, as_of), way, depth)
        return shown

    return JSONResponse(await work.read(read))


class NodeView(Out):
    """An asset in the graph."""

    id: UUID
    name: str
    type: AssetType
    owner_team: str
    data_classification: DataClassification
    deployment_env: DeploymentEnvironment
    lifecycle: Lifecycle
    risk_score: float | None
    risk_level: RiskLevel | None
    distance: int = Field(description="Steps from the asset asked about.")
    relation: Relation = Field(description="Along which harm takes the last step of the path.")
    path: list[UUID] = Field(description="The shortest way there, the asset asked about first.")


class ImpactView(Out):
    """The blast radius: everything that depends on the asset, directly or not, nearest first, a page at a time.

    The counts, `owners`, `missing` and `truncated` are of the whole, on every page.
    """

    asset_id: UUID
    as_of: datetime | None
    impacted: list[NodeView]
    impacted_count: int
    owners: dict[str, int] = Field(description="Team -> how many of the impacted assets it owns.")
    missing: list[UUID] = Field(description="Named as dependents, but no asset has the id.")
    restricted_count: int = Field(description="Directly reached assets that you may not see.")
    truncated: bool = Field(description="There is more, behind the depth or the bound of the walk.")
    next_cursor: str | None


IMPACT_PAGE = 1_000
IMPACT_PAGE_LIMIT = 10_000


@router.get("/assets/{asset_id:uuid}/impact", response_model=ImpactView)
@requires("inventory:read")
async def read_impact(
    asset_id: UUID,
    work: Work,
    page: Annotated[PageRequest, page_up_to(IMPACT_PAGE_LIMIT, IMPACT_PAGE)],
    depth: Depth = 20,
    as_of: AsOf = None,
) -> Response:
    """What would feel it if this asset failed or were compromised."""
    after = (int(page.after[0]), UUID(page.after[1])) if page.after else None

    async def read(tx: Tx) -> tuple[Impact, dict[bytes, Any], dict[bytes, Any]]:
        await _known_then(tx, work, asset_id, as_of)
        return await walk.impact(tx, work.caller, asset_id, depth, walk.Window(after, page.limit + 1), as_of)

    found, shown, risks = await work.read(read)
    touched = found.page(after, page.limit + 1)
    items = touched[: page.limit]
    more = len(touched) > page.limit
    document = {
        "asset_id": asset_id,
        "as_of": as_of,
        "impacted": [_node(item, shown[item.asset_id], risks.get(item.asset_id, _NO_RISK)) for item in items],
        "impacted_count": found.count,
        "owners": found.owners,
        "missing": found.missing,
        "restricted_count": found.restricted,
        "truncated": found.truncated,
        "next_cursor": page.cursor(items[-1].distance, id_text(items[-1].asset_id)) if more else None,
    }
    # Ten thousand items through pydantic take longer than finding them.
    return Response(orjson.dumps(document), media_type="application/json")


_NO_RISK = (None, None)


def _node(item: Touched, row: Any, risk: Any) -> dict[str, Any]:
    _, owner_team, name, asset_type, data_classification, deployment_env, lifecycle, _, _ = row
    *_, risk_score, risk_level = risk
    return {
        "id": item.path[-1],
        "name": name,
        "type": asset_type,
        "owner_team": owner_team,
        "data_classification": data_classification,
        "deployment_env": deployment_env,
        "lifecycle": lifecycle,
        "risk_score": risk_score,
        "risk_level": risk_level,
        "distance": item.distance,
        "relation": item.relation,
        "path": item.path,
    }


class DifferenceView(Out):
    """One thing that is at one of the two times and not at the other."""

    at: datetime
    kind: Difference
    asset: EndView | None = Field(description="What was registered or retired.")
    edge: EdgeView | None = Field(description="What was opened or closed.")


@router.get("/graph/diff", response_model=PageOf[DifferenceView])
@requires("inventory:read")
async def read_diff(
    work: Work,
    page: Page,
    since: Annotated[Instant, Query(alias="from", description="The earlier time, with its offset from UTC.")],
    until: Annotated[Instant | None, Query(alias="to", description="The later time; now when left out.")] = None,
) -> Response:
    """How the graph at one time differs from that at an earlier one, in the order in which it came to do so.

    What came and went in between, or went and came back, makes no difference.
    """
    # The later time must be the same on all pages, or cursors would be for another list.
    later = until or (datetime.fromisoformat(page.after[3]) if page.after else datetime.now(UTC))
    if later < since:
        raise Invalid("the later time lies before the earlier one", field="to")

    async def read(tx: Tx) -> tuple[list[Differing], Neighbourhood]:
        after = page.after[:3] if page.after else None
        found = await store.diff(tx, work.caller, since, later, after=after, limit=page.limit + 1)
        ids = _ends([item.edge for item in found if item.edge is not None])
        ids += [item.asset_id for item in found if item.asset_id is not None]
        return found, await store.nodes_of(tx, work.caller, ids)

    found, known = await work.read(read)
    items = found[: page.limit]
    cursor = page.cursor(*items[-1].position, later.isoformat()) if len(found) > page.limit else None
    return reply(
        PageOf[DifferenceView](
            items=[
                DifferenceView(
                    at=item.at,
                    kind=item.kind,
                    asset=None if item.asset_id is None else EndView.of(item.asset_id, known),
                    edge=None if item.edge is None else EdgeView.of(item.edge, known),
                )
                for item in items
            ],
            next_cursor=cursor,
        )
    )
