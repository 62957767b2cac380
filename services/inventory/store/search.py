"""Finding assets: every filter, in the order of registration or of risk, a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services.inventory.store.assets import Known, known
from services.inventory.store.schema import UNREVIEWED, asset_table, risk_table, scope_includes
from shared.auth import Caller, visible
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

_asset = asset_table.c
_risk = risk_table.c


class Sort(StrEnum):
    """Order of a search. RISK lists only what has been scored."""

    OLDEST = "registered"
    NEWEST = "-registered"
    RISK = "-risk_score"


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for; None and False ask for nothing."""

    asset_type: AssetType | None = None
    data_classification: DataClassification | None = None
    owner_team: str | None = None
    regulatory_scope: RegulatoryScope | None = None
    unreviewed_only: bool = False
    deployment_env: DeploymentEnvironment | None = None
    lifecycle: Lifecycle | None = None
    network_exposure: NetworkExposure | None = None
    model_provider: str | None = None
    cloud_provider: str | None = None
    risk_level: RiskLevel | None = None
    min_risk_score: float | None = None
    name: str | None = None
    q: str | None = None
    updated_since: datetime | None = None


_EQUALITIES = (
    "asset_type",
    "data_classification",
    "owner_team",
    "deployment_env",
    "lifecycle",
    "network_exposure",
    "model_provider",
    "cloud_provider",
)


def _like(text: str) -> str:
    """The text as a LIKE pattern that matches itself."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _conditions(search: Search) -> list[sa.ColumnElement[bool]]:
    found: list[Any] = [_asset[name] == wanted for name in _EQUALITIES if (wanted := getattr(search, name)) is not None]
    if search.lifecycle is not None and search.lifecycle is not Lifecycle.ACTIVE:
        # In the words of the partial index, which the planner does not deduce from a parameter.
        found.append(sa.text("asset.lifecycle <> 'active'"))
    if search.regulatory_scope is not None:
        found.append(scope_includes(search.regulatory_scope))
    if search.unreviewed_only:
        found.append(UNREVIEWED)
    if search.risk_level is not None:
        found.append(_risk.risk_level == search.risk_level)
    if search.min_risk_score is not None:
        found.append(_risk.risk_score >= search.min_risk_score)
    if search.name is not None:
        found.append(sa.func.lower(_asset.name).like(sa.func.lower(_like(search.name) + "%")))
    if search.q is not None:
        found.append(sa.func.lower(_asset.name).like(sa.func.lower(f"%{_like(search.q)}%")))
    if search.updated_since is not None:
        found.append(_asset.last_updated >= search.updated_since)
    return found


async def find(
    tx: Tx, caller: Caller, search: Search, *, sort: Sort, after: Sequence[Any] | None, limit: int
) -> list[Known]:
    """Up to `limit` assets that the caller may see, from behind `after` (the sort columns of the row before).

    Every value is planned for anew: a generic plan cannot know a rare provider from a common one, and one of them
    would be read with the other's plan.
    """
    scored = sort is Sort.RISK or search.risk_level is not None or search.min_risk_score is not None
    joined = asset_table.join(risk_table, _risk.asset_id == _asset.asset_id, isouter=not scored)
    stmt = sa.select(asset_table, _risk.risk_score, _risk.risk_level).select_from(joined)
    stmt = stmt.where(visible(caller, _asset.owner_team), *_conditions(search))
    if sort is Sort.RISK:
        position = sa.tuple_(_risk.risk_score, _risk.asset_id)
        stmt = stmt.order_by(_risk.risk_score.desc(), _risk.asset_id.desc())
        if after is not None:
            score, asset_id = after
            stmt = stmt.where(position < sa.tuple_(sa.literal(float(score)), sa.literal(UUID(asset_id))))
    else:
        newest = sort is Sort.NEWEST
        stmt = stmt.order_by(_asset.asset_id.desc() if newest else _asset.asset_id)
        if after is not None:
            passed = UUID(after[0])
            stmt = stmt.where(_asset.asset_id < passed if newest else _asset.asset_id > passed)
    await tx.execute(sa.text("SET LOCAL plan_cache_mode = force_custom_plan"))
    return [known(row) for row in await tx.execute(stmt.limit(limit))]


def position_of(item: Known, sort: Sort) -> tuple[Any, ...]:
    """What `after` is for the page behind this item."""
    if sort is Sort.RISK:
        return (item.risk_score, item.asset.asset_id)
    return (item.asset.asset_id,)
