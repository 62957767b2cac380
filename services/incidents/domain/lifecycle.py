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

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.incidents.domain.incident import (
    PATH,
    Change,
    Happening,
    Incident,
    IncidentClosedAlready,
    NotReopened,
    OutOfOrder,
    ReasonMissing,
    Resolution,
    ResolutionRefused,
    SelfApproval,
    Step,
    StepRefused,
    StepsRemain,
    StepStatus,
)
from services.incidents.domain.joining import graver, initial_severity
from services.incidents.domain.playbooks import PHASES, Playbook, more_severe
from shared.contracts.detection import Severity
from shared.contracts.incidents import IncidentSeverity, IncidentStatus, Phase

ALERT_IDS_KEPT = 50
SESSIONS_KEPT = 100

_CONTAIN_FIRST: frozenset[Phase] = frozenset({Phase.DETECTION, Phase.CONTAINMENT})


class _Draft:
    """A change being worked out."""

    def __init__(self, incident: Incident, at: datetime, by: str) -> None:
        self.was = incident
        self.now = incident
        self.at = at
        self.by = by
        self.happenings: list[Happening] = []
        self.starting: list[int] = []

    def tell(self, kind: str, summary: str, step: int | None = None, **detail: Any) -> None:
        self.happenings.append(Happening(kind, summary, step, {"by": self.by, **detail}))

    def set(self, **values: Any) -> None:
        self.now = replace(self.now, **values)

    def set_step(self, number: int, **values: Any) -> Step:
        changed = replace(self.now.step(number), **values)
        self.set(steps=(*self.now.steps[: number - 1], changed, *self.now.steps[number:]))
        return changed

    def done(self) -> Change:
        if not self.happenings:
            return Change(self.was, (), ())
        self.set(version=self.was.version + 1, updated_at=self.at)
        return Change(self.now, tuple(self.happenings), tuple(self.starting))

    # What follows moves the draft on by the rules above.

    def move(self, status: IncidentStatus, why: str) -> None:
        before = self.now.status
        times: dict[str, datetime] = {}
        if status is IncidentStatus.CONTAINED:
            times["contained_at"] = self.at
        elif status is IncidentStatus.RESOLVED:
            times["resolved_at"] = self.at
        elif status is IncidentStatus.CLOSED:
            times["closed_at"] = self.at
        self.set(status=status, **times)
        self.tell("status_changed", f"{before} -> {status}: {why}", before=before, after=status)

    def move_along(self, target: IncidentStatus, why: str) -> None:
        """Pass every status up to `target`, which lies ahead."""
        for status in PATH[PATH.index(self.now.status) + 1 : PATH.index(target) + 1]:
            self.move(status, why)

    def worked_on(self) -> None:
        if self.now.status is IncidentStatus.OPEN:
            self.move(IncidentStatus.INVESTIGATING, f"{self.by} works on it")

    def settle(self, number: int, status: StepStatus, outcome: str) -> None:
        step = self.set_step(number, status=status, outcome=outcome, settled_at=self.at, settled_by=self.by)
        self.tell(
            f"step_{status}",
            f"step {number} ({step.phase}) {status}" + (f": {outcome}" if outcome else ""),
            number,
            outcome=outcome,
            automation_script=step.automation_script,
        )

    def raise_severity(self, to: IncidentSeverity, why: str) -> None:
        severity = more_severe(self.now.severity, to)
        if severity is not self.now.severity:
            before = self.now.severity
            self.set(severity=severity)
            self.tell("severity_changed", f"{before} -> {severity}: {why}", before=before, after=severity)

    def escalate(self, step: Step, why: str) -> None:
        if step.escalate_to_severity is not None:
            self.raise_severity(step.escalate_to_severity, why)
        if step.escalate_to_role is not None:
            self.tell(
                "notification_requested",
                f"{step.escalate_to_role} is called in: {why}",
                step.number,
                role=step.escalate_to_role,
            )

    def progress(self) -> None:
        """Enter the phases and statuses that the steps' state allows, and set in motion what can start."""
        phase = next((step.phase for step in self.now.steps if not step.settled), Phase.LESSONS_LEARNED)
        if phase is not self.now.current_phase:
            passed = PHASES[PHASES.index(self.now.current_phase) + 1 : PHASES.index(phase)]
            empty = [name for name in passed if not any(step.phase is name for step in self.now.steps)]
            remark = f" ({', '.join(empty)} has no steps in this playbook)" if empty else ""
            before = self.now.current_phase
            self.set(current_phase=phase)
            self.tell("phase_entered", f"phase {phase}{remark}", before=before, after=phase)
        self._contained()
        self._resolved()
        if self.now.status is not IncidentStatus.CLOSED:
            self._start()

    def _of(self, *phases: Phase) -> list[Step]:
        return [step for step in self.now.steps if step.phase in phases]

    def _contained(self) -> None:
        if self.now.status not in (IncidentStatus.OPEN, IncidentStatus.INVESTIGATING):
            return
        containment = self._of(Phase.CONTAINMENT)
        if all(step.settled for step in containment) and any(
            step.status is StepStatus.COMPLETED for step in containment
        ):
            self.move_along(IncidentStatus.CONTAINED, "its containment steps are done")

    def _resolved(self) -> None:
        if self.now.status is not IncidentStatus.CONTAINED or not self._of(Phase.RECOVERY):
            return
        if all(step.settled for step in self.now.steps if step.phase is not Phase.LESSONS_LEARNED):
            self.move_along(IncidentStatus.RESOLVED, "its recovery steps are done")

    def _start(self) -> None:
        for step in self.now.steps:
            if step.status is not StepStatus.PENDING or not self._workable(step):
                continue
            due_at = step.due_at or self.at + timedelta(minutes=step.timeout_minutes)
            if not step.automated:
                if step.due_at is None:
                    self.set_step(step.number, due_at=due_at)
            elif step.requires_approval:
                requested_by = step.requested_by or self.now.opened_by
                self.set_step(
                    step.number, status=StepStatus.AWAITING_APPROVAL, due_at=due_at, requested_by=requested_by
                )
                self.tell("step_awaiting_approval", f"step {step.number} waits for a second person", step.number)
            else:
                self.start(step.number)

    def _workable(self, step: Step) -> bool:
        """Whether the step's clock runs: its phase has come, and what it follows is done."""
        before = [
            other for other in self.now.steps[: step.number - 1] if other.phase is step.phase and not other.settled
        ]
        if step.phase in _CONTAIN_FIRST:
            return step.automated or not any(not other.automated for other in before)
        return step.phase is self.now.current_phase and not before

    def start(self, number: int) -> None:
        step = self.now.step(number)
        due_at = step.due_at or self.at + timedelta(minutes=step.timeout_minutes)
        self.set_step(number, status=StepStatus.RUNNING, due_at=due_at, started_at=self.at)
        self.tell("step_started", f"step {number}: {step.automation_script} started", number, run=step.run)
        self.starting.append(number)

    def rearm(self, step: Step) -> None:
        """Back to pending, to be set in motion again."""
        self.set_step(
            step.number,
            status=StepStatus.PENDING,
            run=step.run + 1,
            due_at=None,
            started_at=None,
            settled_at=None,
            settled_by=None,
            overdue_at=None,
            requested_by=self.by,
            approved_by=None,
            outcome="",
        )


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
    detected_by: str,
    opened_by: str,
    playbook_version: int,
    playbook_author: str,
    occurred_at: datetime,
    detected_at: datetime,
    at: datetime,
) -> Change:
    """Open an incident with its playbook's steps, and set in motion what starts at once."""
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
    draft = _Draft(incident, at, opened_by)
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


