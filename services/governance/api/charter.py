"""/v1/governance/raci and /v1/governance/appetite: who answers for what, and how much risk needs no decision."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from pydantic import Field
from starlette.responses import Response

from services.governance.application import charter
from services.governance.application.charter import InForce
from services.governance.domain.acceptances import Standing
from services.governance.domain.appetite import Appetite, LevelRule
from services.governance.domain.assets import AssetCopy
from services.governance.domain.raci import Raci
from services.governance.store import assets
from shared.auth import requires
from shared.contracts.risk import RiskLevel
from shared.database import Tx
from shared.http import IfMatch, reply
from shared.models import Out
from shared.service import router as new_router
from shared.work import Work

router = new_router("/v1/governance", "charter")


class RaciView(Raci):
    """The matrix in force. Version 1 is the shipped one; nobody of the organisation has changed it yet."""

    version: int
    changed_by: str | None
    changed_at: datetime | None

    @classmethod
    def of(cls, found: InForce[Raci]) -> RaciView:
        return cls(
            roles=found.document.roles,
            activities=found.document.activities,
            version=found.version,
            changed_by=found.changed_by,
            changed_at=found.changed_at,
        )


class AppetiteView(Appetite):
    """The appetite in force. Version 1 is the shipped one; nobody of the organisation has changed it yet."""

    version: int
    changed_by: str | None
    changed_at: datetime | None

    @classmethod
    def of(cls, found: InForce[Appetite]) -> AppetiteView:
        document = found.document
        return cls(
            **{name: getattr(document, name) for name in Appetite.model_fields},
            version=found.version,
            changed_by=found.changed_by,
            changed_at=found.changed_at,
        )


class AssetStandingView(Out):
    """How an asset stands against the risk appetite, and what it would take to accept its risk."""

    asset_id: UUID
    residual_risk_score: float | None = Field(description="Null while it was never assessed.")
    risk_level: RiskLevel | None
    max_residual_score: float = Field(
        description="Highest score that needs no acceptance, for its class and environment."
    )
    within_appetite: bool | None = Field(description="Null while it was never assessed.")
    rule: LevelRule = Field(description="What an acceptance takes; an asset never assessed is treated like the worst.")


@router.get("/raci", response_model=RaciView)
@requires("governance:read")
async def get_raci(work: Work) -> Response:
    """The RACI matrix in force."""
    found = await work.read(charter.raci)
    return reply(RaciView.of(found), etag=found.version)


@router.put("/raci", response_model=RaciView)
@requires("governance:approve")
async def put_raci(body: Raci, work: Work, if_match: IfMatch) -> Response:
    """Replace the RACI matrix. Each activity has exactly one accountable role and at least one responsible one."""
    return await work.run(
        lambda tx: charter.change_raci(tx, work.caller, body, if_match, datetime.now(UTC)),
        lambda found: reply(RaciView.of(found), etag=found.version),
    )


@router.get("/appetite", response_model=AppetiteView)
@requires("governance:read")
async def get_appetite(work: Work) -> Response:
    """The risk appetite in force."""
    found = await work.read(charter.appetite)
    return reply(AppetiteView.of(found), etag=found.version)


@router.put("/appetite", response_model=AppetiteView)
@requires("governance:approve")
async def put_appetite(body: Appetite, work: Work, if_match: IfMatch) -> Response:
    """Replace the risk appetite. Acceptances in force stay as they were decided."""
    return await work.run(
        lambda tx: charter.change_appetite(tx, work.caller, body, if_match, datetime.now(UTC)),
        lambda found: reply(AppetiteView.of(found), etag=found.version),
    )


@router.get("/appetite/assets/{asset_id}", response_model=AssetStandingView)
@requires("governance:read")
async def get_asset_standing(asset_id: UUID, work: Work) -> Response:
    """Whether an asset's residual risk is within appetite, and who could accept it for how long."""

    async def read(tx: Tx) -> tuple[AssetCopy, Standing, Appetite]:
        asset = await assets.get(tx, work.caller, asset_id)
        return asset, await assets.standing(tx, asset_id), (await charter.appetite(tx)).document

    asset, standing, appetite = await work.read(read)
    ceiling = appetite.ceiling(asset.data_classification, asset.deployment_env)
    score = standing.residual_risk_score
    view = AssetStandingView(
        asset_id=asset_id,
        residual_risk_score=score,
        risk_level=standing.risk_level,
        max_residual_score=ceiling,
        within_appetite=None if score is None else score <= ceiling,
        rule=appetite.rule_for(standing.risk_level),
    )
    return reply(view)
