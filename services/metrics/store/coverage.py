"""Coverage read: cells of team and asset type, added up as asked."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from services.metrics.domain.coverage import CELL_COLUMNS, Coverage, group
from services.metrics.store.tables import coverage
from shared.database import Tx


async def by_asset_type(tx: Tx, teams: Collection[str] | None) -> dict[str, Coverage]:
    """Coverage of each asset type that these teams (None: all) ever had."""
    return await _grouped(tx, coverage.c.asset_type, teams)


async def by_team(tx: Tx, teams: Collection[str] | None, limit: int) -> list[Coverage]:
    """Coverage of the `limit` teams with the most assets, largest first."""
    found = await _grouped(tx, coverage.c.team, teams, limit)
    return sorted((team for team in found.values() if team.assets), key=lambda team: (-team.assets, team.key))


async def count_teams(tx: Tx, teams: Collection[str] | None) -> int:
    """How many teams own an asset."""
    owning = sa.select(sa.func.count(sa.distinct(coverage.c.team))).where(coverage.c.assets > 0)
    return int(await tx.scalar(owning if teams is None else owning.where(coverage.c.team.in_(teams))) or 0)


async def _grouped(
    tx: Tx, key: sa.Column[str], teams: Collection[str] | None, limit: int | None = None
) -> dict[str, Coverage]:
    sums = [sa.cast(sa.func.sum(coverage.c[column]), sa.BigInteger) for column in CELL_COLUMNS]
    query = sa.select(key, *sums).group_by(key)
    if teams is not None:
        query = query.where(coverage.c.team.in_(teams))
    if limit is not None:
        query = query.order_by(sa.func.sum(coverage.c.assets).desc(), key).limit(limit)
    return group((name, counts) for name, *counts in await tx.execute(query))