def join(incident: Incident, alerts: Iterable[JoiningAlert], default: IncidentSeverity, at: datetime) -> Change:
    """Take alerts into the incident; one entry on the timeline for all of them.

    Severity follows the gravest alert upwards only: a person who lowered it is overruled by graver news, by no other.
    """
    draft = _Draft(incident, at, "detection")
    joined = list(alerts)
    new = [alert for alert in joined if alert.new]
    occurrences = sum(alert.occurrences for alert in joined)
    if not new and occurrences <= 0:
        return draft.done()
    now = draft.now
    sessions = dict.fromkeys((*now.sessions, *(alert.session_id for alert in joined if alert.session_id)))
    draft.set(
        alert_ids=tuple(dict.fromkeys((*now.alert_ids, *(alert.id for alert in new))))[:ALERT_IDS_KEPT],
        alert_count=now.alert_count + len(new),
        occurrence_count=now.occurrence_count + occurrences,
        sessions=tuple(sessions)[:SESSIONS_KEPT],
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
    draft = _Draft(incident, at, by)
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
    draft = _Draft(incident, at, by)
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
    draft = _Draft(incident, at, by)
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
        return _Draft(incident, at, by).done()
    if PATH.index(target) < PATH.index(incident.status):
        return _reopen(incident, target, by=by, at=at, reason=reason)
    draft = _Draft(incident, at, by)
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


def _skip_unsettled(draft: _Draft, phases: Iterable[Phase], reason: str) -> None:
    wanted = frozenset(phases)
    for step in draft.now.steps:
        if step.phase in wanted and not step.settled:
            draft.settle(step.number, StepStatus.SKIPPED, reason)


def _reopen(incident: Incident, target: IncidentStatus, *, by: str, at: datetime, reason: str | None) -> Change:
    if target is not IncidentStatus.INVESTIGATING:
        raise NotReopened(f"a {incident.status} incident can only go back to {IncidentStatus.INVESTIGATING}")
    if not reason:
        raise NotReopened("say in `reason` why it is reopened")
    draft = _Draft(incident, at, by)
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


def _workable_step(incident: Incident, number: int, allowed: Iterable[StepStatus], doing: str) -> Step:
    step = incident.step(number)
    if incident.status is IncidentStatus.CLOSED:
        raise IncidentClosedAlready(f"step {number} cannot be {doing}")
    if step.status not in frozenset(allowed):
        raise StepRefused(f"step {number} is {step.status}; it cannot be {doing}", step_status=step.status)
    return step


_UNSETTLED = (StepStatus.PENDING, StepStatus.RUNNING, StepStatus.AWAITING_APPROVAL, StepStatus.FAILED)


def complete_step(incident: Incident, number: int, *, by: str, at: datetime, outcome: str = "") -> Change:
    """A person did the step; an automated one may be done by hand, whatever became of its automation.

    Raises:
        OutOfOrder: steps of an earlier phase are open. Detection does not hold containment up.
    """
    step = _workable_step(incident, number, _UNSETTLED, "completed")
    earlier = [
        other.number
        for other in incident.steps
        if not other.settled
        and PHASES.index(other.phase) < PHASES.index(step.phase)
        and not (step.phase is Phase.CONTAINMENT and other.phase is Phase.DETECTION)
    ]
    if earlier:
        raise OutOfOrder(
            f"step {number} belongs to {step.phase}; first complete or skip steps {', '.join(map(str, earlier))}",
            steps=earlier,
        )
    draft = _Draft(incident, at, by)
    draft.worked_on()
    draft.settle(number, StepStatus.COMPLETED, outcome)
    draft.progress()
    return draft.done()


def skip_step(incident: Incident, number: int, *, by: str, at: datetime, reason: str) -> Change:
    """A person decided that the step is not done, and says why."""
    _workable_step(incident, number, _UNSETTLED, "skipped")
    draft = _Draft(incident, at, by)
    draft.worked_on()
    draft.settle(number, StepStatus.SKIPPED, reason)
    draft.progress()
    return draft.done()


def approve_step(incident: Incident, number: int, *, by: str, at: datetime) -> Change:
    """A second person lets an automated step run.

    Raises:
        SelfApproval: `by` asked for it, or wrote the playbook version that has it.
    """
    step = _workable_step(incident, number, (StepStatus.AWAITING_APPROVAL,), "approved")
    if by == step.requested_by:
        raise SelfApproval(f"{by} asked for step {number}; somebody else approves it")
    if by == incident.playbook_author:
        raise SelfApproval(f"{by} wrote this playbook; somebody else approves step {number}")
    draft = _Draft(incident, at, by)
    draft.worked_on()
    draft.set_step(number, approved_by=by)
    draft.tell("step_approved", f"step {number} approved by {by}", number)
    draft.start(number)
    return draft.done()


def retry_step(incident: Incident, number: int, *, by: str, at: datetime, reason: str | None = None) -> Change:
    """Set a failed or skipped step in motion again; an automated one also when it was completed, since blocks expire.

    A step that needs approval needs it again, from somebody other than `by`.
    """
    allowed = {StepStatus.FAILED, StepStatus.SKIPPED}
    if incident.step(number).automated:
        allowed.add(StepStatus.COMPLETED)
    step = _workable_step(incident, number, allowed, "set in motion again")
    draft = _Draft(incident, at, by)
    draft.rearm(step)
    draft.tell("step_retried", f"step {number} set in motion again" + (f": {reason}" if reason else ""), number)
    draft.progress()
    return draft.done()


def automation_completed(incident: Incident, number: int, run: int, *, outcome: str, at: datetime) -> Change:
    """An automated step did what it does. Nothing changes where that run is no longer the one awaited."""
    return _automation(incident, number, run, StepStatus.COMPLETED, outcome, at)


def automation_not_applicable(incident: Incident, number: int, run: int, *, reason: str, at: datetime) -> Change:
    """There was nothing for an automated step to act on."""
    return _automation(incident, number, run, StepStatus.SKIPPED, f"not applicable: {reason}", at)


def _automation(incident: Incident, number: int, run: int, status: StepStatus, outcome: str, at: datetime) -> Change:
    draft = _Draft(incident, at, "automation")
    if _awaits(incident, number, run):
        draft.settle(number, status, outcome)
        draft.progress()
    return draft.done()


def _awaits(incident: Incident, number: int, run: int) -> bool:
    step = incident.step(number)
    return step.run == run and step.status is StepStatus.RUNNING


def automation_failed(incident: Incident, number: int, run: int, *, error: str, at: datetime) -> Change:
    """An automated step gave up; a person has to act, and the step's escalation is due."""
    draft = _Draft(incident, at, "automation")
    if _awaits(incident, number, run):
        step = draft.set_step(number, status=StepStatus.FAILED, outcome=error)
        draft.tell("step_failed", f"step {number}: {step.automation_script} failed: {error}", number, error=error)
        draft.escalate(step, f"step {number} failed")
    return draft.done()


def flag_overdue(incident: Incident, *, at: datetime) -> Change:
    """Flag every step that passed its time, once a run, and escalate as its trigger says."""
    draft = _Draft(incident, at, "clock")
    if incident.status is IncidentStatus.CLOSED:
        return draft.done()
    for step in incident.steps:
        if step.settled or step.overdue_at is not None or step.due_at is None or step.due_at > at:
            continue
        draft.set_step(step.number, overdue_at=at)
        why = f"step {step.number} passed its {step.timeout_minutes} minutes"
        draft.tell(
            "step_overdue",
            why + (f". {step.escalation_trigger}" if step.escalation_trigger else ""),
            step.number,
            status=step.status,
            escalation_trigger=step.escalation_trigger,
        )
        draft.escalate(step, why)
    return draft.done()
