"""How a change of an incident becomes lasting: row, timeline, audit, what is announced, the automation it starts.

Everything goes through `commit`, so that no path can forget one of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import orjson

from services.incidents.application.announce import events_of, owe_webhooks, subscribers_for
from services.incidents.application.policy import Policy
from services.incidents.domain import actions, lifecycle, steps
from services.incidents.domain.actions import NotApplicable, Plan, Situation
from services.incidents.domain.evidence import Record
from services.incidents.domain.incident import ENDED, AlreadyOpen, Change, Incident, Step, StepStatus
from services.incidents.domain.playbooks import ActionName
from services.incidents.store import actions as action_store
from services.incidents.store import incidents as store
from services.incidents.store import rules, writing
from services.incidents.store.actions import Action, ActionStatus, Sent
from shared import audit, outbox, tasks
from shared.auth import Caller
from shared.contracts.detection import AlertSnapshot
from shared.database import Tx

PERFORM = "action.perform"
ITSELF = Caller("service:incidents", "service")


@dataclass(frozen=True, slots=True)
class Deed:
    """A change as the audit tells it of a person."""

    caller: Caller
    action: str
    detail: Mapping[str, Any]


async def commit(
    tx: Tx,
    before: Incident | None,
    change: Change,
    policy: Policy,
    *,
    deed: Deed | None = None,
    records: Sequence[Record] = (),
    alert: AlertSnapshot | None = None,
) -> Incident:
    """Write a change with everything that follows from it; gives the incident as it then is.

    Args:
        before: the incident as it was, its row locked by `tx`; None for a new one.
        deed: what a person did; None when this service did it by itself, which the audit then says.
        records: evidence that the change added.
        alert: the alert that opened the incident, where it is at hand.

    Raises:
        AlreadyOpen: it was reopened, and another incident holds its keys by now.
    """
    if not change.happenings:
        return change.incident
    change, acting = await _start_automation(tx, before, change, policy, alert)
    incident = change.incident
    # After reopening every session of before is contained again, not only the first.
    further = _extensions(None if change.happened("reopened") else before, incident, policy)
    events = events_of(before, change)
    announced = [outbox.row_of(event) for event in events]
    owed = [action_store.owed(action) for action in (*acting, *further)]
    await writing.save(tx, change, records, _entry(before, change, deed), announced, new=before is None, owed=owed)
    await _owe(tx, acting)
    await _owe(tx, further)
    if before is not None:
        await _settle_keys(tx, before, incident)
        for was, now in zip(before.steps, incident.steps, strict=True):
            if was.status is StepStatus.RUNNING and _overtaken(was, now):
                await action_store.cancel_unfinished(tx, incident.id, was.number, was.run, incident.updated_at)
    await owe_webhooks(tx, change, events)
    return incident


async def commit_at_once(
    tx: Tx, before: Incident, change: Change, done: Sequence[Action], *, records: Sequence[Record] = ()
) -> bool:
    """Write a change by automation with the actions that led to it, if this is all there is to write.

    It takes one statement instead of a transaction of six, and no lock.

    Args:
        tx: a connection, best without a transaction.
        before: the incident as it was read; any other change since then makes this one void.

    Returns:
        False, and nothing was written: it is to be worked out again under the incident's lock.
    """
    if not change.happenings or change.starting or change.incident.status in ENDED:
        return False
    entry = _entry(before, change, None)
    announced = [outbox.row_of(event) for event in events_of(before, change)]
    progress = [action_store.progress_of(action) for action in done]
    return await writing.save(tx, change, records, entry, announced, done=progress, expected=before.version)


def _entry(before: Incident | None, change: Change, deed: Deed | None) -> Sequence[object]:
    deed = deed or _of_itself(before, change)
    incident = change.incident
    return audit.row_of(deed.caller, deed.action, str(incident.id), deed.detail, incident.owner_team)


def _of_itself(before: Incident | None, change: Change) -> Deed:
    """One entry for everything that automation, the clock or another service's news changed at once."""
    happenings = change.happenings
    detail = {
        "version": change.incident.version,
        "what": sorted({happening.kind for happening in happenings}),
        "by": sorted({str(happening.detail["by"]) for happening in happenings}),
        "steps": sorted({happening.step for happening in happenings if happening.step is not None}),
        "status": change.incident.status,
        "severity": change.incident.severity,
    }
    return Deed(ITSELF, "incident.opened" if before is None else "incident.changed", detail)


