"""A change to an incident while it is being worked out: the rules by which phases, statuses and steps follow."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from services.incidents.domain.incident import PATH, Change, Happening, Incident, Step, StepStatus
from services.incidents.domain.playbooks import PHASES, more_severe
from shared.contracts.incidents import IncidentSeverity, IncidentStatus, Phase

_CONTAIN_FIRST: frozenset[Phase] = frozenset({Phase.DETECTION, Phase.CONTAINMENT})


class Draft:
    """What happened so far, and the incident as it is by then.

    Each change of an incident gets a time after the one before, whatever the clocks of two replicas say: so that the
    state as of a time, once read, stays what it was.
    """

    def __init__(self, incident: Incident, at: datetime, by: str) -> None:
        self.was = incident
        self.now = incident
        self.at = max(at, incident.updated_at + timedelta(microseconds=1)) if incident.version else at
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
