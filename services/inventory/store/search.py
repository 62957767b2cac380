"""Finding assets: every filter, in the order of registration or of risk, a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from services.inventory.store.assets import Known, known
from services.inventory.store.schema import LIVING, UNREVIEWED, asset_table, risk_table, scope_includes
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
    "deployment_env",
    "lifecycle",
    "network_exposure",
    "model_provider",
    "cloud_provider",
)


def _like(text: str) -> str:
    """The text as a LIKE pattern that matches itself."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _asset_conditions(search: Search) -> list[Any]:
    found: list[Any] = [_asset[name] == wanted for name in _EQUALITIES if (wanted := getattr(search, name)) is not None]
    if search.lifecycle is not None and search.lifecycle is not Lifecycle.ACTIVE:
        # In the words of the partial index, which the planner does not deduce from a parameter.
        found.append(sa.text("asset.lifecycle <> 'active'"))
    if search.regulatory_scope is not None:
        found.append(scope_includes(search.regulatory_scope))
    if search.unreviewed_only:
        found.append(UNREVIEWED)
    if search.name is not None:
        found.append(sa.func.lower(_asset.name).like(sa.func.lower(_like(search.name) + "%")))
    if search.q is not None:
        found.append(sa.func.lower(_asset.name).like(sa.func.lower(f"%{_like(search.q)}%")))
    if search.updated_since is not None:
        found.append(_asset.last_updated >= search.updated_since)
    return found


def _risk_conditions(search: Search) -> list[Any]:
    found: list[Any] = []
    if search.risk_level is not None:
        found.append(_risk.risk_level == search.risk_level)
    if search.min_risk_score is not None:
        found.append(_risk.risk_score >= search.min_risk_score)
    return found


def _teams(caller: Caller, search: Search) -> list[str] | None:
    """The teams whose assets are looked at; None for those of everybody and nobody."""
    if search.owner_team is not None:
        return [search.owner_team] if caller.sees(search.owner_team) else []
    return None if caller.teams is None else sorted(caller.teams)


async def find(
    tx: Tx, caller: Caller, search: Search, *, sort: Sort, after: Sequence[Any] | None, limit: int
) -> list[Known]:
    """Up to `limit` assets that the caller may see, from behind `after` (the sort columns of the row before).

    Two steps in one statement: which assets, from whichever of the two tables has the filters and the order, and from
    both only when both are asked; then what they are. For several teams the first step takes a page of each team and
    the best of these, so that each comes from its index in order.
    """
    teams = _teams(caller, search)
    if teams == []:
        return []
    asset_conditions, risk_conditions = _asset_conditions(search), _risk_conditions(search)
    by_risk = sort is Sort.RISK
    from_risk = by_risk or bool(risk_conditions)
    table = risk_table if from_risk else asset_table
    source: sa.FromClause = table
    if from_risk and asset_conditions:
        source = risk_table.join(asset_table, _asset.asset_id == _risk.asset_id)
    columns = [table.c.asset_id, _risk.risk_score] if by_risk else [table.c.asset_id]
    page = sa.select(*columns).select_from(source).where(*asset_conditions, *risk_conditions)
    if after is not None:
        page = page.where(_behind(columns, sort, after))
    page = _ordered(page, columns, sort).limit(limit)
    if teams is not None:
        page = _of_teams(page, table.c.owner_team, teams, sort, limit)
    picked = page.subquery("picked")
    stmt = sa.select(asset_table, _risk.risk_score, _risk.risk_level).select_from(
        picked.join(asset_table, _asset.asset_id == picked.c.asset_id).outerjoin(
            risk_table, _risk.asset_id == picked.c.asset_id
        )
    )
    await tx.execute(_PLAN_FOR_VALUES)
    return [known(row) for row in await tx.execute(_ordered(stmt, list(picked.c), sort))]


# A generic plan cannot know a rare provider from a common one, so every search is planned for its values.
_PLAN_FOR_VALUES = sa.text("SET LOCAL plan_cache_mode = force_custom_plan")


def _ordered(stmt: sa.Select[Any], columns: Sequence[sa.ColumnElement[Any]], sort: Sort) -> sa.Select[Any]:
    """In the order of `sort`, where `columns` are the id and, for the order of risk, the score."""
    if sort is Sort.RISK:
        return stmt.order_by(columns[1].desc(), columns[0].desc())
    return stmt.order_by(columns[0].desc() if sort is Sort.NEWEST else columns[0])


def _behind(columns: Sequence[sa.ColumnElement[Any]], sort: Sort, after: Sequence[Any]) -> sa.ColumnElement[bool]:
    if sort is Sort.RISK:
        score, asset_id = after
        position = sa.tuple_(sa.literal(float(score)), sa.literal(UUID(asset_id)))
        return sa.tuple_(columns[1], columns[0]) < position
    passed = UUID(after[0])
    return columns[0] < passed if sort is Sort.NEWEST else columns[0] > passed


def _of_teams(
    page: sa.Select[Any], owner_team: sa.ColumnElement[str], teams: Sequence[str], sort: Sort, limit: int
) -> sa.Select[Any]:
    if len(teams) == 1:
        return page.where(owner_team == teams[0])
    names = sa.func.unnest(sa.literal(list(teams), ARRAY(sa.Text))).table_valued("team", name="teams").render_derived()
    each = page.where(owner_team == names.c.team).lateral("each")
    return _ordered(sa.select(each), list(each.c), sort).select_from(names.join(each, sa.true())).limit(limit)


def position_of(item: Known, sort: Sort) -> tuple[Any, ...]:
    """What `after` is for the page behind this item."""
    if sort is Sort.RISK:
        return (item.risk_score, item.asset.asset_id)
    return (item.asset.asset_id,)


async def alike(tx: Tx, caller: Caller, name: str, key: bytes, limit: int = 10) -> list[dict[str, Any]]:
    """Living assets that the caller may see and that have this registration key or a name like it, the likest first."""
    likeness = sa.func.similarity(sa.func.lower(_asset.name), name.lower())
    same = _asset.duplicate_key == key
    stmt = (
        sa.select(
            _asset.asset_id,
            _asset.name,
            _asset.asset_type,
            _asset.owner_team,
            same.label("same_key"),
            likeness.label("similarity"),
        )
        .where(LIVING, visible(caller, _asset.owner_team))
        # The operator, and not the function, is what the index on names answers.
        .where(sa.or_(same, sa.func.lower(_asset.name).op("%")(name.lower())))
        .order_by(same.desc(), likeness.desc(), _asset.asset_id)
        .limit(limit)
    )
    return [dict(row._mapping) for row in await tx.execute(stmt)]
