"""What follows from what inventory and risk announce."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.governance.application import acceptances, controls, reviews
from services.governance.domain.assets import AssetCopy
from services.governance.store import assets as store
from shared.consumer import Received
from shared.contracts.inventory import AssetEvent, AssetRetired, AssetReviewed, AssetUpdated
from shared.contracts.risk import AssessmentCompleted
from shared.database import Tx
from shared.outbox import replaying


async def follow_assets(tx: Tx, batch: Sequence[Received[AssetEvent]]) -> None:
    """Keep our copies of assets; complete what a review completes, close what a retirement closes.

    While the copies are rebuilt only they are written: reviews and deployments are records of our own, which history
    must not touch twice.
    """
    newest: dict[Any, AssetCopy] = {}
    for received in batch:
        copy = AssetCopy.of(received.event.asset)
        known = newest.get(copy.asset_id)
        if known is None or copy.version > known.version:
            newest[copy.asset_id] = copy
    await store.upsert(tx, newest.values())
    if replaying.get():
        return
    for received in batch:
        event = received.event
        asset_id = event.asset.asset_id
        if isinstance(event, AssetReviewed):
            await reviews.asset_reviewed(tx, asset_id, event.reviewer, event.outcome, received.time)
        elif isinstance(event, AssetUpdated) and "last_security_review" in event.changed:
            # Declared with the asset instead of recorded as a review, e.g. by an import.
            if event.asset.last_security_review is not None:
                await reviews.asset_reviewed(tx, asset_id, "inventory", "declared", received.time)
        elif isinstance(event, AssetRetired):
            await controls.retire_on(tx, {asset_id}, received.time)
            await reviews.cancel_on(tx, {asset_id}, received.time)
            await acceptances.revoke_on(tx, {asset_id}, received.time)


async def follow_risk(tx: Tx, batch: Sequence[Received[AssessmentCompleted]]) -> None:
    """Keep each asset's risk as last assessed."""
    newest: dict[Any, AssessmentCompleted] = {}
    for received in batch:
        known = newest.get(received.event.asset_id)
        if known is None or received.event.version > known.version:
            newest[received.event.asset_id] = received.event
    await store.upsert_risk(tx, newest.values())
