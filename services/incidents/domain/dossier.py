"""The dossier: everything about an incident as it was at a time, under a digest that anyone can recompute.

It is made of rows that are only ever added to, so the same time gives the same document for ever, unless somebody
changed the past. That shows twice: in the digest that was kept, and in the evidence chain, which is checked anew for
every dossier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.incidents.domain import evidence
from services.incidents.domain.evidence import Record, instant
from services.incidents.domain.incident import Incident, Step


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the timeline."""

    at: datetime
    kind: str
    summary: str
    actor: str
    step: int | None
    detail: dict[str, Any]


def _moment(moment: datetime | None) -> str | None:
    return instant(moment) if moment is not None else None


def _incident(incident: Incident) -> dict[str, Any]:
    return {
        "incident_id": str(incident.id),
        "version": incident.version,
        "category": incident.category,
        "severity": incident.severity,
        "title": incident.title,
        "description": incident.description,
        "status": incident.status,
        "current_phase": incident.current_phase,
        "resolution": incident.resolution,
        "affected_assets": [str(asset) for asset in incident.affected_assets],
        "owner_teams": list(incident.owner_teams),
        "session_id": incident.session_id,
        "actor": incident.actor,
        "sessions": list(incident.sessions),
        "detected_by": incident.detected_by,
        "opened_by": incident.opened_by,
        "assigned_to": incident.assigned_to,
        "playbook_version": incident.playbook_version,
        "alert_ids": [str(alert) for alert in incident.alert_ids],
        "alert_count": incident.alert_count,
        "occurrence_count": incident.occurrence_count,
        "reopened_count": incident.reopened_count,
        **{
            name: _moment(getattr(incident, name))
            for name in (
                "occurred_at",
                "detected_at",
                "opened_at",
                "updated_at",
                "contained_at",
                "resolved_at",
                "closed_at",
            )
        },
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "step_number": step.number,
        "phase": step.phase,
        "action": step.action,
        "responsible_role": step.responsible_role,
        "automated": step.automated,
        "automation_script": step.automation_script,
        "timeout_minutes": step.timeout_minutes,
        "escalation_trigger": step.escalation_trigger,
        "status": step.status,
        "run": step.run,
        "outcome": step.outcome,
        "settled_by": step.settled_by,
        "requested_by": step.requested_by,
        "approved_by": step.approved_by,
        **{name: _moment(getattr(step, name)) for name in ("due_at", "started_at", "settled_at", "overdue_at")},
    }


def _record(entry: Record) -> dict[str, Any]:
    # The content goes in as the text that was hashed: a number in it must not be written anew on the way.
    return {**entry.sealed(), "content": entry.content, "previous_hash": entry.previous_hash, "hash": entry.hash}


def compose(
    incident: Incident, timeline: Sequence[Entry], chain: Sequence[Record], *, as_of: datetime
) -> dict[str, Any]:
    """The dossier of `incident` as it was at `as_of`, with its digest.

    Args:
        timeline: its entries until then.
        chain: its evidence until then.
    """
    broken = evidence.first_broken(chain)
    complete = len(chain) == incident.evidence_count and (not chain or chain[-1].hash == incident.evidence_head)
    document: dict[str, Any] = {
        "kind": "colonnade.incident-dossier.v1",
        "as_of": instant(as_of),
        "incident": _incident(incident),
        "steps": [_step(step) for step in incident.steps],
        "timeline": [
            {
                "at": instant(entry.at),
                "kind": entry.kind,
                "summary": entry.summary,
                "actor": entry.actor,
                "step": entry.step,
                "detail": entry.detail,
            }
            for entry in timeline
        ],
        "evidence": [_record(entry) for entry in chain],
        "evidence_chain": {
            "length": incident.evidence_count,
            "head": incident.evidence_head,
            "intact": broken is None and complete,
            "first_broken": broken if broken is not None else (None if complete else len(chain) + 1),
        },
    }
    return document | {"digest": evidence.digest(document)}