def _overtaken(was: Step, now: Step) -> bool:
    """Whether a person settled or restarted a step that automation was working on."""
    return now.run != was.run or (now.settled and now.settled_by != "automation")


async def _settle_keys(tx: Tx, before: Incident, incident: Incident) -> None:
    if before.status not in ENDED and incident.status in ENDED:
        await store.release(tx, [incident.id])
    elif before.status in ENDED and incident.status not in ENDED:
        other = await store.hold_again(tx, incident.id)
        if other is not None:
            raise AlreadyOpen("an incident for the same is open already; work on that one", incident_id=str(other))


async def _start_automation(
    tx: Tx, before: Incident | None, change: Change, policy: Policy, alert: AlertSnapshot | None
) -> tuple[Change, list[Action]]:
    """Plan the automated steps that a change starts; those with nothing to act on are settled here and now."""
    acting: list[Action] = []
    waiting = list(change.starting)
    while waiting:
        number = waiting.pop(0)
        incident = change.incident
        step = incident.step(number)
        if step.status is not StepStatus.RUNNING or step.automation_script is None:
            continue
        if step.automation_script is ActionName.NOTIFY:
            later = await _notify(tx, incident, step)
        else:
            alert = alert or await store.first_alert(tx, incident)
            planned = await _plan(tx, incident, step, alert, policy)
            if isinstance(planned, Plan):
                acting.append(_action(incident, step, planned))
                continue
            at = incident.updated_at
            if isinstance(planned, InForce):
                later = steps.automation_completed(incident, number, step.run, outcome=planned.what, at=at)
            else:
                later = steps.automation_not_applicable(incident, number, step.run, reason=planned.reason, at=at)
        change = change.then(later)
        waiting.extend(later.starting)
    return change, acting


@dataclass(frozen=True, slots=True)
class InForce:
    """What an action would do is done already."""

    what: str


async def _plan(
    tx: Tx, incident: Incident, step: Step, alert: AlertSnapshot | None, policy: Policy
) -> Plan | NotApplicable | InForce:
    known = situation(incident, step, alert, policy)
    if step.automation_script is ActionName.DEPLOY_EMERGENCY_RULE:
        return await _emergency_rule(tx, known, policy, incident.owner_team, anew=step.run > 1)
    assert step.automation_script is not None
    return actions.plan(step.automation_script, known)


async def _emergency_rule(
    tx: Tx, known: Situation, policy: Policy, team: str, *, anew: bool
) -> Plan | NotApplicable | InForce:
    """One attack makes one rule, however many incidents it opens: each rule makes detection build its matcher anew.

    For the same reason an hour has only so many: a flood of ever different attacks is answered by blocks and people.
    They count for each team by itself, so that nobody takes another's rules away or learns how many others needed.
    """
    rule = actions.emergency_rule(known)
    if isinstance(rule, NotApplicable):
        return rule
    standing = await rules.standing(tx, rule.fingerprint, known.at)
    if standing is None:
        recent = await rules.claimed_since(tx, team, known.at - timedelta(hours=1))
        if recent >= policy.rules_an_hour:
            whose = team or "what belongs to no team"
            return NotApplicable(
                f"{recent} emergency rules were made for {whose} within the hour; a person decides on more"
            )
    if standing is None or anew:
        expires_at = known.at + policy.rule_for
        standing = await rules.claim(
            tx,
            rule.fingerprint,
            incident_id=known.incident_id,
            owner_team=team,
            at=known.at,
            expires_at=expires_at,
            anew=anew,
        )
    if standing.in_force:
        until = f"{standing.expires_at:%Y-%m-%d %H:%M} UTC"
        return InForce(f"a rule against this very attack is in force until {until}, by incident {standing.incident_id}")
    return actions.deploy(rule, generation=standing.generation, expires_at=standing.expires_at)


