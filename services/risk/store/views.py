"""What the API reads. Lists go along an index with any filter and for any caller, also with a million assets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services.risk.store.tables import assessment, asset_copy, portfolio_cell
from shared.auth import Caller, visible
from shared.contracts.risk import RiskLevel
from shared.database import Tx

_SHOWN = (*assessment.c, asset_copy.c.owner_team, asset_copy.c.lifecycle)
_IS_NEWEST = (assessment.c.asset_id == asset_copy.c.asset_id) & (assessment.c.number == asset_copy.c.number)

# An index over (team, level, id) is in order of ids only within one team and level. Asked for several at once,
# PostgreSQL would sort all of a large team's assets for each page; so each is read on its own, a page at most, and the
# few rows are merged. 'retired' stands as a literal because a partial index is not used for a parameter.
_IDS_OF_EVERYBODY = sa.text("""
    SELECT found.asset_id
    FROM unnest(CAST(:levels AS text[])) AS level,
        LATERAL (
            SELECT asset_id FROM asset_copy
            WHERE risk_level = level AND lifecycle <> 'retired' AND asset_id > :after
            ORDER BY asset_id LIMIT :limit
        ) AS found
    ORDER BY found.asset_id LIMIT :limit
""").columns(asset_id=sa.Uuid)
_IDS_OF_TEAMS = sa.text("""
    SELECT found.asset_id
    FROM unnest(CAST(:teams AS text[])) AS team, unnest(CAST(:levels AS text[])) AS level,
        LATERAL (
            SELECT asset_id FROM asset_copy
            WHERE owner_team = team AND risk_level = level AND lifecycle <> 'retired' AND asset_id > :after
            ORDER BY asset_id LIMIT :limit
        ) AS found
    ORDER BY found.asset_id LIMIT :limit
""").columns(asset_id=sa.Uuid)
_WORST = "asset_id, name, asset_type, owner_team, residual, risk_level, accepted_until"
_WORST_OF_EVERYBODY = sa.text(f"""
    SELECT {_WORST} FROM asset_copy WHERE lifecycle <> 'retired' ORDER BY residual DESC, asset_id LIMIT :limit
""")  # noqa: S608  # the only thing formatted in is the constant above
_WORST_OF_TEAMS = sa.text(f"""
    SELECT found.*
    FROM unnest(CAST(:teams AS text[])) AS team,
        LATERAL (
            SELECT {_WORST} FROM asset_copy
            WHERE owner_team = team AND lifecycle <> 'retired' ORDER BY residual DESC, asset_id LIMIT :limit
        ) AS found
    ORDER BY residual DESC, asset_id LIMIT :limit
""")  # noqa: S608  # the only thing formatted in is the constant above
_BEFORE_ALL = UUID(int=0)


async def latest(tx: Tx, caller: Caller, asset_id: UUID) -> Any | None:
    """The newest assessment of an asset; None when there is none, or none for this caller."""
    found = (
        sa.select(*_SHOWN)
        .join_from(asset_copy, assessment, _IS_NEWEST)
        .where(asset_copy.c.asset_id == asset_id, visible(caller, asset_copy.c.owner_team))
    )
    return (await tx.execute(found)).first()


async def history(tx: Tx, caller: Caller, asset_id: UUID, *, before: int | None, limit: int) -> Sequence[Any]:
    """Assessments of one asset, newest first; none of an asset that this caller may not see."""
    found = (
        sa.select(*_SHOWN)
        .join_from(assessment, asset_copy, assessment.c.asset_id == asset_copy.c.asset_id)
        .where(assessment.c.asset_id == asset_id, visible(caller, asset_copy.c.owner_team))
        .order_by(assessment.c.number.desc())
        .limit(limit)
    )
    if before is not None:
        found = found.where(assessment.c.number < before)
    return (await tx.execute(found)).all()


async def newest(
    tx: Tx, caller: Caller, *, risk_level: RiskLevel | None, after: UUID | None, limit: int
) -> Sequence[Any]:
    """The newest assessment of each asset in the estate, in order of asset ids."""
    given: dict[str, Any] = {
        "levels": [risk_level] if risk_level is not None else list(RiskLevel),
        "after": after or _BEFORE_ALL,
        "limit": limit,
    }
    if caller.teams is None:
        ids = _IDS_OF_EVERYBODY.bindparams(**given)
    else:
        ids = _IDS_OF_TEAMS.bindparams(**given, teams=sorted(caller.teams))
    chosen = ids.cte("chosen")
    found = (
        sa.select(*_SHOWN)
        .select_from(chosen)
        .join(asset_copy, asset_copy.c.asset_id == chosen.c.asset_id)
        .join(assessment, _IS_NEWEST)
        .order_by(chosen.c.asset_id)
    )
    return (await tx.execute(found)).all()


async def cells(tx: Tx, caller: Caller) -> Sequence[Any]:
    """The portfolio's counts by team, type, level and acceptance."""
    found = sa.select(portfolio_cell).where(visible(caller, portfolio_cell.c.owner_team))
    return (await tx.execute(found)).all()


async def worst(tx: Tx, caller: Caller, *, limit: int) -> Sequence[Any]:
    """The assets with the highest residual risk, accepted or not."""
    if caller.teams is None:
        return (await tx.execute(_WORST_OF_EVERYBODY, {"limit": limit})).all()
    return (await tx.execute(_WORST_OF_TEAMS, {"limit": limit, "teams": sorted(caller.teams)})).all()
