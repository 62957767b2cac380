"""Registering many assets in one transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.inventory.application.assets import demand_ownership, refuse_foreign_downstream, registered
from services.inventory.domain.asset import Asset, KeyTaken
from services.inventory.store import bulk
from shared import audit, outbox
from shared.auth import Caller
from shared.database import Tx
from shared.errors import DomainError, Unavailable

Result = tuple[UUID, bool] | DomainError
"""The asset's id and whether it is new; or why it was refused."""


async def register_assets(tx: Tx, caller: Caller, assets: Sequence[Asset], at: datetime) -> list[Result]:
    """Register each of the assets as `register_asset` would, one result each, in their order; a refused one does not
    keep the others out."""
    results: list[Result | None] = [await _refusal(tx, caller, asset) for asset in assets]
    admitted = [position for position, refusal in enumerate(results) if refusal is None]
    outcomes = await bulk.add(tx, caller, [assets[position] for position in admitted], at) if admitted else []
    created: list[Asset] = []
    for position, outcome in zip(admitted, outcomes, strict=True):
        if outcome.asset_id is None:
            results[position] = Unavailable("an asset with this key is being retired at this moment")
        elif outcome.created:
            if not outcome.announced:
                created.append(assets[position])
            results[position] = (outcome.asset_id, True)
        elif outcome.visible:
            results[position] = (outcome.asset_id, False)
        else:
            results[position] = KeyTaken("another team has registered this asset")
    if created:
        await outbox.add(tx, *(registered(asset) for asset in created))
        await audit.record(
            tx,
            caller,
            action="assets.imported",
            target=f"{len(created)} assets",
            detail={
                "first": str(created[0].asset_id),
                "last": str(created[-1].asset_id),
                # In the order of lines; with it an auditor can prove which assets this entry means.
                "sha256_of_ids": hashlib.sha256(b"".join(asset.asset_id.bytes for asset in created)).hexdigest(),
            },
        )
    return [result for result in results if result is not None]


async def _refusal(tx: Tx, caller: Caller, asset: Asset) -> DomainError | None:
    try:
        demand_ownership(caller, asset.owner_team)
        await refuse_foreign_downstream(tx, caller, asset.downstream_assets)
    except DomainError as refusal:
        return refusal
    return None
