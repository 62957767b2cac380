"""What risk last said of each asset."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from shared.database import Tx, driver

# The newest of several in one batch; then only what is newer than what is stored.
_UPSERT = """
    INSERT INTO asset_risk AS stored (asset_id, version, risk_score, risk_level, assessed_at)
    SELECT DISTINCT ON (asset_id) asset_id, version, risk_score, risk_level, assessed_at
    FROM unnest($1::uuid[], $2::bigint[], $3::float8[], $4::text[], $5::timestamptz[])
        AS told (asset_id, version, risk_score, risk_level, assessed_at)
    ORDER BY asset_id, version DESC
    ON CONFLICT (asset_id) DO UPDATE
    SET version = excluded.version, risk_score = excluded.risk_score, risk_level = excluded.risk_level,
        assessed_at = excluded.assessed_at
    WHERE excluded.version > stored.version
"""


async def store(tx: Tx, told: Sequence[tuple[UUID, int, float, str, datetime]]) -> None:
    """Keep the newest (asset_id, version, score, level, time) of each asset; older ones change nothing."""
    columns = [list(column) for column in zip(*told, strict=True)]
    await (await driver(tx)).execute(_UPSERT, *columns)
