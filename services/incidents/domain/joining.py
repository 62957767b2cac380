"""Which alerts become an incident, and which belong to one that is already open.

Two alerts tell the same story when category and asset (without an asset, the team) are the same and so is the session
or the actor. That is two possible keys an alert: an attacker who starts a new session for each attempt stays one
incident by the actor, and an actor that is first unknown and later named stays one by the session. An open incident
owns its keys, and the database lets no two open incidents own the same (see store.join_key).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from services.incidents.domain.playbooks import less_severe
from shared.contracts.detection import Severity
from shared.contracts.incidents import IncidentCategory, IncidentSeverity

ALERT_SEVERITIES: tuple[Severity, ...] = tuple(Severity)


@dataclass(frozen=True, slots=True)
class AlertPolicy:
    """When an alert is worth an incident.

    `opens_at` and above open one at once. `repeats_at` opens one when it occurred `repeats` times within the window:
    a single medium finding is a hint, the same one again and again is a campaign. All else stays an alert.
    """

    opens_at: Severity = Severity.HIGH
    repeats_at: Severity = Severity.MEDIUM
    repeats: int = 3
    window: timedelta = timedelta(minutes=60)

    def opens(self, severity: Severity, occurrences: int) -> bool:
        """Args: occurrences: how often the same key was seen within the window, this alert included."""
        rank = ALERT_SEVERITIES.index(severity)
        if rank >= ALERT_SEVERITIES.index(self.opens_at):
            return True
        return rank >= ALERT_SEVERITIES.index(self.repeats_at) and occurrences >= self.repeats

    def counts(self, severity: Severity) -> bool:
        """Whether repetition of this severity can open an incident at all."""
        return ALERT_SEVERITIES.index(severity) >= ALERT_SEVERITIES.index(self.repeats_at)

    def joins(self, last_alert_at: datetime, at: datetime) -> bool:
        """Whether an alert of time `at` still belongs to an incident whose latest alert was at `last_alert_at`.

        Symmetric, because alerts of one story may arrive out of order.
        """
        return abs(at - last_alert_at) <= self.window


def join_keys(
    category: IncidentCategory, asset_id: UUID | None, owner_team: str, session_id: str | None, actor: str | None
) -> tuple[str, ...]:
    """The keys of an alert, SHA-256 so that a long session id makes no long index entry.

    With neither session nor actor the asset alone is the key: a story that nobody can be tied to is told once an asset.
    Without an asset the team stands in its place: session ids and actors of two teams may be alike, and neither may
    read the other's incidents. With one it does not, so that a story goes on when the asset changes hands.
    """
    parts = [("session", session_id), ("actor", actor)]
    named = [(kind, value) for kind, value in parts if value] or [("asset", "")]
    place = str(asset_id) if asset_id else f"team\x1f{owner_team}"
    return tuple(hashlib.sha256("\x1f".join((category, place, *key)).encode()).hexdigest() for key in named)


def initial_severity(default: IncidentSeverity, alert: Severity) -> IncidentSeverity:
    """An incident starts at its playbook's default; what is only suspicious so far starts no higher than sev3."""
    if ALERT_SEVERITIES.index(alert) >= ALERT_SEVERITIES.index(Severity.HIGH):
        return default
    return less_severe(default, IncidentSeverity.SEV3)


def graver(one: Severity, other: Severity) -> bool:
    """Whether the first alert severity is above the second."""
    return ALERT_SEVERITIES.index(one) > ALERT_SEVERITIES.index(other)
