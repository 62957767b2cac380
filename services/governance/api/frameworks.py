"""/v1/governance/frameworks: what controls map to, and how far each entry is covered."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import Path, Query
from pydantic import Field
from starlette.responses import Response

from services.governance.domain.controls import StoredControl
from services.governance.domain.library import EntryCoverage, Framework, FrameworkEntry, InPlace, coverage
from services.governance.shipped import library
from services.governance.store import assets
from services.governance.store import controls as store
from shared.auth import requires
from shared.database import Tx
from shared.http import reply
from shared.models import Out, PageOf
from shared.paging import Page
from shared.service import router as new_router
from shared.work import Work

router = new_router("/v1/governance/frameworks", "frameworks")


class FrameworkView(Out):
    """A framework: where it comes from and how many entries it has."""

    id: str
    title: str
    publisher: str
    edition: str
    mapping_key: str = Field(description="The field of a control's mappings that holds ids of this framework.")
    source: str
    licence: str
    note: str
    entry_count: int

    @classmethod
    def of(cls, framework: Framework) -> FrameworkView:
        return cls(**framework.model_dump(exclude={"entries"}), entry_count=len(framework.entries))


class FrameworkDetail(FrameworkView):
    entries: list[FrameworkEntry]


class EntryCoverageView(Out):
    """How well an entry is answered: operational, deployed, available (controls exist) or none."""

    id: str
    title: str
    kind: str
    parent: str | None
    controls: list[str] = Field(description="Ids of the controls mapped to it.")
    deployments: int = Field(description="Deployments of these controls that are not retired.")
    operational: int = Field(description="Those of them that are operational.")
    status: Literal["operational", "deployed", "available", "none"]

    @classmethod
    def of(cls, found: EntryCoverage) -> EntryCoverageView:
        return cls(
            id=found.entry.id,
            title=found.entry.title,
            kind=found.entry.kind,
            parent=found.entry.parent,
            controls=list(found.controls),
            deployments=found.deployments,
            operational=found.operational,
            status=found.status,
        )


class CoverageTotals(Out):
    """Entries by status; `entries` is their sum."""

    entries: int
    operational: int
    deployed: int
    available: int
    none: int


class CoverageView(Out):
    """Coverage of a framework. Groups and parents count only what is mapped to them directly."""

    framework_id: str
    title: str
    edition: str
    asset_id: UUID | None = Field(description="The one asset that it is about; null for all that you may see.")
    totals: CoverageTotals
    entries: list[EntryCoverageView]


FrameworkIdPath = Annotated[str, Path(max_length=64, description="E.g. owasp_llm_2026.")]


@router.get("", response_model=PageOf[FrameworkView])
@requires("governance:read")
async def list_frameworks(page: Page) -> Response:
    """All frameworks by id."""
    found = sorted(library().frameworks.values(), key=lambda framework: framework.id)
    rows = [FrameworkView.of(framework) for framework in found if page.after is None or framework.id > page.after[0]]
    items, cursor = page.cut(rows, "id")
    return reply(PageOf[FrameworkView](items=items, next_cursor=cursor))


@router.get("/{framework_id}", response_model=FrameworkDetail)
@requires("governance:read")
async def get_framework(framework_id: FrameworkIdPath) -> Response:
    """One framework with its entries: ids and titles, with their source."""
    framework = library().framework(framework_id)
    view = FrameworkDetail(
        **framework.model_dump(exclude={"entries"}),
        entry_count=len(framework.entries),
        entries=list(framework.entries),
    )
    return reply(view)


@router.get("/{framework_id}/coverage", response_model=CoverageView)
@requires("governance:read")
async def get_coverage(
    framework_id: FrameworkIdPath,
    work: Work,
    asset_id: Annotated[UUID | None, Query(description="Only what is in place on this asset.")] = None,
) -> Response:
    """For each entry the controls mapped to it, and what of them is in place on assets that you may see."""
    framework = library().framework(framework_id)

    async def read(tx: Tx) -> tuple[list[StoredControl], dict[str, InPlace]]:
        if asset_id is not None:
            await assets.get(tx, work.caller, asset_id)
        return await store.own_controls(tx), await store.in_place(tx, work.caller, asset_id)

    own, in_place = await work.read(read)
    controls = [*library().controls.values(), *(stored.control for stored in own)]
    entries = [EntryCoverageView.of(found) for found in coverage(framework, controls, in_place)]
    counts = {status: sum(entry.status == status for entry in entries) for status in CoverageTotals.model_fields}
    view = CoverageView(
        framework_id=framework.id,
        title=framework.title,
        edition=framework.edition,
        asset_id=asset_id,
        totals=CoverageTotals(**counts | {"entries": len(entries)}),
        entries=entries,
    )
    return reply(view)
