"""Messages in: everything that a figure counts, from every service's stream."""

from __future__ import annotations

from collections.abc import Sequence

from services.metrics import application
from services.metrics.store import REBUILT
from shared.consumer import Consumers, Received
from shared.contracts.detection import ALERT_EVENTS
from shared.contracts.envelope import Event
from shared.contracts.governance import (
    ACCEPTANCE_EVENTS,
    CONTROL_EVENTS,
    AppetiteChanged,
    DecisionRecorded,
    EngagementChanged,
    FindingChanged,
    PolicyApproved,
    ReviewChanged,
)
from shared.contracts.incidents import INCIDENT_EVENTS, StepCompleted, StepOverdue
from shared.contracts.inventory import ASSET_EVENTS
from shared.contracts.risk import AssessmentCompleted
from shared.database import Tx

# Nobody waits for a figure as for a score, and a tenth of a second of events in one transaction costs little more than
# one event.
consumers = Consumers("metrics", rebuilt=REBUILT, linger_seconds=0.1)


# One handler for all: a run of events is cut where its handler changes, and the streams come interleaved.
@consumers.on(
    *ASSET_EVENTS,
    AssessmentCompleted,
    *ALERT_EVENTS,
    *INCIDENT_EVENTS,
    StepCompleted,
    StepOverdue,
    *CONTROL_EVENTS,
    *ACCEPTANCE_EVENTS,
    PolicyApproved,
    AppetiteChanged,
    DecisionRecorded,
    EngagementChanged,
    FindingChanged,
    ReviewChanged,
)
async def book_what_happened(tx: Tx, batch: Sequence[Received[Event]]) -> None:
    await application.book(tx, [received.event for received in batch])
