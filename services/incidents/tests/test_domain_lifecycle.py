"""The incident's state machine: each rule by example, then all of them under arbitrary sequences of doings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.incidents.domain import lifecycle, steps
from services.incidents.domain.incident import (
    PATH,
    Change,
    Incident,
    IncidentClosedAlready,
    NotReopened,
    OutOfOrder,
    ReasonMissing,
    Resolution,
    ResolutionRefused,
    SelfApproval,
    StepRefused,
    StepsRemain,
    StepStatus,
    UnknownStep,
)
from services.incidents.domain.playbooks import PHASES
from services.incidents.tests.factories import (
    NOON,
    SEV1,
    SEV2,
    SEV3,
    a_playbook,
    joining,
    minutes,
    opened,
    playbook,
)
from shared.contracts.detection import Severity
from shared.contracts.incidents import IncidentCategory, IncidentStatus, Phase
from shared.errors import DomainError

LATER = NOON + minutes(1)


def kinds(change: Change) -> list[str]:
    return [happening.kind for happening in change.happenings]


def contain(incident: Incident) -> Incident:
    for number in (3, 4):
        incident = steps.automation_completed(incident, number, 1, outcome="done", at=LATER).incident
    return incident


def test_automated_containment_starts_with_the_incident_while_detection_is_still_to_do() -> None:
    change = opened()
    assert change.starting == (3, 4)
    assert [step.status for step in change.incident.steps[:5]] == [
        "pending",
        "pending",
        "running",
        "running",
        "pending",
    ]
    assert change.incident.current_phase is Phase.DETECTION
    assert kinds(change) == ["opened", "step_started", "step_started"]


def test_a_clock_runs_only_for_steps_that_can_be_worked() -> None:
    incident = opened().incident
    due = {step.number: step.due_at for step in incident.steps}
    assert due[1] == NOON + minutes(15)
    assert due[2] is None, "step 2 follows step 1"
    assert due[3] == NOON + minutes(5)
    assert due[5] is None, "its phase has not come"
    incident = steps.complete_step(incident, 1, by="ana", at=LATER).incident
    assert incident.step(2).due_at == LATER + minutes(30)


def test_an_incident_is_contained_when_its_containment_steps_are_done() -> None:
    incident = opened().incident
    first = steps.automation_completed(incident, 3, 1, outcome="blocked", at=LATER)
    assert first.incident.status is IncidentStatus.OPEN
    second = steps.automation_completed(first.incident, 4, 1, outcome="in force", at=LATER)
    assert second.incident.status is IncidentStatus.CONTAINED
    assert second.incident.contained_at == second.incident.updated_at >= LATER
    assert kinds(second) == ["step_completed", "status_changed", "status_changed"]


def test_an_incident_in_which_no_containment_applied_is_not_called_contained() -> None:
    incident = opened(session_id=None).incident
    for number in (3, 4):
        incident = steps.automation_not_applicable(incident, number, 1, reason="no session", at=LATER).incident
    assert incident.step(3).status is StepStatus.SKIPPED
    assert incident.step(3).outcome == "not applicable: no session"
    assert incident.status is IncidentStatus.OPEN


def test_all_steps_done_in_order_lead_to_resolved_and_a_person_closes() -> None:
    incident = contain(opened().incident)
    for number in (1, 2, 5, 6, 7):
        incident = steps.complete_step(incident, number, by="ana", at=LATER).incident
    assert (incident.status, incident.current_phase) == ("resolved", "lessons_learned")
    assert incident.resolved_at == incident.updated_at >= LATER
    incident = steps.complete_step(incident, 8, by="ana", at=LATER).incident
    assert incident.status is IncidentStatus.RESOLVED
    closed = lifecycle.set_status(incident, IncidentStatus.CLOSED, by="ana", at=LATER).incident
    assert (closed.status, closed.resolution) == ("closed", Resolution.RESOLVED)


def test_a_later_phase_waits_for_the_phases_before_it() -> None:
    incident = opened().incident
    with pytest.raises(OutOfOrder) as refused:
        steps.complete_step(incident, 5, by="ana", at=LATER)
    assert refused.value.extra["steps"] == [1, 2, 3, 4]


def test_containment_does_not_wait_for_detection() -> None:
    book = a_playbook({"phase": "detection"}, {"phase": "containment"})
    change = steps.complete_step(opened(book).incident, 2, by="ana", at=LATER)
    assert change.incident.status is IncidentStatus.CONTAINED
    assert change.incident.current_phase is Phase.DETECTION


def test_phases_without_steps_are_passed_with_a_note() -> None:
    change = opened(playbook("agent_unauthorized_actions"))
    entered = next(happening for happening in change.happenings if happening.kind == "phase_entered")
    assert entered.summary == "phase containment"
    book = a_playbook({}, {"phase": "lessons_learned"})
    change = steps.complete_step(opened(book).incident, 1, by="ana", at=LATER)
    entered = next(happening for happening in change.happenings if happening.kind == "phase_entered")
    assert entered.summary == "phase lessons_learned (eradication, recovery has no steps in this playbook)"


def test_a_status_further_on_is_reached_through_every_status_between() -> None:
    change = lifecycle.set_status(
        opened().incident, IncidentStatus.RESOLVED, by="ana", at=LATER, reason="handled on the phone"
    )
    passed = [happening.detail["after"] for happening in change.happenings if happening.kind == "status_changed"]
    assert passed == ["investigating", "contained", "resolved"]
    assert [step.status for step in change.incident.steps] == ["skipped"] * 7 + ["pending"]
    assert change.incident.step(5).outcome == "handled on the phone"


def test_steps_are_never_passed_over_without_a_reason() -> None:
    with pytest.raises(StepsRemain) as refused:
        lifecycle.set_status(opened().incident, IncidentStatus.CONTAINED, by="ana", at=LATER)
    assert refused.value.extra["steps"] == [3, 4]


def test_a_false_positive_closes_at_once_and_was_never_contained() -> None:
    with pytest.raises(ReasonMissing):
        lifecycle.set_status(
            opened().incident, IncidentStatus.CLOSED, by="ana", at=LATER, resolution=Resolution.FALSE_POSITIVE
        )
    change = lifecycle.set_status(
        opened().incident,
        IncidentStatus.CLOSED,
        by="ana",
        at=LATER,
        resolution=Resolution.FALSE_POSITIVE,
        reason="a penetration test",
    )
    assert (change.incident.status, change.incident.contained_at) == ("closed", None)
    assert all(step.status is StepStatus.SKIPPED for step in change.incident.steps)


def test_a_resolution_belongs_to_closing() -> None:
    with pytest.raises(ResolutionRefused):
        lifecycle.set_status(
            opened().incident, IncidentStatus.CONTAINED, by="ana", at=LATER, resolution=Resolution.DUPLICATE, reason="x"
        )


def test_reopening_needs_a_reason_and_does_the_work_from_containment_on_again() -> None:
    incident = contain(opened().incident)
    with pytest.raises(NotReopened):
        lifecycle.set_status(incident, IncidentStatus.INVESTIGATING, by="ana", at=LATER)
    change = lifecycle.set_status(incident, IncidentStatus.INVESTIGATING, by="ana", at=LATER, reason="it goes on")
    again = change.incident
    assert (again.status, again.contained_at, again.reopened_count) == ("investigating", None, 1)
    assert change.starting == (3, 4)
    assert again.step(3).run == 2
    assert contain_again(again).status is IncidentStatus.CONTAINED


def contain_again(incident: Incident) -> Incident:
    for number in (3, 4):
        incident = steps.automation_completed(incident, number, 2, outcome="done", at=LATER).incident
    return incident


def test_the_result_of_a_run_that_nobody_awaits_any_more_changes_nothing() -> None:
    incident = steps.complete_step(opened().incident, 3, by="ana", at=LATER, outcome="by hand").incident
    late = steps.automation_completed(incident, 3, 1, outcome="blocked", at=LATER)
    assert late.happenings == () and late.incident is incident


def test_a_closed_incident_is_not_worked_on() -> None:
    closed = lifecycle.set_status(opened().incident, IncidentStatus.CLOSED, by="ana", at=LATER, reason="x").incident
    with pytest.raises(IncidentClosedAlready):
        steps.retry_step(closed, 3, by="ana", at=LATER)


def test_there_is_no_step_beyond_the_last() -> None:
    for number in (0, 9):
        with pytest.raises(UnknownStep):
            steps.complete_step(opened().incident, number, by="ana", at=LATER)


APPROVED = a_playbook({"automated": True, "automation_script": "block_asset", "requires_approval": True})


def test_nobody_approves_what_they_asked_for_or_wrote() -> None:
    incident = opened(APPROVED, opened_by="ana", playbook_author="paul").incident
    assert incident.step(1).status is StepStatus.AWAITING_APPROVAL
    for somebody in ("ana", "paul"):
        with pytest.raises(SelfApproval):
            steps.approve_step(incident, 1, by=somebody, at=LATER)
    change = steps.approve_step(incident, 1, by="bob", at=LATER)
    assert change.starting == (1,)
    assert change.incident.step(1).approved_by == "bob"


def test_who_sets_a_step_in_motion_again_asks_for_it_anew() -> None:
    incident = opened(APPROVED, opened_by="ana").incident
    incident = steps.skip_step(incident, 1, by="ana", at=LATER, reason="not needed").incident
    incident = steps.retry_step(incident, 1, by="bob", at=LATER).incident
    with pytest.raises(SelfApproval):
        steps.approve_step(incident, 1, by="bob", at=LATER)
    assert steps.approve_step(incident, 1, by="ana", at=LATER).starting == (1,)


def test_a_completed_manual_step_is_not_set_in_motion_again_but_an_automated_one_is() -> None:
    incident = contain(opened().incident)
    incident = steps.complete_step(incident, 1, by="ana", at=LATER).incident
    with pytest.raises(StepRefused):
        steps.retry_step(incident, 1, by="ana", at=LATER)
    assert steps.retry_step(incident, 3, by="ana", at=LATER).starting == (3,)


def test_a_failed_automation_escalates_as_its_trigger_says_and_can_be_done_by_hand() -> None:
    change = steps.automation_failed(opened().incident, 3, 1, error="detection refused", at=LATER)
    assert change.incident.severity is SEV1
    assert kinds(change) == ["step_failed", "severity_changed"]
    done = steps.complete_step(change.incident, 3, by="ana", at=LATER, outcome="blocked by hand")
    assert done.incident.step(3).status is StepStatus.COMPLETED


def test_an_overdue_step_is_flagged_once_and_escalates() -> None:
    incident = opened().incident
    assert steps.flag_overdue(incident, at=NOON + minutes(4)).happenings == ()
    change = steps.flag_overdue(incident, at=NOON + minutes(5))
    assert kinds(change) == ["step_overdue", "severity_changed"]
    assert change.incident.severity is SEV1
    assert change.incident.snapshot().steps_overdue == 1
    assert steps.flag_overdue(change.incident, at=NOON + minutes(6)).happenings == ()


def test_escalation_never_lowers_severity() -> None:
    book = a_playbook({"escalation_trigger": "If late, escalate to SEV2", "timeout_minutes": 1})
    change = steps.flag_overdue(opened(book, severity=SEV1).incident, at=NOON + minutes(2))
    assert change.incident.severity is SEV1


def test_an_escalation_to_a_role_asks_for_a_notification() -> None:
    change = steps.flag_overdue(opened(playbook("agent_unauthorized_actions")).incident, at=NOON + minutes(6))
    asked = [happening for happening in change.happenings if happening.kind == "notification_requested"]
    assert [happening.detail["role"] for happening in asked] == ["infrastructure_team"]


def test_joined_alerts_count_and_bring_the_earliest_evidence() -> None:
    incident = opened().incident
    change = lifecycle.join(
        incident,
        [joining(), joining(occurrences=7, first_seen=NOON - minutes(3)), joining(new=False, occurrences=2)],
        SEV2,
        LATER,
    )
    assert (change.incident.alert_count, change.incident.occurrence_count) == (2, 10)
    assert change.incident.occurred_at == NOON - minutes(3)
    assert len(change.incident.alert_ids) == 2
    assert kinds(change) == ["alerts_joined"]


def test_severity_follows_graver_alerts_and_a_person_is_not_overruled_by_like_ones() -> None:
    incident = lifecycle.join(opened(severity=SEV3).incident, [joining(Severity.MEDIUM)], SEV2, LATER).incident
    assert incident.severity is SEV3
    raised = lifecycle.join(incident, [joining(Severity.HIGH)], SEV2, LATER).incident
    assert raised.severity is SEV2
    lowered = lifecycle.amend(raised, by="ana", at=LATER, severity=SEV3).incident
    assert lifecycle.join(lowered, [joining(Severity.HIGH)], SEV2, LATER).incident.severity is SEV3
    assert lifecycle.join(lowered, [joining(Severity.CRITICAL)], SEV2, LATER).incident.severity is SEV2


def test_ten_thousand_alerts_leave_an_incident_of_bounded_size() -> None:
    incident = lifecycle.join(
        opened().incident, [joining(session_id=f"session-{number}") for number in range(10_000)], SEV2, LATER
    ).incident
    assert incident.alert_count == 10_000
    assert (len(incident.alert_ids), len(incident.sessions)) == (50, 100)


def test_assigning_begins_the_investigation_and_repeating_it_changes_nothing() -> None:
    change = lifecycle.amend(opened().incident, by="ana", at=LATER, assigned_to="bob")
    assert change.incident.status is IncidentStatus.INVESTIGATING
    assert lifecycle.amend(change.incident, by="ana", at=LATER, assigned_to="bob").happenings == ()
    assert lifecycle.amend(change.incident, by="ana", at=LATER, unassign=True).incident.assigned_to is None


EDGES = {
    (before, after)
    for before, after in [
        *pairwise(PATH),
        (IncidentStatus.OPEN, IncidentStatus.CLOSED),
        (IncidentStatus.INVESTIGATING, IncidentStatus.CLOSED),
        (IncidentStatus.CONTAINED, IncidentStatus.CLOSED),
    ]
}


class AnyIncident(RuleBasedStateMachine):
    """People, automation, alerts and the clock do anything in any order; what must hold, holds after each."""

    def __init__(self) -> None:
        super().__init__()
        self.incident: Incident | None = None
        self.now: datetime = NOON
        self.approved_by_self = False

    @initialize(category=st.sampled_from(list(IncidentCategory)), session=st.booleans())
    def open(self, category: IncidentCategory, session: bool) -> None:
        change = opened(
            playbook(category), session_id="s" if session else None, opened_by="ana", playbook_author="paul"
        )
        self.incident = change.incident
        self._check(None, change)

    def _do(self, doing: Callable[..., Change], *args: Any, **values: Any) -> None:
        assert self.incident is not None
        before = self.incident
        try:
            change = doing(before, *args, at=self.now, **values)
        except DomainError:
            return
        self._check(before, change)
        self.incident = change.incident

    def _check(self, before: Incident | None, change: Change) -> None:
        after = change.incident
        if not change.happenings:
            assert before is None or after == before, "what changed is told"
            return
        if before is not None:
            assert after.version == before.version + 1
            assert set(PHASES) >= {after.current_phase}
        status = before.status if before is not None else IncidentStatus.OPEN
        for happening in change.happenings:
            if happening.kind == "status_changed":
                step = (happening.detail["before"], happening.detail["after"])
                assert step[0] == status, "the history is a path"
                assert step in EDGES, "no status is skipped"
                if step[1] is IncidentStatus.CLOSED and step[0] is not IncidentStatus.RESOLVED:
                    assert after.resolution in (Resolution.FALSE_POSITIVE, Resolution.DUPLICATE)
                status = happening.detail["after"]
            if happening.kind == "reopened":
                assert happening.detail["reason"]
                status = IncidentStatus.INVESTIGATING
        assert status is after.status
        started = {happening.step for happening in change.happenings if happening.kind == "step_started"}
        assert started >= set(change.starting)
        for number in change.starting:
            assert after.step(number).status is StepStatus.RUNNING or after.status is IncidentStatus.CLOSED

    @rule(number=st.integers(0, 12), who=st.sampled_from(["ana", "bob", "paul"]))
    def complete(self, number: int, who: str) -> None:
        self._do(steps.complete_step, number, by=who)

    @rule(number=st.integers(0, 12))
    def skip(self, number: int) -> None:
        self._do(steps.skip_step, number, by="bob", reason="not needed")

    @rule(number=st.integers(1, 11), who=st.sampled_from(["ana", "bob", "paul"]))
    def approve(self, number: int, who: str) -> None:
        self._do(steps.approve_step, number, by=who)

    @rule(number=st.integers(1, 11))
    def retry(self, number: int) -> None:
        self._do(steps.retry_step, number, by="bob")

    @rule(number=st.integers(1, 4), run=st.integers(1, 2), ok=st.sampled_from(["done", "failed", "not applicable"]))
    def automation_reports(self, number: int, run: int, ok: str) -> None:
        if ok == "done":
            self._do(steps.automation_completed, number, run, outcome="done")
        elif ok == "failed":
            self._do(steps.automation_failed, number, run, error="refused")
        else:
            self._do(steps.automation_not_applicable, number, run, reason="nothing there")

    @rule(
        to=st.sampled_from(list(IncidentStatus)),
        reason=st.sampled_from([None, "because"]),
        resolution=st.sampled_from([None, *Resolution]),
    )
    def set_status(self, to: IncidentStatus, reason: str | None, resolution: Resolution | None) -> None:
        self._do(lifecycle.set_status, to, by="bob", reason=reason, resolution=resolution)

    @precondition(lambda self: self.incident is not None)
    @rule(severity=st.sampled_from(list(Severity)), session=st.sampled_from(["s", "t", None]))
    def alert(self, severity: Severity, session: str | None) -> None:
        assert self.incident is not None
        change = lifecycle.join(self.incident, [joining(severity, session_id=session)], SEV2, self.now)
        self._check(self.incident, change)
        self.incident = change.incident

    @rule(passed=st.integers(1, 90))
    def time_passes(self, passed: int) -> None:
        self.now += minutes(passed)
        self._do(steps.flag_overdue)

    @invariant()
    def times_fit_the_status(self) -> None:
        if self.incident is None:
            return
        incident = self.incident
        assert (incident.closed_at is not None) == (incident.status is IncidentStatus.CLOSED)
        if incident.status is IncidentStatus.RESOLVED:
            assert incident.contained_at is not None and incident.resolved_at is not None
        if incident.status in (IncidentStatus.OPEN, IncidentStatus.INVESTIGATING):
            assert incident.contained_at is None and incident.resolved_at is None

    @invariant()
    def settled_steps_say_by_whom_and_skipped_ones_why(self) -> None:
        for step in self.incident.steps if self.incident else ():
            assert step.settled == (step.settled_at is not None) == (step.settled_by is not None)
            if step.status is StepStatus.SKIPPED:
                assert step.outcome
            if step.status is StepStatus.RUNNING:
                assert step.automated and step.due_at is not None
                assert not step.requires_approval or step.approved_by not in (None, step.requested_by, "paul")

    @invariant()
    def resolved_means_that_nothing_before_is_open(self) -> None:
        if self.incident is None or self.incident.status not in (IncidentStatus.CONTAINED, IncidentStatus.RESOLVED):
            return
        retried = any(step.run > 1 for step in self.incident.steps)
        if not retried:
            assert all(step.settled for step in self.incident.steps if step.phase is Phase.CONTAINMENT)

    @invariant()
    def the_snapshot_is_publishable(self) -> None:
        if self.incident is not None:
            snapshot = replace(self.incident).snapshot()
            assert 0 <= snapshot.steps_overdue <= snapshot.steps_total
            assert snapshot.steps_done <= snapshot.steps_total


AnyIncident.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestAnyIncident = AnyIncident.TestCase
