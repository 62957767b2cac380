"""Reading assessments: the newest of many assets, of one, and all of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from starlette.responses import Response

from services.risk.api.views import AssessmentView, answer, as_document
from services.risk.domain.assessment import NotAssessed
from services.risk.store import views
from shared.auth import requires
from shared.contracts.risk import RiskLevel
from shared.models import PageOf
from shared.paging import Page
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1/risk", "risk")


@router.get("/assessments", response_model=PageOf[AssessmentView])
@requires("risk:read")
async def list_assessments(
    work: Work,
    page: Page,
    asset_id: Annotated[UUID | None, Query(description="Only this asset's.")] = None,
    risk_level: Annotated[RiskLevel | None, Query(description="Only assets whose risk is of this level now.")] = None,
) -> Response:
    """The newest assessment of each asset that is not retired, in order of asset ids.

    The order stays as it is while scores move, so paging misses none; the portfolio names the worst.
    """
    if asset_id is not None:
        row = await work.read(lambda tx: views.latest(tx, work.caller, asset_id))
        wanted = row is not None and (risk_level is None or row.risk_level == risk_level) and page.after is None
        return _page([row] if wanted else [], None)
    after = UUID(page.after[0]) if page.after else None
    rows = await work.read(
        lambda tx: views.newest(tx, work.caller, risk_level=risk_level, after=after, limit=page.limit + 1)
    )
    items, cursor = page.cut(rows, "asset_id")
    return _page(items, cursor)


@router.get("/assets/{asset_id}", response_model=AssessmentView)
@requires("risk:read")
async def get_asset_risk(work: Work, asset_id: UUID) -> Response:
    """The newest assessment of an asset, with every reason for its score."""
    row = await work.read(lambda tx: views.latest(tx, work.caller, asset_id))
    if row is None:
        raise NotAssessed(f"asset {asset_id}")
    return answer(as_document(row), etag=row.number)


@router.get("/assets/{asset_id}/history", response_model=PageOf[AssessmentView])
@requires("risk:read")
async def list_asset_history(work: Work, page: Page, asset_id: UUID) -> Response:
    """All assessments of an asset, newest first."""
    before = int(page.after[0]) if page.after else None
    rows = await work.read(lambda tx: views.history(tx, work.caller, asset_id, before=before, limit=page.limit + 1))
    if not rows and before is None:
        raise NotAssessed(f"asset {asset_id}")
    items, cursor = page.cut(rows, "number")
    return _page(items, cursor)


def _page(rows: Sequence[Any], next_cursor: str | None) -> Response:
    return answer({"items": [as_document(row) for row in rows], "next_cursor": next_cursor})
