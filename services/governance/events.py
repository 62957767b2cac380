"""Messages in: what inventory says of assets, and risk of their scores."""

from __future__ import annotations

from collections.abc import Sequence

from services.governance.application import assets
from services.governance.store.schema import REBUILT
from shared.consumer import Consumers, Received
from shared.contracts.inventory import ASSET_EVENTS, AssetEvent
from shared.contracts.risk import AssessmentCompleted
from shared.database import Tx

consumers = Consumers("governance", rebuilt=REBUILT, linger_seconds=0.1)


@consumers.on(*ASSET_EVENTS)
async def follow_assets(tx: Tx, batch: Sequence[Received[AssetEvent]]) -> None:
    await assets.follow_assets(tx, batch)


@consumers.on(AssessmentCompleted)
async def follow_risk(tx: Tx, batch: Sequence[Received[AssessmentCompleted]]) -> None:
    await assets.follow_risk(tx, batch)
