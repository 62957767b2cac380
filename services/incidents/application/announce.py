"""What the rest of the program, and webhook subscribers, are told of a change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import orjson

from services.incidents.domain import webhooks
from services.incidents.domain.incident import Change, Happening, Incident
from services.incidents.store import webhooks as store
from shared import tasks
from shared.contracts.envelope import Event
from shared.contracts.incidents import (
    IncidentClosed,
    IncidentContained,
    IncidentEvent,
    IncidentOpened,
    IncidentReopened,
    IncidentResolved,
    IncidentStatus,
    IncidentUpdated,
    StepCompleted,
    StepOverdue,
)
from shared.database import Tx

DELIVER = "webhook.deliver"

_REACHED: dict[str, type[IncidentEvent]] = {
    IncidentStatus.CONTAINED: IncidentContained,
    IncidentStatus.RESOLVED: IncidentResolved,
    IncidentStatus.CLOSED: IncidentClosed,
}
_TOLD = ("severity", "status", "current_phase", "assigned_to", "title", "owner_team", "alert_count", "steps_overdue")


def events_of(before: Incident | None, change: Change) -> list[Event]:
    """The events of a change, in the order in which things happened; each carries the incident as it then is."""
    incident = change.incident
    snapshot, at, version = incident.snapshot(), incident.updated_at, incident.version
    found: list[Event] = []
    for happening in change.happenings:
        if happening.kind == "opened":
            found.append(IncidentOpened(version=version, occurred_at=at, incident=snapshot))
        elif happening.kind == "reopened":
            reason = str(happening.detail["reason"])
            found.append(IncidentReopened(version=version, occurred_at=at, incident=snapshot, reason=reason))
        elif happening.kind == "status_changed" and happening.detail["after"] in _REACHED:
            reached = _REACHED[happening.detail["after"]]
            found.append(reached(version=version, occurred_at=at, incident=snapshot))
        elif happening.kind in ("step_completed", "step_skipped"):
            found.append(_step_event(StepCompleted, incident, happening))
        elif happening.kind == "step_overdue":
            found.append(_step_event(StepOverdue, incident, happening))
    if before is not None:
        old = before.snapshot()
        changed = tuple(name for name in _TOLD if getattr(old, name) != getattr(snapshot, name))
        if changed and not any(isinstance(event, IncidentEvent) for event in found):
            found.append(IncidentUpdated(version=version, occurred_at=at, incident=snapshot, changed=changed))
    return found


def _step_event(kind: type[StepCompleted] | type[StepOverdue], incident: Incident, happening: Happening) -> Event:
    step = incident.step(happening.step or 1)
    return kind(
        version=incident.version,
        occurred_at=incident.updated_at,
        incident_id=incident.id,
        owner_team=incident.owner_team,
        step_number=step.number,
        phase=step.phase,
        status=step.status,
        automated=step.automated,
        action=step.automation_script,
        outcome=step.outcome,
        due_at=step.due_at,
    )


async def owe_webhooks(tx: Tx, change: Change, events: Sequence[Event]) -> None:
    """Owe a delivery of what is announced of a change to each subscriber that wants it and may have it."""
    asked = [happening for happening in change.happenings if happening.kind == "notification_requested"]
    subscriptions = await store.enabled(tx) if events or asked else []
    if not subscriptions:
        return
    incident = change.incident
    told = [(webhooks.event_type_of(event.TYPE), event.model_dump(mode="json")) for event in events]
    told += [("notification.requested", _notification(incident, happening)) for happening in asked]
    rows = [
        delivery_row(subscription.id, event_type, data, incident.id, incident.updated_at)
        for event_type, data in told
        for subscription in subscriptions
        if subscription.wants(event_type, incident.owner_teams)
    ]
    await owe_rows(tx, rows)


def _notification(incident: Incident, happening: Happening) -> dict[str, Any]:
    return {
        "incident": incident.snapshot().model_dump(mode="json"),
        "step_number": happening.step,
        "role": happening.detail.get("role"),
        "requirements": list(happening.detail.get("requirements", ())),
        "reason": happening.summary,
    }


def delivery_row(
    webhook_id: UUID, event_type: str, data: dict[str, Any], incident_id: UUID | None, at: datetime
) -> dict[str, Any]:
    body = {"type": event_type, "timestamp": at.isoformat(), "data": data}
    return {
        "id": uuid4(),
        "webhook_id": webhook_id,
        "event_type": event_type,
        "incident_id": incident_id,
        "body": orjson.dumps(body).decode(),
        "status": store.DeliveryStatus.PENDING,
        "created_at": at,
    }


async def owe_rows(tx: Tx, rows: Iterable[dict[str, Any]]) -> None:
    listed = list(rows)
    await store.add_deliveries(tx, listed)
    for row in listed:
        await tasks.add(tx, kind=DELIVER, key=str(row["id"]), payload={"delivery_id": str(row["id"])})


async def subscribers_for(tx: Tx, incident: Incident, event_type: str) -> int:
    """How many would be told."""
    return sum(subscription.wants(event_type, incident.owner_teams) for subscription in await store.enabled(tx))
