"""Messages in: what other services announce, and the journalled commands of our own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.risk import application
from services.risk.store.tables import REBUILT
from shared.consumer import Consumers, Received
from shared.contracts.detection import ALERT_EVENTS
from shared.contracts.governance import CONTROL_EVENTS, AcceptanceExpired, AcceptanceGranted, AcceptanceRevoked
from shared.contracts.incidents import INCIDENT_EVENTS
from shared.contracts.inventory import ASSET_EVENTS
from shared.database import Tx

consumers = Consumers("risk", rebuilt=REBUILT)


# One handler for all of them: a run of events is split where the handler changes, and a batch pays by the run.
@consumers.on(
    *ASSET_EVENTS,
    *CONTROL_EVENTS,
    AcceptanceGranted,
    AcceptanceExpired,
    AcceptanceRevoked,
    *ALERT_EVENTS,
    *INCIDENT_EVENTS,
)
async def assess_what_changed(tx: Tx, batch: Sequence[Received[Any]]) -> None:
    await application.assess_what_changed(tx, batch)


consumers.command(application.ADOPT_MODEL)(application.adopt_model)
consumers.command(application.RESCORE_PAGE)(application.rescore_page)
consumers.command(application.LOOK_AGAIN)(application.look_again)
