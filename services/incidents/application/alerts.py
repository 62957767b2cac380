"""Alerts become incidents, or join them.

A batch of any size is taken with the same few statements: what is known of the alerts, who holds their keys, the
incidents concerned; then the domain decides; then each incident is written once, however many alerts it got.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid5

from services.incidents.application.change import ITSELF, commit
from services.incidents.application.policy import Policy
from services.incidents.domain import lifecycle, steps
from services.incidents.domain.incident import ENDED, Change, Incident
from services.incidents.domain.joining import graver, initial_severity, join_keys
from services.incidents.domain.lifecycle import JoiningAlert, Piece
from services.incidents.store import assets, playbooks
from services.incidents.store import incidents as store
from services.incidents.store.incidents import KnownAlert
from shared.contracts.detection import AlertSnapshot, Disposition
from shared.contracts.incidents import IncidentCategory
from shared.database import Tx

_INCIDENTS = UUID("5f0c3c8e-6a39-4f0e-8f6e-0d3a86d7b5a4")
_NO_INCIDENT = frozenset({Disposition.FALSE_POSITIVE, Disposition.BENIGN, Disposition.DUPLICATE})


@dataclass(frozen=True, slots=True)
class Arrival:
    """An alert as an event told of it: `at` is when the program knew, `disposed_by` who said what it was."""

    alert: AlertSnapshot
    at: datetime
    event_id: UUID
    disposed_by: str | None = None


@dataclass(slots=True)
class _Opening:
    """An incident that this batch opens."""

    id: UUID
    category: IncidentCategory
    detected_at: datetime
    keys: set[str]
    alerts: list[AlertSnapshot] = field(default_factory=list)


class _Intake:
    """One batch on its way: what is known, and what was decided."""

    def __init__(self, policy: Policy, at: datetime) -> None:
        self.policy = policy
        self.at = at
        self.known: dict[UUID, KnownAlert] = {}
        self.keys: dict[UUID, tuple[str, ...]] = {}
        self.holders: dict[str, UUID] = {}
        self.incidents: dict[UUID, Incident] = {}
        self.waiting: list[tuple[tuple[str, ...], AlertSnapshot]] = []
        self.passed: set[UUID] = set()
        """Incidents whose window is over and whose keys an opening takes."""
        self.openings: list[_Opening] = []
        self.joining: dict[UUID, list[AlertSnapshot]] = {}
        self.kept: list[tuple[AlertSnapshot, UUID | None]] = []
        self.disposed: list[tuple[UUID, Arrival]] = []

    def own_incident(self, alert: AlertSnapshot) -> Incident | None:
        """The incident that the alert itself joined before, while it is open."""
        row = self.known.get(alert.alert_id)
        own = self.incidents.get(row.incident_id) if row is not None and row.incident_id else None
        return own if own is not None and own.status not in ENDED else None

    def holder(self, alert: AlertSnapshot) -> Incident | None:
        """The open incident that the alert joins by one of its keys; of two, the older."""
        held = (self.incidents.get(self.holders[key]) for key in self.keys[alert.alert_id] if key in self.holders)
        joinable = [
            incident
            for incident in held
            if incident is not None
            and incident.status not in ENDED
            and self.policy.alerts.joins(incident.last_alert_at or incident.opened_at, alert.last_seen)
        ]
        return min(joinable, key=lambda incident: incident.opened_at, default=None)

    def opening(self, alert: AlertSnapshot) -> _Opening | None:
        keys = self.keys[alert.alert_id]
        return next((opening for opening in self.openings if not opening.keys.isdisjoint(keys)), None)

    def place(self, arrival: Arrival) -> None:
        """Decide what becomes of one alert."""
        alert = arrival.alert
        keys = self.keys[alert.alert_id]
        opening = None
        incident = self.own_incident(alert)
        if incident is None:
            opening = self.opening(alert)
        if incident is None and opening is None:
            incident = self.holder(alert)
        if incident is not None:
            self.joining.setdefault(incident.id, []).append(alert)
            self.kept.append((alert, incident.id))
            return
        if alert.disposition in _NO_INCIDENT:
            return
        if opening is None:
            same = [waiting for held, waiting in self.waiting if not set(held).isdisjoint(keys)]
            others = [waiting for waiting in same if waiting.alert_id != alert.alert_id]
            occurrences = alert.count + sum(waiting.count for waiting in others)
            if not self.policy.alerts.opens(alert.severity, occurrences):
                if self.policy.alerts.counts(alert.severity):
                    self.waiting.append((keys, alert))
                    self.kept.append((alert, None))
                return
            opening = _Opening(
                uuid5(_INCIDENTS, str(arrival.event_id)), IncidentCategory(alert.category), arrival.at, set(keys)
            )
            opening.alerts.extend(others)
            self.kept.extend((waiting, opening.id) for waiting in others)
            self.openings.append(opening)
        opening.keys.update(keys)
        # Whoever holds such a key could not be joined: its window is over.
        self.passed.update(self.holders[key] for key in keys if key in self.holders)
        opening.alerts.append(alert)
        self.kept.append((alert, opening.id))

    def joining_alerts(self, alerts: Iterable[AlertSnapshot], incident_id: UUID) -> list[JoiningAlert]:
        """What each alert adds to the incident; of one that came several times, the latest."""
        found = []
        for alert in {alert.alert_id: alert for alert in alerts}.values():
            row = self.known.get(alert.alert_id)
            counted = row is not None and row.incident_id is not None
            found.append(
                JoiningAlert(
                    id=alert.alert_id,
                    new=row is None or row.incident_id != incident_id,
                    occurrences=alert.count - (row.count if counted and row is not None else 0),
                    severity=alert.severity,
                    session_id=alert.session_id,
                    actor=alert.actor,
                    first_seen=alert.first_seen,
                    last_seen=alert.last_seen,
                    rule_id=alert.rule_id,
                    title=alert.title,
                    reported_by=alert.reported_by,
                )
            )
        return found


async def take(tx: Tx, arrivals: Sequence[Arrival], policy: Policy, at: datetime) -> None:
    """Open or join incidents for what detection found; what was taken before changes nothing."""
    intake = _Intake(policy, at)
    latest = await _news(tx, intake, arrivals)
    if not latest:
        return
    await _look_around(tx, intake, latest)
    for arrival in latest:
        intake.place(arrival)
        row = intake.known.get(arrival.alert.alert_id)
        if arrival.disposed_by is not None and row is not None and row.incident_id is not None:
            intake.disposed.append((row.incident_id, arrival))
    if intake.passed:
        await store.release(tx, intake.passed)
    await _claim_keys(tx, intake)
    for opening in intake.openings:
        await _open(tx, intake, opening)
    for incident_id, alerts in sorted(intake.joining.items()):
        await _join(tx, intake, incident_id, alerts)
    await _keep(tx, intake)
    await _note_dispositions(tx, intake)


async def _news(tx: Tx, intake: _Intake, arrivals: Sequence[Arrival]) -> list[Arrival]:
    """The newest state of each alert that says something new, in the order of arrival."""
    newest: dict[UUID, Arrival] = {}
    for arrival in arrivals:
        before = newest.get(arrival.alert.alert_id)
        if before is None or arrival.alert.version > before.alert.version:
            # The first arrival says when the program knew, the last what is known.
            first = before or arrival
            newest[arrival.alert.alert_id] = Arrival(
                arrival.alert, first.at, first.event_id, arrival.disposed_by or first.disposed_by
            )
    intake.keys = {alert_id: _keys_of(arrival.alert) for alert_id, arrival in newest.items()}
    intake.known, intake.holders = await store.known(tx, newest, {key for keys in intake.keys.values() for key in keys})
    return [
        arrival
        for arrival in newest.values()
        if (row := intake.known.get(arrival.alert.alert_id)) is None or arrival.alert.version > row.version
    ]


def _keys_of(alert: AlertSnapshot) -> tuple[str, ...]:
    category = IncidentCategory(alert.category)
    return join_keys(category, alert.asset_id, alert.owner_team, alert.session_id, alert.actor)


async def _look_around(tx: Tx, intake: _Intake, arrivals: Sequence[Arrival]) -> None:
    """Read and lock what the decisions need."""
    concerned = set(intake.holders.values()) | {
        row.incident_id for row in intake.known.values() if row.incident_id is not None
    }
    intake.incidents = await store.lock_all(tx, concerned)
    rule = intake.policy.alerts
    hints = [a.alert for a in arrivals if rule.counts(a.alert.severity) and not rule.opens(a.alert.severity, 1)]
    if hints:
        keys = {key for alert in hints for key in intake.keys[alert.alert_id]}
        since = min(alert.last_seen for alert in hints) - rule.window
        intake.waiting = await store.waiting_alerts(tx, keys, since)


async def _claim_keys(tx: Tx, intake: _Intake) -> None:
    """Let incidents hold their alerts' keys; what somebody else opened in the meantime is joined instead."""
    claims = {key: opening.id for opening in intake.openings for key in opening.keys}
    free = await store.claim(tx, claims)
    taken = [opening for opening in intake.openings if not opening.keys <= free]
    for opening in taken:
        holders = await store.holders(tx, opening.keys - free)
        other = min(holders.values())
        intake.incidents |= await store.lock_all(tx, [other])
        await store.hand_over(tx, opening.id, other)
        intake.openings.remove(opening)
        intake.joining.setdefault(other, []).extend(opening.alerts)
        intake.kept = [(alert, other if owner == opening.id else owner) for alert, owner in intake.kept]
    further = {
        key: incident_id
        for incident_id, alerts in intake.joining.items()
        for alert in alerts
        for key in intake.keys.get(alert.alert_id, ())
        if key not in intake.holders and key not in claims
    }
    await store.claim(tx, further)


