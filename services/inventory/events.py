"""Messages in: what risk, governance and incidents say of our assets."""

from __future__ import annotations

from collections.abc import Sequence

from services.inventory.store import gate
from services.inventory.store import risk as store
from services.inventory.store.schema import PROJECTIONS, risk_table
from shared.consumer import Consumers, Received
from shared.contracts.governance import (
    CONTROL_EVENTS,
    AcceptanceEvent,
    AcceptanceExpired,
    AcceptanceGranted,
    AcceptanceRevoked,
    AppetiteChanged,
    ControlEvent,
    ControlRemoved,
)
from shared.contracts.incidents import INCIDENT_EVENTS, IncidentEvent
from shared.contracts.risk import AssessmentCompleted
from shared.database import Tx

consumers = Consumers("inventory", rebuilt=[risk_table, *PROJECTIONS])


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


@consumers.on(*CONTROL_EVENTS)
async def know_controls(tx: Tx, batch: Sequence[Received[ControlEvent]]) -> None:
    """Keep what stands on each asset, for deployment checks and toxic combinations."""
    told = [(received.event.deployment, isinstance(received.event, ControlRemoved)) for received in batch]
    await gate.keep_controls(tx, told)


@consumers.on(AcceptanceGranted, AcceptanceExpired, AcceptanceRevoked)
async def know_accepted_risks(tx: Tx, batch: Sequence[Received[AcceptanceEvent]]) -> None:
    """Keep which assets' risk somebody entitled to accepted."""
    told = [(received.event.acceptance, isinstance(received.event, AcceptanceGranted)) for received in batch]
    await gate.keep_acceptances(tx, told)


@consumers.on(AppetiteChanged)
async def know_the_appetite(tx: Tx, batch: Sequence[Received[AppetiteChanged]]) -> None:
    """Keep how much risk the organisation takes."""
    await gate.keep_appetite(tx, [received.event for received in batch])


@consumers.on(*INCIDENT_EVENTS)
async def know_incidents(tx: Tx, batch: Sequence[Received[IncidentEvent]]) -> None:
    """Keep which assets incidents affect."""
    await gate.keep_incidents(tx, [received.event.incident for received in batch])
