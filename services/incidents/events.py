"""Messages in: alerts become incidents, assets say whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from services.incidents.application import alerts, incidents
from services.incidents.application.alerts import Arrival
from services.incidents.application.policy import Policy
from services.incidents.store import assets, rules
from shared.consumer import Consumers, Received
from shared.contracts.detection import ALERT_EVENTS, AlertDisposed, AlertEvent, RuleChanged
from shared.contracts.inventory import ASSET_EVENTS, AssetEvent
from shared.database import Tx

consumers = Consumers("incidents", linger_seconds=0.1, urgent=ALERT_EVENTS)


class Responding:
    """By which policy events are answered; main.py sets it from the settings before any event is consumed."""

    def __init__(self) -> None:
        self.policy = Policy()


responding = Responding()


@consumers.on(*ALERT_EVENTS)
async def open_or_join_incidents(tx: Tx, batch: Sequence[Received[AlertEvent]]) -> None:
    arrivals = [
        Arrival(
            alert=received.event.alert,
            at=received.time,
            event_id=received.id,
            disposed_by=received.event.actor if isinstance(received.event, AlertDisposed) else None,
        )
        for received in batch
    ]
    await alerts.take(tx, arrivals, responding.policy, datetime.now(UTC))


@consumers.on(RuleChanged)
async def forget_withdrawn_emergency_rules(tx: Tx, batch: Sequence[Received[RuleChanged]]) -> None:
    for received in batch:
        if received.event.rule_id.startswith("emergency_") and not received.event.enabled:
            await rules.withdraw(tx, received.event.rule_id, datetime.now(UTC))


@consumers.on(*ASSET_EVENTS)
async def copy_assets(tx: Tx, batch: Sequence[Received[AssetEvent]]) -> None:
    moved = await assets.put(tx, [received.event.asset for received in batch])
    if moved:
        await incidents.take_owners(tx, moved, responding.policy, datetime.now(UTC))