def _pieces(incident_id: UUID, alerts: Sequence[AlertSnapshot]) -> list[Piece]:
    return [
        Piece(
            id=uuid5(incident_id, f"alert/{alert.alert_id}/{alert.version}"),
            kind="alert",
            title=f"{alert.severity} alert of rule {alert.rule_id}: {alert.title}"[:300],
            source="detection",
            content=alert.model_dump(mode="json"),
        )
        for alert in alerts
    ]


async def _open(tx: Tx, intake: _Intake, opening: _Opening) -> None:
    alerts = sorted({alert.alert_id: alert for alert in opening.alerts}.values(), key=lambda alert: alert.first_seen)
    # The gravest is what the incident is named after and contained by; of equals, the first.
    lead = alerts[0]
    for alert in alerts[1:]:
        if graver(alert.severity, lead.severity):
            lead = alert
    alerts = [lead, *(alert for alert in alerts if alert is not lead)]
    stored = await playbooks.current(tx, opening.category)
    affected = list(dict.fromkeys(alert.asset_id for alert in alerts if alert.asset_id is not None))
    owners = await assets.owners(tx, affected) if affected else {}
    change = lifecycle.open_incident(
        stored.playbook,
        id=opening.id,
        title=lead.title[:300],
        description=f"Rule {lead.rule_id} (version {lead.rule_version}) found {lead.kind} in {lead.direction}.",
        severity=initial_severity(stored.playbook.severity_default, lead.severity),
        affected_assets=affected,
        owner_teams=[owners.get(asset_id) or lead.owner_team for asset_id in affected] or [lead.owner_team],
        session_id=lead.session_id,
        actor=lead.actor,
        reported_by=lead.reported_by,
        detected_by=lead.rule_id,
        opened_by=ITSELF.subject,
        playbook_version=stored.version,
        playbook_author=stored.author,
        occurred_at=min(alert.first_seen for alert in alerts),
        detected_at=opening.detected_at,
        at=intake.at,
    )
    joined = lifecycle.join(
        change.incident,
        intake.joining_alerts(alerts, opening.id),
        stored.playbook.severity_default,
        change.incident.updated_at,
    )
    collected, records = lifecycle.collect(
        joined.incident, _pieces(opening.id, alerts[: intake.policy.evidence_alerts]), by="detection", at=intake.at
    )
    whole = change.then(joined).then(collected)
    await commit(tx, None, whole, intake.policy, records=records, alert=lead)


