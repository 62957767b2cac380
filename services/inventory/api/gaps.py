"""/v1/compliance-gaps: what is missing about the estate, in six lists."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated
from uuid import UUID

from fastapi import Query
from pydantic import Field
from starlette.responses import Response

from services.inventory.api.models import AssetView, Day
from services.inventory.domain.gaps import Gap
from services.inventory.store import assets as assets_store
from services.inventory.store import gaps as store
from services.inventory.store.assets import Known
from shared.auth import requires
from shared.database import Tx
from shared.http import reply
from shared.models import Out, PageOf
from shared.paging import Page
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1/compliance-gaps", "compliance gaps")

AsOf = Annotated[Day | None, Query(description="Day on which reviews count as stale or not; today (UTC) by default.")]


class GapReport(Out):
    """Ids of living assets by gap, oldest registration first; `counts` is exact however many are listed."""

    as_of: date
    no_security_review: list[UUID]
    stale_review: list[UUID] = Field(description="Reviewed more than 90 days before as_of.")
    missing_sbom: list[UUID] = Field(description="Self-hosted without a bill of materials.")
    unclassified_data: list[UUID] = Field(description="Internal data although a regulatory regime applies.")
    no_owner: list[UUID]
    public_exposure_high_sensitivity: list[UUID] = Field(
        description="Public with confidential, restricted or regulated data."
    )
    counts: dict[Gap, int]
    truncated: bool = Field(description="Some list is longer than `limit`; page it at /v1/compliance-gaps/{gap}.")


@router.get("", response_model=GapReport)
@requires("inventory:read")
async def report_gaps(
    work: Work,
    as_of: AsOf = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Ids a list at most.")] = 1_000,
) -> Response:
    """The compliance gaps of all assets that you may see."""
    day = as_of or datetime.now(UTC).date()

    async def read(tx: Tx) -> GapReport:
        counts = await store.count(tx, work.caller, day)
        lists = {
            gap: await store.ids(tx, work.caller, gap, day, after=None, limit=limit) if counts[gap] else []
            for gap in Gap
        }
        return GapReport(
            as_of=day,
            no_security_review=lists[Gap.NO_SECURITY_REVIEW],
            stale_review=lists[Gap.STALE_REVIEW],
            missing_sbom=lists[Gap.MISSING_SBOM],
            unclassified_data=lists[Gap.UNCLASSIFIED_DATA],
            no_owner=lists[Gap.NO_OWNER],
            public_exposure_high_sensitivity=lists[Gap.PUBLIC_EXPOSURE_HIGH_SENSITIVITY],
            counts=counts,
            truncated=any(counts[gap] > len(lists[gap]) for gap in Gap),
        )

    return reply(await work.read(read))


@router.get("/{gap}", response_model=PageOf[AssetView])
@requires("inventory:read")
async def list_gap(gap: Gap, work: Work, page: Page, as_of: AsOf = None) -> Response:
    """The assets that have one gap."""
    day = as_of or datetime.now(UTC).date()
    after = UUID(page.after[0]) if page.after else None

    async def read(tx: Tx) -> tuple[list[Known], bool]:
        found = await store.ids(tx, work.caller, gap, day, after=after, limit=page.limit + 1)
        return await assets_store.get_many(tx, work.caller, found[: page.limit]), len(found) > page.limit

    items, more = await work.read(read)
    cursor = page.cursor(items[-1].asset.asset_id) if more else None
    return reply(PageOf[AssetView](items=[AssetView.of(item) for item in items], next_cursor=cursor))
