"""What people, automation and the clock do with the steps of an incident."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from services.incidents.domain.draft import Draft
from services.incidents.domain.incident import (
    Change,
    Incident,
    IncidentClosedAlready,
    OutOfOrder,
    SelfApproval,
    Step,
    StepRefused,
    StepStatus,
)
from services.incidents.domain.playbooks import PHASES
from shared.contracts.incidents import IncidentStatus, Phase

NOT_APPLICABLE = "not applicable"


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
    draft = Draft(incident, at, by)
    draft.worked_on()
    draft.settle(number, StepStatus.COMPLETED, outcome)
    draft.progress()
    return draft.done()


def skip_step(incident: Incident, number: int, *, by: str, at: datetime, reason: str) -> Change:
    """A person decided that the step is not done, and says why."""
    _workable_step(incident, number, _UNSETTLED, "skipped")
    draft = Draft(incident, at, by)
    draft.worked_on()
    draft.settle(number, StepStatus.SKIPPED, reason)
    draft.progress()
    return draft.done()


def approve_step(incident: Incident, number: int, *, by: str, at: datetime, note: str = "") -> Change:
    """A second person lets an automated step run.

    Raises:
        SelfApproval: `by` asked for it, or wrote the playbook version that has it.
    """
    step = _workable_step(incident, number, (StepStatus.AWAITING_APPROVAL,), "approved")
    if by == step.requested_by:
        raise SelfApproval(f"{by} asked for step {number}; somebody else approves it")
    if by == incident.playbook_author:
        raise SelfApproval(f"{by} wrote this playbook; somebody else approves step {number}")
    draft = Draft(incident, at, by)
    draft.worked_on()
    draft.set_step(number, approved_by=by)
    draft.tell("step_approved", f"step {number} approved by {by}" + (f": {note}" if note else ""), number)
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
    draft = Draft(incident, at, by)
    draft.rearm(step)
    draft.tell("step_retried", f"step {number} set in motion again" + (f": {reason}" if reason else ""), number)
    draft.progress()
    return draft.done()


def automation_completed(incident: Incident, number: int, run: int, *, outcome: str, at: datetime) -> Change:
    """An automated step did what it does. Nothing changes where that run is no longer the one awaited."""
    return _automation(incident, number, run, StepStatus.COMPLETED, outcome, at)


def automation_not_applicable(incident: Incident, number: int, run: int, *, reason: str, at: datetime) -> Change:
    """There was nothing for an automated step to act on."""
    return _automation(incident, number, run, StepStatus.SKIPPED, f"{NOT_APPLICABLE}: {reason}", at)


def _automation(incident: Incident, number: int, run: int, status: StepStatus, outcome: str, at: datetime) -> Change:
    draft = Draft(incident, at, "automation")
    if _awaits(incident, number, run):
        draft.settle(number, status, outcome)
        draft.progress()
    return draft.done()


def _awaits(incident: Incident, number: int, run: int) -> bool:
    step = incident.step(number)
    return step.run == run and step.status is StepStatus.RUNNING


def automation_reconsidered(incident: Incident, *, at: datetime) -> Change:
    """Set in motion again what had nothing to act on: by now a session or an actor is known."""
    draft = Draft(incident, at, "automation")
    if incident.status is IncidentStatus.CLOSED:
        return draft.done()
    for step in incident.steps:
        if step.status is StepStatus.SKIPPED and step.outcome.startswith(NOT_APPLICABLE):
            draft.rearm(step)
            draft.tell("step_retried", f"step {step.number} set in motion again: more is known", step.number)
    if draft.happenings:
        draft.progress()
    return draft.done()


def automation_failed(incident: Incident, number: int, run: int, *, error: str, at: datetime) -> Change:
    """An automated step gave up; a person has to act, and the step's escalation is due."""
    draft = Draft(incident, at, "automation")
    if _awaits(incident, number, run):
        step = draft.set_step(number, status=StepStatus.FAILED, outcome=error)
        draft.tell("step_failed", f"step {number}: {step.automation_script} failed: {error}", number, error=error)
        draft.escalate(step, f"step {number} failed")
    return draft.done()


def flag_overdue(incident: Incident, *, at: datetime) -> Change:
    """Flag every step that passed its time, once a run, and escalate as its trigger says."""
    draft = Draft(incident, at, "clock")
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