async def _join(tx: Tx, intake: _Intake, incident_id: UUID, alerts: Sequence[AlertSnapshot]) -> None:
    before = intake.incidents[incident_id]
    stored = await playbooks.current(tx, before.category)
    joining = intake.joining_alerts(alerts, incident_id)
    change: Change = lifecycle.join(before, joining, stored.playbook.severity_default, intake.at)
    if (before.session_id is None and change.incident.session_id) or (before.actor is None and change.incident.actor):
        change = change.then(steps.automation_reconsidered(change.incident, at=intake.at))
    room = max(0, intake.policy.evidence_alerts - before.alert_count)
    new = {alert.id for alert in joining if alert.new}
    fresh = {alert.alert_id: alert for alert in alerts if alert.alert_id in new}
    collected, records = lifecycle.collect(
        change.incident, _pieces(incident_id, list(fresh.values())[:room]), by="detection", at=intake.at
    )
    intake.incidents[incident_id] = await commit(tx, before, change.then(collected), intake.policy, records=records)


async def _keep(tx: Tx, intake: _Intake) -> None:
    """Keep each alert once, as it is now."""
    latest: dict[UUID, tuple[AlertSnapshot, tuple[str, ...], UUID | None]] = {}
    for alert, incident_id in intake.kept:
        keys = intake.keys.get(alert.alert_id) or _keys_of(alert)
        latest[alert.alert_id] = (alert, keys, incident_id)
    await store.put_alerts(tx, list(latest.values()))


async def _note_dispositions(tx: Tx, intake: _Intake) -> None:
    """What a person said of an alert belongs on its incident's timeline; what to make of it is for people, too."""
    for incident_id, arrival in intake.disposed:
        before = intake.incidents.get(incident_id)
        if before is None:
            continue
        disposition = arrival.alert.disposition
        change = lifecycle.note(
            before,
            "alert_disposed",
            f"alert {arrival.alert.alert_id} is {disposition or 'undecided'}, says {arrival.disposed_by}",
            by=str(arrival.disposed_by),
            at=intake.at,
            alert_id=str(arrival.alert.alert_id),
            disposition=disposition,
        )
        intake.incidents[incident_id] = await commit(tx, before, change, intake.policy)
