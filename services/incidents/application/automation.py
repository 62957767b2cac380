"""What became of an automated action, written down where people look: the action, its step, the timeline, evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid5

from services.incidents.application.change import PERFORM, commit
from services.incidents.application.policy import Policy
from services.incidents.domain import lifecycle, steps
from services.incidents.domain.incident import Change, Incident, StepStatus
from services.incidents.domain.lifecycle import Piece
from services.incidents.store import actions as store
from services.incidents.store import incidents
from services.incidents.store.actions import UNFINISHED, Action, ActionNotRetried, ActionStatus, Sent
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


async def due(tx: Tx, action_id: UUID) -> Action | None:
    """The action, if it still is to be done."""
    action = await store.get(tx, action_id)
    return action if action.status in UNFINISHED else None


async def record(tx: Tx, action: Action, attempt: Attempt, policy: Policy, at: datetime) -> ActionStatus:
    """Write down an attempt of an action that was due, and owe the next one where there is to be one.

    The incident's lock lets one at a time do this for its actions; what was overtaken meanwhile stays as it is.
    """
    incident = await incidents.lock(tx, action.incident_id)
    tried = replace(action, requests=attempt.sent, attempts=action.attempts + 1)
    if attempt.succeeded:
        after = replace(tried, status=ActionStatus.SUCCEEDED, error=None, finished_at=at)
    elif attempt.refused is not None:
        after = replace(tried, status=ActionStatus.FAILED, error=attempt.refused, finished_at=at)
    elif at - action.requested_at >= policy.give_up_after:
        error = f"given up: {attempt.unavailable}"
        after = replace(tried, status=ActionStatus.FAILED, error=error, finished_at=at)
    else:
        after = replace(tried, status=ActionStatus.RETRYING, error=attempt.unavailable or "no answer")
    if not await store.put(tx, after):
        return ActionStatus.CANCELLED
    if after.status is ActionStatus.SUCCEEDED:
        await _succeeded(tx, incident, after, policy, at)
    elif after.status is ActionStatus.FAILED:
        await _failed(tx, incident, after, policy, at)
    else:
        await _retrying(tx, incident, after, policy, at, first=action.status is ActionStatus.QUEUED)
    return after.status


async def _succeeded(tx: Tx, incident: Incident, action: Action, policy: Policy, at: datetime) -> None:
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
        later = steps.automation_completed(
            change.incident, action.step, action.run, outcome=action.summary, at=change.incident.updated_at
        )
    else:
        later = _extended(change.incident, action, f"extended: {action.summary}", at)
    await commit(tx, incident, change.then(later), policy, records=records)


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


async def _failed(tx: Tx, incident: Incident, action: Action, policy: Policy, at: datetime) -> None:
    error = action.error or ""
    if action.session_id is None:
        change = steps.automation_failed(incident, action.step, action.run, error=error, at=at)
    else:
        change = _extended(incident, action, f"could not be extended: {error}", at)
    await commit(tx, incident, change, policy)


async def _retrying(tx: Tx, incident: Incident, action: Action, policy: Policy, at: datetime, *, first: bool) -> None:
    if first:
        # Once, when it begins: the action itself shows how often it was tried since.
        change = lifecycle.note(
            incident,
            "action_retrying",
            f"step {action.step}: {action.action} is tried again: {action.error}",
            by="automation",
            at=at,
            step=action.step,
            error=action.error,
        )
        await commit(tx, incident, change, policy)
    delay = min(_FIRST_RETRY * 2 ** min(action.attempts - 1, 16), policy.retry_every)
    await tasks.add(
        tx,
        kind=PERFORM,
        key=f"{action.key}/{action.attempts + 1}",
        payload={"action_id": str(action.id)},
        run_at=at + delay,
    )


async def abandon(tx: Tx, action_id: UUID, error: str, policy: Policy, at: datetime) -> None:
    """Our own fault kept an action from being done; say so instead of leaving it running for ever."""
    action = await store.get(tx, action_id)
    incident = await incidents.lock(tx, action.incident_id)
    after = replace(action, status=ActionStatus.FAILED, error=error, finished_at=at)
    if await store.put(tx, after):
        await _failed(tx, incident, after, policy, at)


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
        await commit(tx, incident, steps.retry_step(incident, action.step, by=caller.subject, at=at), policy)
    else:
        again = replace(action, status=ActionStatus.RETRYING, finished_at=None)
        await store.put(tx, again, only_from=frozenset({action.status}))
        await tasks.add(
            tx,
            kind=PERFORM,
            key=f"{action.key}/{action.attempts + 1}/now",
            payload={"action_id": str(action.id)},
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