async def _notify(tx: Tx, incident: Incident, step: Step) -> Change:
    """A step of its own that tells subscribers, as escalations do."""
    if await subscribers_for(tx, incident, "notification.requested") == 0:
        reason = "no webhook subscribes to notification.requested"
        return steps.automation_not_applicable(incident, step.number, step.run, reason=reason, at=incident.updated_at)
    asked = lifecycle.note(
        incident,
        "notification_requested",
        f"{step.responsible_role} is told: {step.action}",
        by="automation",
        at=incident.updated_at,
        step=step.number,
        role=step.responsible_role,
    )
    done = steps.automation_completed(
        asked.incident, step.number, step.run, outcome="subscribers are told", at=incident.updated_at
    )
    return asked.then(done)


def situation(
    incident: Incident,
    step: Step,
    alert: AlertSnapshot | None,
    policy: Policy,
    further: tuple[str, tuple[str, ...]] | None = None,
) -> Situation:
    """What an action of this step may know.

    Args:
        further: the session to act on, with those who named it; if None, the incident's first with all who did.
    """
    session_id, reporters = further or (incident.session_id, incident.reporters(incident.session_id))
    return Situation(
        incident_id=incident.id,
        category=incident.category,
        title=incident.title,
        teams=incident.reach,
        step_number=step.number,
        session_id=session_id,
        reporters=reporters,
        actor=incident.actor,
        assets=incident.affected_assets,
        excerpt=alert.excerpt if alert is not None else "",
        direction=alert.direction.value if alert is not None else None,
        at=incident.updated_at,
        block_for=policy.block_for,
    )


def _action(
    incident: Incident, step: Step, planned: Plan, further: tuple[str, tuple[str, ...]] | None = None
) -> Action:
    assert step.automation_script is not None
    key = f"incident-{incident.id}-step-{step.number}-run-{step.run}"
    if further is not None:
        key += f"-session-{hashlib.sha256(orjson.dumps(further)).hexdigest()[:16]}"
    return Action(
        id=uuid4(),
        incident_id=incident.id,
        step=step.number,
        run=step.run,
        action=step.automation_script,
        session_id=further[0] if further is not None else None,
        key=key,
        status=ActionStatus.QUEUED,
        summary=planned.summary,
        requests=tuple(Sent(request) for request in planned.requests),
        attempts=0,
        error=None,
        requested_at=incident.updated_at,
    )


async def _owe(tx: Tx, acting: Sequence[Action]) -> None:
    """Owe actions of one incident, which are written down, as one task: done side by side, written down together."""
    if not acting:
        return
    action_ids = [str(action.id) for action in acting]
    await tasks.add(tx, kind=PERFORM, key=f"{acting[0].key}/1", payload={"action_ids": action_ids})


def _extensions(before: Incident | None, after: Incident, policy: Policy) -> list[Action]:
    """Actions that let session-wide containment reach the sessions which joining alerts brought.

    Blocking the first session of an attacker who starts a new one for each attempt would contain nothing. They carry
    on what the step did and settle nothing.

    Args:
        before: the incident as it was; None when every session is to be contained, as after opening and reopening.
    """
    if before is not None and (before.sessions, before.reports) == (after.sessions, after.reports):
        return []
    known = before.reports if before is not None else ()
    found = []
    for session in after.sessions:
        new = before is None or session not in before.sessions
        reporters = tuple(subject for subject in after.reporters(session) if (session, subject) not in known)
        for step in after.steps:
            if step.automation_script not in actions.SESSION_SCOPED or step.status not in (
                StepStatus.RUNNING,
                StepStatus.COMPLETED,
            ):
                continue
            # A step that this change started has the first session itself; a block knows no reporters.
            started = before is None or before.step(step.number).run != step.run
            if (session == after.session_id and started) or not (
                new or (reporters and step.automation_script is ActionName.REVOKE_SESSION)
            ):
                continue
            planned = actions.plan(step.automation_script, situation(after, step, None, policy, (session, reporters)))
            if isinstance(planned, Plan):
                found.append(_action(after, step, planned, (session, reporters)))
    return found
