"""What became of an automated action, written down where people look: the action, its step, the timeline, evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid5

from services.incidents.application.change import PERFORM, Deed, commit, commit_at_once
from services.incidents.application.policy import Policy
from services.incidents.domain import lifecycle, steps
from services.incidents.domain.evidence import Record
from services.incidents.domain.incident import Change, Incident, StepStatus
from services.incidents.domain.lifecycle import Piece
from services.incidents.domain.playbooks import ActionName
from services.incidents.store import actions as store
from services.incidents.store import incidents, rules
from services.incidents.store.actions import Action, ActionNotRetried, ActionStatus, Sent
from shared import audit, tasks
from shared.auth import Caller
from shared.database import Tx

OVERDUE_A_ROUND = 50
_FIRST_RETRY = timedelta(milliseconds=500)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one try of an action gave.

    Attributes:
        sent: its requests with the answers so far.
        refused: why another service will not do it, however often it is asked.
        unavailable: why it could not be asked; asked again later it may do it.
    """

    sent: tuple[Sent, ...]
    refused: str | None = None
    unavailable: str | None = None

    @property
    def succeeded(self) -> bool:
        return all(sent.done for sent in self.sent)


async def record_at_once(
    tx: Tx, before: Incident, tried: Sequence[tuple[Action, Attempt]], policy: Policy, at: datetime
) -> dict[UUID, ActionStatus] | None:
    """What `record` does, with one statement, in the usual case: everything succeeded, and nothing else happened.

    Args:
        tx: a connection, best without a transaction.
        before: the incident as it was when the actions were due.

    Returns:
        None, and nothing was written, when the case is not the usual one.
    """
    change, records, done = Change(before, (), ()), list[Record](), list[Action]()
    for action, attempt in tried:
        # Nobody else is told of an emergency rule unless it is confirmed in the same transaction.
        if not attempt.succeeded or action.action is ActionName.DEPLOY_EMERGENCY_RULE:
            return None
        after = _after(action, attempt, policy, at)
        later, kept = _succeeded(change.incident, after, at)
        records.extend(kept)
        done.append(after)
        change = change.then(later)
    if not await commit_at_once(tx, before, change, done, records=records):
        return None
    return {action.id: action.status for action in done}


async def record(
    tx: Tx, tried: Sequence[tuple[Action, Attempt]], policy: Policy, at: datetime
) -> dict[UUID, ActionStatus]:
    """Write down attempts of actions of one incident that were due, and owe the next ones where there are to be any.

    The incident's lock lets one at a time do this for its actions; what was overtaken meanwhile stays as it is.
    """
    before = await incidents.lock(tx, tried[0][0].incident_id)
    change, records = Change(before, (), ()), list[Record]()
    reached = {}
    for action, attempt in tried:
        after = _after(action, attempt, policy, at)
        if not await store.put(tx, after):
            reached[action.id] = ActionStatus.CANCELLED
            continue
        reached[action.id] = after.status
        if after.status is ActionStatus.SUCCEEDED:
            later, kept = _succeeded(change.incident, after, at)
            records.extend(kept)
            if after.action is ActionName.DEPLOY_EMERGENCY_RULE:
                await _confirm_rules(tx, after, at)
        elif after.status is ActionStatus.FAILED:
            later = _failed(change.incident, after, at)
        else:
            later = _retrying(change.incident, after, at, first=action.status is ActionStatus.QUEUED)
            await _owe_retry(tx, after, policy, at)
        change = change.then(later)
    await commit(tx, before, change, policy, records=records)
    return reached


async def _confirm_rules(tx: Tx, action: Action, at: datetime) -> None:
    for sent in action.requests:
        if sent.request.body is not None:
            await rules.confirm(tx, str(sent.request.body["id"]), at)


def _after(action: Action, attempt: Attempt, policy: Policy, at: datetime) -> Action:
    tried = replace(action, requests=attempt.sent, attempts=action.attempts + 1)
    if attempt.succeeded:
        return replace(tried, status=ActionStatus.SUCCEEDED, error=None, finished_at=at)
    if attempt.refused is not None:
        return replace(tried, status=ActionStatus.FAILED, error=attempt.refused, finished_at=at)
    if at - action.requested_at >= policy.give_up_after:
        error = f"given up: {attempt.unavailable}"
        return replace(tried, status=ActionStatus.FAILED, error=error, finished_at=at)
    return replace(tried, status=ActionStatus.RETRYING, error=attempt.unavailable or "no answer")


