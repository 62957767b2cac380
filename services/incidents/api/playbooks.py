"""Playbooks: the specification's fields, versioned by ETag, also as CACAO 2.0."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import Query
from starlette.responses import Response

from services.incidents.api.views import CacaoPlaybook, PlaybookSummary
from services.incidents.application import playbooks as application
from services.incidents.domain import cacao
from services.incidents.domain.playbooks import Playbook, PlaybookRefused
from services.incidents.store import playbooks as store
from shared.auth import requires
from shared.http import IfMatch, reply
from shared.models import PageOf
from shared.paging import Page
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1/playbooks", "playbooks")


@router.get("", response_model=PageOf[PlaybookSummary])
@requires("incidents:read")
async def list_playbooks(work: Work, page: Page) -> Response:
    """The playbook in force for each category."""
    after = str(page.after[0]) if page.after else ""
    stored = [PlaybookSummary.of(one) for one in await work.read(store.all_current) if one.playbook.category > after]
    items, cursor = page.cut(stored, "category")
    return reply(PageOf[PlaybookSummary](items=items, next_cursor=cursor))


@router.get("/{category}", response_model=Playbook | CacaoPlaybook)
@requires("incidents:read")
async def get_playbook(
    work: Work,
    category: str,
    format: Annotated[Literal["cacao"] | None, Query(description="`cacao` for a CACAO 2.0 document.")] = None,
) -> Response:
    """The playbook in force; its ETag is its version."""
    stored = await work.read(lambda tx: store.current(tx, category))
    if format == "cacao":
        document = cacao.export(stored.playbook, created=store.BUILT_IN_AT, modified=stored.created_at)
        return reply(CacaoPlaybook.model_validate(document), etag=stored.version)
    return reply(stored.playbook, etag=stored.version)


@router.put("/{category}", response_model=Playbook)
@requires("incidents:write")
async def replace_playbook(work: Work, category: str, body: Playbook, version: IfMatch) -> Response:
    """Put a new version in force, for incidents that open from now on."""
    if body.category != category:
        await work.read(lambda tx: store.current(tx, category))
        raise PlaybookRefused(f"this is the place of {category}", field="/category")
    return await work.run(
        lambda tx: application.replace(tx, work.caller, body, version, datetime.now(UTC)),
        lambda stored: reply(stored.playbook, etag=stored.version),
    )
