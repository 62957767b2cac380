"""What risk last said of each asset."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from shared.database import Tx, driver

# The newest of several in one batch; then only what is newer than what is stored. The owner is taken from the asset and
# not from the event, which may be older than a change of owner.
_UPSERT = """
    INSERT INTO asset_risk AS stored (asset_id, version, risk_score, risk_level, assessed_at, owner_team)
    SELECT told.asset_id, told.version, told.risk_score, told.risk_level, told.assessed_at, asset.owner_team
    FROM (
        SELECT DISTINCT ON (asset_id) *
        FROM unnest($1::uuid[], $2::bigint[], $3::float8[], $4::text[], $5::timestamptz[])
            AS all_told (asset_id, version, risk_score, risk_level, assessed_at)
        ORDER BY asset_id, version DESC
    ) told
    JOIN asset USING (asset_id)
    ON CONFLICT (asset_id) DO UPDATE
    SET version = excluded.version, risk_score = excluded.risk_score, risk_level = excluded.risk_level,
        assessed_at = excluded.assessed_at
    WHERE excluded.version > stored.version
"""

# While scores come in, no asset changes hands: the owner that they copy would be the one before.
_OWNERS = 0x6F776E657273


async def store(tx: Tx, told: Sequence[tuple[UUID, int, float, str, datetime]]) -> None:
    """Keep the newest (asset_id, version, score, level, time) of each asset; older ones, and those of assets that are
    none of ours, change nothing."""
    connection = await driver(tx)
    await connection.execute("SELECT pg_advisory_xact_lock_shared($1)", _OWNERS)
    await connection.execute(_UPSERT, *(list(column) for column in zip(*told, strict=True)))


async def change_owner(tx: Tx, asset_id: UUID, team: str) -> None:
    """Let the score follow its asset to another team."""
    connection = await driver(tx)
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _OWNERS)
    await connection.execute("UPDATE asset_risk SET owner_team = $2 WHERE asset_id = $1", asset_id, team)
