"""Messages in: what risk says of our assets."""

from __future__ import annotations

from collections.abc import Sequence

from services.inventory.store import risk as store
from services.inventory.store.schema import risk_table
from shared.consumer import Consumers, Received
from shared.contracts.risk import AssessmentCompleted
from shared.database import Tx

consumers = Consumers("inventory", rebuilt=[risk_table])


@consumers.on(AssessmentCompleted)
async def show_risk_on_assets(tx: Tx, batch: Sequence[Received[AssessmentCompleted]]) -> None:
    """Keep the newest score of each asset. The asset itself does not change by it, so nothing is announced."""
    events = [received.event for received in batch]
    await store.store(
        tx,
        [
            (event.asset_id, event.version, event.residual_risk_score, event.risk_level.value, event.assessed_at)
            for event in events
        ],
    )
