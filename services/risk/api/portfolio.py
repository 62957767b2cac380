"""The portfolio at a glance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from pydantic import Field
from starlette.responses import Response

from services.risk.domain.formula import rounded
from services.risk.store import models, views
from shared.auth import requires
from shared.contracts.inventory import AssetType
from shared.contracts.risk import RiskLevel
from shared.database import Tx
from shared.http import reply
from shared.models import Out
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1/risk", "risk")


class LevelCounts(Out):
    """Assets by level."""

    CRITICAL: int = 0
    HIGH: int = 0
    MEDIUM: int = 0
    LOW: int = 0


class AcceptedView(Out):
    """Assets whose risk somebody accepted for a time."""

    assets: int
    by_level: LevelCounts


class GroupView(Out):
    """A part of the portfolio. `by_level` counts the assets whose risk is not accepted; `accepted` the others."""

    assets: int = Field(description="Accepted ones too.")
    mean_residual_risk: float | None = Field(description="Over all its assets; null without any.")
    by_level: LevelCounts
    accepted: AcceptedView


class TeamView(GroupView):
    owner_team: str


class TypeView(GroupView):
    asset_type: AssetType


class WorstView(Out):
    """One of the assets that carry the most risk."""

    asset_id: UUID
    asset_name: str
    asset_type: AssetType
    owner_team: str
    residual_risk_score: float
    risk_level: RiskLevel
    accepted_until: datetime | None


class PortfolioView(GroupView):
    """All assets that the caller may see and that are not retired."""

    model_version: int
    by_team: list[TeamView] = Field(description="Most assets first, at most 200.")
    by_asset_type: list[TypeView]
    top_assets: list[WorstView] = Field(description="Highest residual risk first, accepted or not.")


MOST_TEAMS = 200


@router.get("/portfolio", response_model=PortfolioView)
@requires("risk:read")
async def get_portfolio(
    work: Work, top: Annotated[int, Query(ge=0, le=100, description="How many of the riskiest assets.")] = 10
) -> Response:
    """How risk is spread over the estate, for the teams that the caller may see."""

    async def read(tx: Tx) -> tuple[Any, Any, int]:
        cells = await views.cells(tx, work.caller)
        worst = await views.worst(tx, work.caller, limit=top) if top else []
        return cells, worst, (await models.current(tx)).model.version

    cells, worst, model_version = await work.read(read)
    by_team: dict[str, list[Any]] = defaultdict(list)
    by_type: dict[str, list[Any]] = defaultdict(list)
    for cell in cells:
        by_team[cell.owner_team].append(cell)
        by_type[cell.asset_type].append(cell)
    teams = [TeamView(owner_team=team, **_group(found)) for team, found in sorted(by_team.items())]
    return reply(
        PortfolioView(
            **_group(cells),
            model_version=model_version,
            by_team=sorted(teams, key=lambda team: -team.assets)[:MOST_TEAMS],
            by_asset_type=[TypeView(asset_type=AssetType(kind), **_group(by_type[kind])) for kind in sorted(by_type)],
            top_assets=[
                WorstView(
                    asset_id=row.asset_id,
                    asset_name=row.name,
                    asset_type=row.asset_type,
                    owner_team=row.owner_team,
                    residual_risk_score=float(row.residual),
                    risk_level=row.risk_level,
                    accepted_until=row.accepted_until,
                )
                for row in worst
            ],
        )
    )


def _group(cells: Iterable[Any]) -> dict[str, Any]:
    untreated: dict[str, int] = dict.fromkeys(RiskLevel, 0)
    accepted: dict[str, int] = dict.fromkeys(RiskLevel, 0)
    total = Decimal(0)
    for cell in cells:
        (accepted if cell.accepted else untreated)[cell.risk_level] += cell.assets
        total += cell.residual_sum
    assets = sum(untreated.values()) + sum(accepted.values())
    return {
        "assets": assets,
        "mean_residual_risk": float(rounded(total / assets)) if assets else None,
        "by_level": LevelCounts(**untreated),
        "accepted": AcceptedView(assets=sum(accepted.values()), by_level=LevelCounts(**accepted)),
    }
