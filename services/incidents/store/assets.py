"""This service's copy of the assets: who owns what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from services.incidents.store.tables import asset_copy_table
from shared.bulk import upsert_newer
from shared.contracts.inventory import AssetSnapshot
from shared.database import Tx, driver


async def put(tx: Tx, assets: Sequence[AssetSnapshot]) -> dict[UUID, str]:
    """Keep what is newer than what is known; gives asset -> owner of those whose owner is another than was known."""
    newest = {asset.asset_id: asset for asset in sorted(assets, key=lambda asset: asset.version)}
    before = await owners(tx, newest)
    rows: list[dict[str, Any]] = [
        {
            "asset_id": asset.asset_id,
            "version": asset.version,
            "name": asset.name,
            "asset_type": asset.asset_type.value,
            "owner_team": asset.owner_team,
            "data_classification": asset.data_classification.value,
            "deployment_env": asset.deployment_env.value,
            "lifecycle": asset.lifecycle.value,
        }
        for asset in sorted(newest.values(), key=lambda asset: asset.asset_id)
    ]
    written = await upsert_newer(tx, asset_copy_table, rows, returning=("asset_id", "owner_team"))
    taken = {row["asset_id"]: row["owner_team"] for row in written}
    return {asset_id: team for asset_id, team in taken.items() if before.get(asset_id) != team}


async def owners(tx: Tx, asset_ids: Iterable[UUID]) -> dict[UUID, str]:
    """Asset -> owner team, of those that are known."""
    connection = await driver(tx)
    query = "SELECT asset_id, owner_team FROM asset_copy WHERE asset_id = ANY($1)"
    return {row["asset_id"]: row["owner_team"] for row in await connection.fetch(query, list(asset_ids))}
