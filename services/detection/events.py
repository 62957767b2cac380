"""Messages in: what inventory says of assets."""

from __future__ import annotations

from collections.abc import Sequence

from services.detection.application import supply_chain
from services.detection.store import assets
from services.detection.store.tables import asset_copy_table
from shared.consumer import Consumers, Received
from shared.contracts.inventory import ASSET_EVENTS, ArtifactDenied, AssetEvent
from shared.database import Tx
from shared.outbox import replaying

consumers = Consumers("detection", rebuilt=[asset_copy_table], linger_seconds=0.1, urgent=[ArtifactDenied])


@consumers.on(*ASSET_EVENTS)
async def copy_assets(tx: Tx, batch: Sequence[Received[AssetEvent]]) -> None:
    known = [received.event.asset for received in batch]
    await assets.put(tx, known)
    if not replaying.get():
        await assets.follow_owners(tx, known)


@consumers.on(ArtifactDenied)
async def alert_of_denied_artifacts(tx: Tx, batch: Sequence[Received[ArtifactDenied]]) -> None:
    if not replaying.get():
        await supply_chain.raise_for_denied(tx, batch)
