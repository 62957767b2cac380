"""An incident and its steps as a state machine.

Status goes open -> investigating -> contained -> resolved -> closed. It moves along one edge at a time; whoever asks
for a status further on gets every status between, each with its own entry on the timeline. Two edges leave that path:
closing what turned out to be none (false positive, duplicate), and reopening for a stated reason, which has the work
from containment on done again.

Phases are those of the playbook's steps, in order. A phase is over when each of its steps is completed or skipped,
and skipping needs a reason, so none is passed silently. Contain first: steps of detection and containment can be
worked side by side, and automated ones of both start with the incident; later phases wait for those before them.

Every function takes an incident and gives a `Change`: the incident as it then is, and what happened, in order. The
caller stores both, publishes what is worth publishing, and starts the automated steps that the change names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from services.incidents.domain import evidence
from services.incidents.domain.draft import Draft
from services.incidents.domain.incident import (
    PATH,
    Change,
    Incident,
    NotReopened,
    ReasonMissing,
    Resolution,
    ResolutionRefused,
    Step,
    StepsRemain,
    StepStatus,
)
from services.incidents.domain.joining import graver, initial_severity
from services.incidents.domain.playbooks import PHASES, Playbook
from shared.contracts.detection import Severity
from shared.contracts.incidents import IncidentSeverity, IncidentStatus, Phase

ALERT_IDS_KEPT = 50
SESSIONS_KEPT = 100


def open_incident(
    playbook: Playbook,
    *,
    id: UUID,
    title: str,
    description: str,
    severity: IncidentSeverity,
    affected_assets: Iterable[UUID],
    owner_teams: Iterable[str],
    session_id: str | None,
    actor: str | None,
    reported_by: str = "",
    detected_by: str,
    opened_by: str,
    playbook_version: int,
    playbook_author: str,
    occurred_at: datetime,
    detected_at: datetime,
    at: datetime,
) -> Change:
    """Open an incident with its playbook's steps, and set in motion what starts at once.

    Args:
        reported_by: the subject whose request named the session; empty when nobody's did.
    """
    teams = tuple(dict.fromkeys(team for team in owner_teams if team))
    incident = Incident(
        id=id,
        version=0,
        category=playbook.category,
        severity=severity,
        title=title,
        description=description,
        status=IncidentStatus.OPEN,
        current_phase=Phase.DETECTION,
        affected_assets=tuple(dict.fromkeys(affected_assets)),
        owner_team=teams[0] if teams else "",
        owner_teams=teams,
        session_id=session_id,
        actor=actor,
        sessions=(session_id,) if session_id else (),
        detected_by=detected_by,
        opened_by=opened_by,
        assigned_to=None,
        playbook_version=playbook_version,
        playbook_author=playbook_author,
        alert_ids=(),
        alert_count=0,
        occurrence_count=0,
        alert_severity=None,
        occurred_at=min(occurred_at, detected_at),
        detected_at=detected_at,
        opened_at=at,
        last_alert_at=None,
        updated_at=at,
        reports=((session_id, reported_by),) if session_id and reported_by else (),
        steps=tuple(
            Step(
                number=step.step_number,
                phase=step.phase,
                action=step.action,
                responsible_role=step.responsible_role,
                automated=step.automated,
                automation_script=step.automation_script,
                requires_approval=step.requires_approval,
                timeout_minutes=step.timeout_minutes,
                escalation_trigger=step.escalation_trigger,
                escalate_to_severity=step.escalate_to_severity,
                escalate_to_role=step.escalate_to_role,
            )
            for step in playbook.steps
        ),
    )
    draft = Draft(incident, at, opened_by)
    draft.tell(
        "opened",
        f"{severity} opened by {detected_by}: {title}",
        playbook_version=playbook_version,
        severity=severity,
        detected_by=detected_by,
    )
    draft.progress()
    return draft.done()


@dataclass(frozen=True, slots=True)
class JoiningAlert:
    """What an alert brings to its incident. `new` is false when the alert itself was known and only repeated.

    `occurrences` is by how much its count grew.
    """

    id: UUID
    new: bool
    occurrences: int
    severity: Severity
    session_id: str | None
    actor: str | None
    first_seen: datetime
    last_seen: datetime
    rule_id: str
    title: str
    reported_by: str = ""


def join(incident: Incident, alerts: Iterable[JoiningAlert], default: IncidentSeverity, at: datetime) -> Change:
    """Take alerts into the incident; one entry on the timeline for all of them.

    Severity follows the gravest alert upwards only: a person who lowered it is overruled by graver news, by no other.
    """
    draft = Draft(incident, at, "detection")
    joined = list(alerts)
    new = [alert for alert in joined if alert.new]
    occurrences = sum(alert.occurrences for alert in joined)
    if not new and occurrences <= 0:
        return draft.done()
    now = draft.now
    sessions = dict.fromkeys((*now.sessions, *(alert.session_id for alert in joined if alert.session_id)))
    reports = dict.fromkeys(
        (
            *now.reports,
            *((alert.session_id, alert.reported_by) for alert in joined if alert.session_id and alert.reported_by),
        )
    )
    draft.set(
        alert_ids=tuple(dict.fromkeys((*now.alert_ids, *(alert.id for alert in new))))[:ALERT_IDS_KEPT],
        alert_count=now.alert_count + len(new),
        occurrence_count=now.occurrence_count + occurrences,
        sessions=tuple(sessions)[:SESSIONS_KEPT],
        reports=tuple(reports)[:SESSIONS_KEPT],
        session_id=now.session_id or next(iter(sessions), None),
        actor=now.actor or next((alert.actor for alert in joined if alert.actor), None),
        occurred_at=min(now.occurred_at, *(alert.first_seen for alert in joined)),
        last_alert_at=max(now.last_alert_at or joined[0].last_seen, *(alert.last_seen for alert in joined)),
    )
    rules = sorted({alert.rule_id for alert in joined})
    draft.tell(
        "alerts_joined",
        f"{len(new)} alert(s) joined, {occurrences} occurrence(s), by {', '.join(rules[:5])}",
        alerts=len(new),
        occurrences=occurrences,
        alert_ids=[str(alert.id) for alert in joined[:ALERT_IDS_KEPT]],
        rules=rules[:20],
    )
    for alert in joined:
        known = draft.now.alert_severity
        if known is not None and not graver(alert.severity, known):
            continue
        draft.set(alert_severity=alert.severity)
        if known is not None:
            draft.raise_severity(initial_severity(default, alert.severity), f"{alert.severity} alert: {alert.title}")
    return draft.done()


def note(
    incident: Incident, kind: str, summary: str, *, by: str, at: datetime, step: int | None = None, **detail: Any
) -> Change:
    """Put something on the timeline that changes nothing else."""
    draft = Draft(incident, at, by)
    draft.tell(kind, summary, step, **detail)
    return draft.done()


def amend(
    incident: Incident,
    *,
    by: str,
    at: datetime,
    severity: IncidentSeverity | None = None,
    title: str | None = None,
    description: str | None = None,
    assigned_to: str | None = None,
    unassign: bool = False,
    reason: str | None = None,
) -> Change:
    """Change what a person may set freely. What already is as asked stays without an entry."""
    draft = Draft(incident, at, by)
    if severity is not None and severity is not incident.severity:
        draft.set(severity=severity)
        draft.tell(
            "severity_changed",
            f"{incident.severity} -> {severity}: {reason or f'set by {by}'}",
            before=incident.severity,
            after=severity,
        )
    for name, value in (("title", title), ("description", description)):
        if value is not None and value != getattr(incident, name):
            draft.set(**{name: value})
            draft.tell(f"{name}_changed", f"{name} changed by {by}", before=getattr(incident, name), after=value)
    if (assigned_to or unassign) and assigned_to != incident.assigned_to:
        draft.set(assigned_to=assigned_to)
        draft.tell("assigned", f"assigned to {assigned_to or 'nobody'}", assigned_to=assigned_to)
        if assigned_to:
            draft.worked_on()
    return draft.done()


def own(incident: Incident, owner_teams: Iterable[str], *, by: str, at: datetime) -> Change:
    """The owners of the affected assets are others than was known."""
    teams = tuple(dict.fromkeys(team for team in owner_teams if team))
    draft = Draft(incident, at, by)
    if teams and teams != incident.owner_teams:
        draft.set(owner_team=teams[0], owner_teams=teams)
        draft.tell("owner_changed", f"owned by {', '.join(teams)}", owner_teams=list(teams))
    return draft.done()


def set_status(
    incident: Incident,
    target: IncidentStatus,
    *,
    by: str,
    at: datetime,
    reason: str | None = None,
    resolution: Resolution | None = None,
) -> Change:
    """Move the incident to `target`.

    Forwards, steps that should be done by then are skipped with `reason`, or the move is refused where there is none.
    Backwards is reopening. `false_positive` and `duplicate` close from anywhere and leave containment and resolution
    times unset, since there was nothing to contain.

    Raises:
        StepsRemain: steps are unsettled and no reason to skip them was given.
        NotReopened: going back without a reason, or to a status that reopening does not lead to.
        ResolutionRefused: a resolution with a target other than closed.
    """
    if resolution is not None and target is not IncidentStatus.CLOSED:
        raise ResolutionRefused("a resolution is given when an incident is closed")
    if target is incident.status:
        return Draft(incident, at, by).done()
    if PATH.index(target) < PATH.index(incident.status):
        return _reopen(incident, target, by=by, at=at, reason=reason)
    draft = Draft(incident, at, by)
    if resolution in (Resolution.FALSE_POSITIVE, Resolution.DUPLICATE):
        if incident.status is IncidentStatus.RESOLVED:
            raise ResolutionRefused("a resolved incident was a real one; close it as resolved")
        if not reason:
            raise ReasonMissing(f"say why this is a {resolution.replace('_', ' ')}", field="/reason")
        _skip_unsettled(draft, PHASES, f"closed as {resolution}: {reason}")
        draft.set(resolution=resolution)
        draft.move(IncidentStatus.CLOSED, f"{resolution}: {reason}")
        return draft.done()
    if target is not IncidentStatus.INVESTIGATING:
        phases = {
            IncidentStatus.CONTAINED: (Phase.CONTAINMENT,),
            IncidentStatus.RESOLVED: PHASES[:-1],
            IncidentStatus.CLOSED: PHASES,
        }[target]
        unsettled = [step.number for step in incident.steps if step.phase in phases and not step.settled]
        if unsettled and not reason:
            raise StepsRemain(
                f"to be {target}, complete or skip steps {', '.join(map(str, unsettled))}, or send a reason with which "
                "all of them are skipped",
                steps=unsettled,
            )
        _skip_unsettled(draft, phases, reason or "")
    if target is IncidentStatus.CLOSED:
        draft.set(resolution=Resolution.RESOLVED)
    if PATH.index(target) > PATH.index(draft.now.status):
        draft.move_along(target, reason or f"set by {by}")
    draft.progress()
    return draft.done()


def _skip_unsettled(draft: Draft, phases: Iterable[Phase], reason: str) -> None:
    wanted = frozenset(phases)
    for step in draft.now.steps:
        if step.phase in wanted and not step.settled:
            draft.settle(step.number, StepStatus.SKIPPED, reason)


def _reopen(incident: Incident, target: IncidentStatus, *, by: str, at: datetime, reason: str | None) -> Change:
    if target is not IncidentStatus.INVESTIGATING:
        raise NotReopened(f"a {incident.status} incident can only go back to {IncidentStatus.INVESTIGATING}")
    if not reason:
        raise NotReopened("say in `reason` why it is reopened")
    draft = Draft(incident, at, by)
    draft.set(
        status=IncidentStatus.INVESTIGATING,
        contained_at=None,
        resolved_at=None,
        closed_at=None,
        resolution=None,
        reopened_count=incident.reopened_count + 1,
    )
    draft.tell("reopened", f"reopened from {incident.status}: {reason}", reason=reason, before=incident.status)
    for step in incident.steps:
        if step.phase is not Phase.DETECTION:
            draft.rearm(step)
    draft.progress()
    return draft.done()


@dataclass(frozen=True, slots=True)
class Piece:
    """Something to be kept as evidence; `content` is any JSON value."""

    id: UUID
    kind: str
    title: str
    source: str
    content: object


def collect(
    incident: Incident, pieces: Sequence[Piece], *, by: str, at: datetime
) -> tuple[Change, tuple[evidence.Record, ...]]:
    """Append pieces to the incident's evidence. The incident keeps the chain's length and head, so a cut tail shows."""
    draft = Draft(incident, at, by)
    records: list[evidence.Record] = []
    after = (incident.evidence_count, incident.evidence_head)
    for piece in pieces:
        entry = evidence.record(
            id=piece.id,
            incident_id=incident.id,
            after=after,
            kind=piece.kind,
            title=piece.title,
            source=piece.source,
            content=piece.content,
            collected_at=draft.at,
            collected_by=by,
        )
        records.append(entry)
        after = (entry.sequence, entry.hash)
    if records:
        draft.set(evidence_count=after[0], evidence_head=after[1])
        titles = ", ".join(entry.title for entry in records[:3]) + (", ..." if len(records) > 3 else "")
        draft.tell(
            "evidence_added",
            f"{len(records)} piece(s) of evidence: {titles}",
            first=records[0].sequence,
            last=records[-1].sequence,
            head=after[1],
        )
    return draft.done(), tuple(records)
