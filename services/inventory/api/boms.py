"""Bills of materials: of one asset, and of the whole organisation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

import orjson
from fastapi import Body, Request
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from services.inventory.application.boms import store_bom
from services.inventory.domain import bom
from services.inventory.domain.graph import Direction
from services.inventory.store import assets as assets_store
from services.inventory.store import boms as store
from services.inventory.store.boms import StoredBom
from services.inventory.store.graph import neighbourhood
from services.inventory.store.search import Search, Sort, find
from shared.auth import requires
from shared.contracts.inventory import Lifecycle
from shared.database import Tx
from shared.http import reply
from shared.models import Out
from shared.service import router as make_router
from shared.work import UnitOfWork, Work

router = make_router("/v1", "bills of materials")

MEDIA_TYPE = "application/vnd.cyclonedx+json"
BOM_LIMIT_BYTES = 8_388_608
_DEPTH = 20
_PAGE = 500

_DOCUMENT: dict[int | str, dict[str, Any]] = {
    200: {"description": "A CycloneDX document.", "content": {MEDIA_TYPE: {"schema": {"type": "object"}}}}
}


class BomReceipt(Out):
    """What was kept of a supplied document."""

    asset_id: UUID
    spec_version: str
    components: int
    sha256: str = Field(description="Of the document as it was sent.")
    stored_at: datetime
    stored_by: str


@router.get("/assets/{asset_id:uuid}/bom", responses=_DOCUMENT, response_class=Response)
@requires("inventory:read")
async def read_bom(asset_id: UUID, work: Work) -> Response:
    """The asset's bill of materials: the one that was supplied, else one made from what the inventory knows."""

    async def read(tx: Tx) -> bytes:
        item = await assets_store.get(tx, work.caller, asset_id)
        stored = await store.get(tx, asset_id)
        if stored is not None:
            return stored.document
        graph = await neighbourhood(tx, work.caller, asset_id, Direction.UPSTREAM, _DEPTH)
        others = await assets_store.get_many(tx, work.caller, graph.nodes.keys() - {asset_id})
        upstream = [other.asset for other in others]
        return orjson.dumps(bom.generate(item.asset, upstream, graph.neighbours, at=datetime.now(UTC)))

    return Response(await work.read(read), media_type=MEDIA_TYPE)


@router.put(
    "/assets/{asset_id:uuid}/bom",
    response_model=BomReceipt,
    responses={201: {"model": BomReceipt, "description": "The asset had none before."}},
    openapi_extra={"requestBody": {"required": True, "content": {MEDIA_TYPE: {"schema": bom.OUTER_SCHEMA}}}},
)
@requires("inventory:write")
async def put_bom(
    asset_id: UUID, document: Annotated[dict[str, Any], Body()], request: Request, work: Work
) -> Response:
    """Keep a CycloneDX JSON document as the asset's bill of materials; it then counts as having one."""
    as_sent = await request.body()
    return await work.run(
        lambda tx: store_bom(tx, work.caller, asset_id, document, as_sent, datetime.now(UTC)),
        lambda result: _receipt(*result),
    )


put_bom.body_limit_bytes = BOM_LIMIT_BYTES  # type: ignore[attr-defined]  # read by shared.http.SecuredRoute


def _receipt(stored: StoredBom, first: bool) -> Response:
    view = BomReceipt(
        asset_id=stored.asset_id,
        spec_version=stored.spec_version,
        components=stored.components,
        sha256=stored.digest,
        stored_at=stored.stored_at,
        stored_by=stored.stored_by,
    )
    return reply(view, status=201 if first else 200)


@router.get("/boms/organization", responses=_DOCUMENT, response_class=StreamingResponse)
@requires("inventory:read")
async def read_organization_bom(work: Work) -> Response:
    """One CycloneDX document of all living assets that you may see, with their dependencies, as a stream."""
    # The first page is read before the answer begins, so that a database that is down is a 503 and no torn document.
    pages = _pages(work)
    first = await anext(pages)
    return StreamingResponse(_organization(first, pages), media_type=MEDIA_TYPE)


async def _pages(work: UnitOfWork) -> AsyncIterator[list[assets_store.Known]]:
    after: tuple[str, ...] | None = None
    while True:

        async def read(tx: Tx, after: tuple[str, ...] | None = after) -> list[assets_store.Known]:
            return await find(tx, work.caller, Search(), sort=Sort.OLDEST, after=after, limit=_PAGE)

        page = await work.read(read)
        yield page
        if len(page) < _PAGE:
            return
        after = (str(page[-1].asset.asset_id),)


async def _organization(
    first: list[assets_store.Known], rest: AsyncIterator[list[assets_store.Known]]
) -> AsyncIterator[bytes]:
    """The document in pieces: components as they are read, then the edges, of which only ids are held meanwhile."""
    head = {
        "$schema": f"http://cyclonedx.org/schema/bom-{bom.SPEC_VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": bom.SPEC_VERSION,
        "serialNumber": f"urn:uuid:{uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(UTC).isoformat(),
            "component": {"type": "platform", "bom-ref": "organization", "name": "AI estate"},
        },
    }
    yield orjson.dumps(head)[:-1] + b',"components":['
    edges: list[tuple[UUID, tuple[UUID, ...]]] = []
    known: set[UUID] = set()
    separator = b""
    page: list[assets_store.Known] | None = first
    while page is not None:
        living = [item.asset for item in page if item.asset.lifecycle is not Lifecycle.RETIRED]
        known.update(asset.asset_id for asset in living)
        edges.extend((asset.asset_id, asset.upstream_assets) for asset in living if asset.upstream_assets)
        if living:
            yield separator + b",".join(orjson.dumps(bom.component(asset)) for asset in living)
            separator = b","
        page = await anext(rest, None)
    yield b'],"dependencies":['
    for position, (asset_id, upstream) in enumerate(edges):
        yield (b"," if position else b"") + orjson.dumps(bom.dependency(asset_id, upstream, known))
    yield b"]}"
