"""/v1/boms/organization: one document of everything, as a stream.

It is written from one snapshot of the database, so that no component is missing that another refers to. The snapshot is
held for as long as writing takes and not for as long as the client reads: what is written lies in a spool meanwhile.
What depends on what is only known as components are read and stands behind all of them, so it waits in a file.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID, uuid4

import orjson
import sqlalchemy as sa
from fastapi import Query
from starlette.responses import Response, StreamingResponse

from services.inventory.api.spool import Spool
from services.inventory.domain import bom
from services.inventory.domain.asset import Asset
from services.inventory.store import boms as store
from services.inventory.store import cards
from shared.auth import requires
from shared.database import Tx
from shared.errors import Unavailable
from shared.service import router as make_router
from shared.tokens import Caller
from shared.work import UnitOfWork, Work

router = make_router("/v1", "bills of materials")

MEDIA_TYPE = "application/vnd.cyclonedx+json"
DOCUMENT: dict[int | str, dict[str, object]] = {
    200: {"description": "A CycloneDX document.", "content": {MEDIA_TYPE: {"schema": {"type": "object"}}}}
}
SpecVersion = Annotated[Literal["1.7", "1.6"], Query(description="Of CycloneDX.")]
AT_A_TIME = 2
"""Whole estates that one replica writes at a time: each holds a snapshot and a connection."""
_PAGE = 500
_BREATH = 50
"""Components written before others' requests get their turn."""


@router.get("/boms/organization", responses=DOCUMENT, response_class=StreamingResponse)
@requires("inventory:read")
async def read_organization_bom(work: Work, spec_version: SpecVersion = "1.7") -> Response:
    """One CycloneDX document of all living assets that you may see, with their dependencies, as a stream."""
    turns: asyncio.Semaphore = work.runtime.resources.setdefault("organization boms", asyncio.Semaphore(AT_A_TIME))
    if turns.locked():
        raise Unavailable("others are reading the organisation's bill of materials", retry_after_seconds=30)
    # Before the answer begins, so that a database that is down is a 503 and no torn document.
    await work.read(lambda tx: store.living(tx, work.caller, after=None, limit=1))
    return StreamingResponse(_stream(work, turns, spec_version), media_type=MEDIA_TYPE)


async def _stream(work: UnitOfWork, turns: asyncio.Semaphore, spec_version: str) -> AsyncIterator[bytes]:
    spool = Spool()
    async with turns:
        writing = asyncio.create_task(_write(work, spool, spec_version))
        try:
            async for part in spool.parts():
                yield part
            await writing
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            spool.close()


async def _write(work: UnitOfWork, spool: Spool, spec_version: str) -> None:
    try:
        root = {"type": "platform", "bom-ref": "organization", "name": "AI estate"}
        head = bom.frame(spec_version, uuid4(), {"component": root}, datetime.now(UTC))
        spool.write(orjson.dumps(head)[:-1] + b',"components":[')
        async with work.runtime.db.begin() as tx:
            await tx.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
            with tempfile.TemporaryFile() as edges:
                await _components(tx, work, spool, edges)
                spool.write(b'],"dependencies":[')
                edges.seek(0)
                while part := edges.read(65_536):
                    spool.write(part)
        spool.write(b"]}")
    finally:
        spool.end()


async def _components(tx: Tx, work: UnitOfWork, spool: Spool, edges: object) -> None:
    after: UUID | None = None
    first = True
    none_yet = True
    write = edges.write  # type: ignore[attr-defined]  # a file of bytes
    while page := await store.living(tx, work.caller, after=after, limit=_PAGE):
        if spool.size > work.runtime.settings.bom_spool_limit_bytes:
            raise Unavailable("the client does not read the organisation's bill of materials")
        after = page[-1].asset_id
        components, dependencies = await _page(tx, work.caller, page)
        spool.write((b"" if first else b",") + b",".join(components))
        first = False
        if dependencies:
            write((b"" if none_yet else b",") + b",".join(dependencies))
            none_yet = False


async def _page(tx: Tx, caller: Caller, page: list[Asset]) -> tuple[list[bytes], list[bytes]]:
    keys = [asset.asset_id for asset in page]
    found = await store.edges(tx, keys)
    peers = {asset.asset_id: bom.Peer.of(asset) for asset in page}
    peers |= await store.peers(tx, caller, {end for edge in found for end in (edge[0], edge[2])} - peers.keys())
    facts = await cards.facts_of(tx, keys)
    known = [edge for edge in found if edge[0] in peers and edge[2] in peers]
    relations = bom.relations_of(known, peers, keys)
    components = []
    for position, asset in enumerate(page):
        if position % _BREATH == _BREATH - 1:
            await asyncio.sleep(0)
        components.append(
            orjson.dumps(bom.component(asset, facts.get(asset.asset_id), relations[asset.asset_id]))
        )  # fmt: skip
    dependencies = [
        orjson.dumps(bom.dependency(key, targets))
        for key, targets in bom.dependencies_of(known, keys).items()
        if targets
    ]
    return components, dependencies