def _succeeded(incident: Incident, action: Action, at: datetime) -> tuple[Change, Sequence[Record]]:
    pieces = [
        Piece(
            id=uuid5(action.id, f"evidence/{number}"),
            kind="action",
            title=f"step {action.step}: {sent.request.evidence}",
            source=sent.request.service,
            content={
                "request": {"method": sent.request.method, "path": sent.request.path, "body": sent.request.body},
                "status": sent.status,
                "answer": sent.answer,
            },
        )
        for number, sent in enumerate(action.requests)
        if sent.request.evidence is not None
    ]
    change, records = lifecycle.collect(incident, pieces, by="automation", at=at)
    if action.session_id is None:
        later = steps.automation_completed(change.incident, action.step, action.run, outcome=action.summary, at=at)
    else:
        later = _extended(change.incident, action, f"extended: {action.summary}", at)
    return change.then(later), records


def _extended(incident: Incident, action: Action, summary: str, at: datetime) -> Change:
    return lifecycle.note(
        incident,
        "containment_extended",
        f"step {action.step} {summary}",
        by="automation",
        at=at,
        step=action.step,
        action_id=str(action.id),
    )


def _failed(incident: Incident, action: Action, at: datetime) -> Change:
    error = action.error or ""
    if action.session_id is None:
        return steps.automation_failed(incident, action.step, action.run, error=error, at=at)
    return _extended(incident, action, f"could not be extended: {error}", at)


def _retrying(incident: Incident, action: Action, at: datetime, *, first: bool) -> Change:
    if not first:
        # Told once, when it begins: the action itself shows how often it was tried since.
        return Change(incident, (), ())
    return lifecycle.note(
        incident,
        "action_retrying",
        f"step {action.step}: {action.action} is tried again: {action.error}",
        by="automation",
        at=at,
        step=action.step,
        error=action.error,
    )


async def _owe_retry(tx: Tx, action: Action, policy: Policy, at: datetime) -> None:
    delay = min(_FIRST_RETRY * 2 ** min(action.attempts - 1, 16), policy.retry_every)
    await tasks.add(
        tx,
        kind=PERFORM,
        key=f"{action.key}/{action.attempts + 1}",
        payload={"action_ids": [str(action.id)]},
        run_at=at + delay,
    )


async def abandon(tx: Tx, action_ids: Sequence[UUID], error: str, policy: Policy, at: datetime) -> None:
    """Our own fault kept actions from being done; say so instead of leaving them running for ever."""
    for action in (await store.due(tx, action_ids))[0]:
        incident = await incidents.lock(tx, action.incident_id)
        # It counts as an attempt, for the key of the next try is made of their number.
        after = replace(action, status=ActionStatus.FAILED, attempts=action.attempts + 1, error=error, finished_at=at)
        if await store.put(tx, after):
            await commit(tx, incident, _failed(incident, after, at), policy)


async def retry(tx: Tx, caller: Caller, action_id: UUID, policy: Policy, at: datetime) -> Action:
    """Try an action again now. One that failed is set in motion as a new run of its step.

    Raises:
        UnknownAction: there is none that the caller may see.
        ActionNotRetried: it succeeded, or a person has overtaken it.
    """
    action = await store.get(tx, action_id, caller)
    incident = await incidents.lock(tx, action.incident_id, caller)
    action = await store.get(tx, action_id)
    if action.status in (ActionStatus.SUCCEEDED, ActionStatus.CANCELLED):
        raise ActionNotRetried(f"the action {action.status}; set its step in motion again if it is to be repeated")
    if action.status is ActionStatus.FAILED and action.session_id is None:
        step = incident.step(action.step)
        if step.run != action.run or step.status is not StepStatus.FAILED:
            raise ActionNotRetried(f"step {action.step} has moved on; it is {step.status}")
        again = steps.retry_step(incident, action.step, by=caller.subject, at=at)
        await commit(tx, incident, again, policy, deed=Deed(caller, "step.retried", {"step": action.step}))
    else:
        queued = replace(action, status=ActionStatus.RETRYING, finished_at=None)
        await store.put(tx, queued, only_from=frozenset({action.status}))
        await tasks.add(
            tx,
            kind=PERFORM,
            key=f"{action.key}/{action.attempts + 1}/now",
            payload={"action_ids": [str(action.id)]},
        )
    await audit.record(
        tx,
        caller,
        action="action.retried",
        target=str(action_id),
        detail={"incident_id": str(incident.id), "step": action.step},
        owner_team=incident.owner_team,
    )
    return await store.get(tx, action_id)


async def flag_overdue(tx: Tx, policy: Policy, at: datetime, limit: int = OVERDUE_A_ROUND) -> int:
    """Escalate what passed its time in up to `limit` incidents; returns how many there were."""
    late: Sequence[Incident] = await incidents.lock_due(tx, at, limit)
    for incident in late:
        await commit(tx, incident, steps.flag_overdue(incident, at=at), policy)
    return len(late)
