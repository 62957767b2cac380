"""/v1/assets: register, find, change, review, quarantine, retire; history of one asset."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import uuid_utils.compat as uuid_utils
from fastapi import Depends, Query
from pydantic import StringConstraints
from starlette.responses import Response

from services.inventory.api.models import (
    AssetChange,
    AssetView,
    HistoryEntry,
    Instant,
    NewAsset,
    ReasonIn,
    ReviewIn,
)
from services.inventory.application import assets as use_cases
from services.inventory.domain.asset import register
from services.inventory.store import assets as store
from services.inventory.store.assets import Known
from services.inventory.store.search import Search, Sort, find, position_of
from shared.auth import requires
from shared.contracts.inventory import (
    AssetType,
    DataClassification,
    DeploymentEnvironment,
    Lifecycle,
    NetworkExposure,
    RegulatoryScope,
)
from shared.contracts.risk import RiskLevel
from shared.database import Tx
from shared.http import IfMatch, reply
from shared.models import PageOf
from shared.paging import Page
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1/assets", "assets")


def _now() -> datetime:
    return datetime.now(UTC)


def _shown(item: Known, status: int = 200) -> Response:
    location = f"/v1/assets/{item.asset.asset_id}" if status == 201 else None
    return reply(AssetView.of(item), status=status, etag=item.asset.version, location=location)


@router.post(
    "",
    status_code=201,
    response_model=AssetView,
    responses={200: {"model": AssetView, "description": "It was registered before; this is it."}},
)
@requires("inventory:write")
async def register_asset(body: NewAsset, work: Work) -> Response:
    """Register an AI asset.

    Assets are the same when model_name, model_provider, api_endpoint and deployment_env are; where the first three are
    all empty, when name, asset_type, owner_team and deployment_env are. Registering one again only notes that it was
    heard of, and answers 200 with the asset as it is.
    """
    asset = register(uuid_utils.uuid7(), body.declared(), by=work.caller.subject, at=_now())
    return await work.run(
        lambda tx: use_cases.register_asset(tx, work.caller, asset),
        lambda result: _shown(result[0], 201 if result[1] else 200),
        at_once=lambda connection: use_cases.register_new_asset(connection, work.caller, asset),
    )


Part = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]


# A coroutine although it awaits nothing: FastAPI runs plain functions in a thread.
async def _search(
    asset_type: Annotated[AssetType | None, Query()] = None,
    data_classification: Annotated[DataClassification | None, Query()] = None,
    owner_team: Annotated[str | None, Query(max_length=200, description="Empty finds those without an owner.")] = None,
    regulatory_scope: Annotated[RegulatoryScope | None, Query(description="Among the asset's.")] = None,
    unreviewed_only: Annotated[bool, Query(description="Only those whose compliance_status is unreviewed.")] = False,
    deployment_env: Annotated[DeploymentEnvironment | None, Query()] = None,
    lifecycle: Annotated[Lifecycle | None, Query()] = None,
    network_exposure: Annotated[NetworkExposure | None, Query()] = None,
    model_provider: Annotated[Part | None, Query()] = None,
    cloud_provider: Annotated[Part | None, Query()] = None,
    risk_level: Annotated[RiskLevel | None, Query()] = None,
    min_risk_score: Annotated[float | None, Query(ge=0, le=100, allow_inf_nan=False)] = None,
    name: Annotated[Part | None, Query(description="What the name begins with, in either case.")] = None,
    q: Annotated[
        str | None, Query(min_length=3, max_length=300, description="What the name contains, in either case.")
    ] = None,
    updated_since: Annotated[Instant | None, Query(description="With its offset from UTC.")] = None,
) -> Search:
    return Search(
        asset_type=asset_type,
        data_classification=data_classification,
        owner_team=owner_team,
        regulatory_scope=regulatory_scope,
        unreviewed_only=unreviewed_only,
        deployment_env=deployment_env,
        lifecycle=lifecycle,
        network_exposure=network_exposure,
        model_provider=model_provider,
        cloud_provider=cloud_provider,
        risk_level=risk_level,
        min_risk_score=min_risk_score,
        name=name,
        q=q,
        updated_since=updated_since,
    )


@router.get("", response_model=PageOf[AssetView])
@requires("inventory:read")
async def search_assets(
    work: Work,
    search: Annotated[Search, Depends(_search)],
    page: Page,
    sort: Annotated[
        Sort, Query(description="`registered` is oldest first; `-risk_score` lists only what has been scored.")
    ] = Sort.OLDEST,
) -> Response:
    """Search assets: all filters given must hold. Retired assets are among them; filter by lifecycle."""
    found = await work.read(lambda tx: find(tx, work.caller, search, sort=sort, after=page.after, limit=page.limit + 1))
    items = found[: page.limit]
    cursor = page.cursor(*position_of(items[-1], sort)) if len(found) > page.limit else None
    return reply(PageOf[AssetView](items=[AssetView.of(item) for item in items], next_cursor=cursor))


@router.get("/{asset_id:uuid}", response_model=AssetView)
@requires("inventory:read")
async def read_asset(asset_id: UUID, work: Work) -> Response:
    """One asset; its ETag is its version."""
    return _shown(await work.read(lambda tx: store.get(tx, work.caller, asset_id)))


@router.patch("/{asset_id:uuid}", response_model=AssetView)
@requires("inventory:write")
async def amend_asset(asset_id: UUID, body: AssetChange, work: Work, if_match: IfMatch) -> Response:
    """Change fields of an asset (JSON Merge Patch)."""
    return await work.run(
        lambda tx: use_cases.state_of_asset(tx, work.caller, asset_id, if_match, body.values(), _now()), _shown
    )


@router.post("/{asset_id:uuid}/reviews", response_model=AssetView)
@requires("inventory:write")
async def review_asset(asset_id: UUID, body: ReviewIn, work: Work) -> Response:
    """Record a security review: approved, conditional or rejected becomes compliant, conditional or non_compliant."""
    now = _now()
    return await work.run(
        lambda tx: use_cases.review_asset(
            tx,
            work.caller,
            asset_id,
            outcome=body.outcome,
            reviewer=body.reviewer or work.caller.subject,
            reviewed_on=body.reviewed_on or now.date(),
            notes=body.notes,
            at=now,
        ),
        _shown,
    )


@router.post("/{asset_id:uuid}/quarantine", response_model=AssetView)
@requires("inventory:respond")
async def quarantine_asset(asset_id: UUID, body: ReasonIn, work: Work) -> Response:
    """Take an active asset out of use."""
    return await work.run(lambda tx: use_cases.quarantine_asset(tx, work.caller, asset_id, body.reason, _now()), _shown)


@router.post("/{asset_id:uuid}/release", response_model=AssetView)
@requires("inventory:respond")
async def release_asset(asset_id: UUID, body: ReasonIn, work: Work) -> Response:
    """Let a quarantined asset be used again."""
    return await work.run(lambda tx: use_cases.release_asset(tx, work.caller, asset_id, body.reason, _now()), _shown)


@router.post("/{asset_id:uuid}/retire", response_model=AssetView)
@requires("inventory:write")
async def retire_asset(asset_id: UUID, body: ReasonIn, work: Work) -> Response:
    """Take an asset out of the estate for good; the same asset may then be registered anew."""
    return await work.run(lambda tx: use_cases.retire_asset(tx, work.caller, asset_id, body.reason, _now()), _shown)


@router.get("/{asset_id:uuid}/history", response_model=PageOf[HistoryEntry])
@requires("inventory:read")
async def read_history(asset_id: UUID, work: Work, page: Page) -> Response:
    """Who changed what when, each field from old to new, newest first."""
    before = int(page.after[0]) if page.after else None

    async def read(tx: Tx) -> list[dict[str, Any]]:
        item = await store.get(tx, work.caller, asset_id)
        return await store.history(tx, item.asset, before_version=before, limit=page.limit + 1)

    found = await work.read(read)
    items = found[: page.limit]
    cursor = page.cursor(items[-1]["version"]) if len(found) > page.limit else None
    return reply(
        PageOf[HistoryEntry](items=[HistoryEntry.model_validate(entry) for entry in items], next_cursor=cursor)
    )
