"""Automated actions: what was asked of other services, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa

from services.incidents.domain.actions import Request
from services.incidents.domain.incident import Incident
from services.incidents.domain.playbooks import ActionName
from services.incidents.store.incidents import COLUMNS as INCIDENT_COLUMNS
from services.incidents.store.incidents import from_row as incident_from_row
from services.incidents.store.incidents import visible
from services.incidents.store.tables import action_table, incident_table
from shared.auth import Caller
from shared.database import Tx, driver
from shared.errors import Conflict, NotFound


class UnknownAction(NotFound):
    """There is no such action."""


class ActionNotRetried(Conflict):
    """Only what has not succeeded can be tried again."""


class ActionStatus(StrEnum):
    """How far an action got. `retrying` waits for its next try; `cancelled` was overtaken by a person."""

    QUEUED = "queued"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNFINISHED = frozenset({ActionStatus.QUEUED, ActionStatus.RETRYING})


@dataclass(frozen=True, slots=True)
class Sent:
    """A request of an action with the last answer to it; `status` is null until there was one."""

    request: Request
    done: bool = False
    status: int | None = None
    answer: Any = None


@dataclass(frozen=True, slots=True)
class Action:
    """An automated action of one run of a step."""

    id: UUID
    incident_id: UUID
    step: int
    run: int
    action: ActionName
    session_id: str | None
    key: str
    status: ActionStatus
    summary: str
    requests: tuple[Sent, ...]
    attempts: int
    error: str | None
    requested_at: datetime
    finished_at: datetime | None = field(default=None)


_REQUEST_FIELDS = tuple(field.name for field in fields(Request))


def _document(sent: Sent) -> dict[str, Any]:
    request = {name: getattr(sent.request, name) for name in _REQUEST_FIELDS}
    return {**request, "done": sent.done, "status": sent.status, "answer": sent.answer}


def _sent(document: dict[str, Any]) -> Sent:
    values = dict(document)
    progress = {name: values.pop(name) for name in ("done", "status", "answer")}
    return Sent(Request(**values), **progress)


def from_row(row: Any) -> Action:
    """An action from its row as SQLAlchemy maps it."""
    return Action(
        id=row.id,
        incident_id=row.incident_id,
        step=row.step,
        run=row.run,
        action=ActionName(row.action),
        session_id=row.session_id,
        key=row.key,
        status=ActionStatus(row.status),
        summary=row.summary,
        requests=tuple(_sent(document) for document in row.requests),
        attempts=row.attempts,
        error=row.error,
        requested_at=row.requested_at,
        finished_at=row.finished_at,
    )


OWED = (
    "id",
    "incident_id",
    "step",
    "run",
    "action",
    "session_id",
    "key",
    "status",
    "summary",
    "requests",
    "requested_at",
)
OWED_TYPES = ("uuid", "uuid", "integer", "integer", *("text",) * 5, "jsonb", "timestamptz")


def owed(action: Action) -> tuple[object, ...]:
    """The columns OWED of a new action."""
    return tuple(
        orjson.dumps([_document(sent) for sent in action.requests]).decode()
        if name == "requests"
        else getattr(action, name)
        for name in OWED
    )


async def get(tx: Tx, action_id: UUID, caller: Caller | None = None) -> Action:
    """Raises: UnknownAction."""
    query = sa.select(action_table).where(action_table.c.id == action_id)
    if caller is not None:
        query = query.join(incident_table).where(visible(caller, incident_table.c.owner_teams))
    row = (await tx.execute(query)).first()
    if row is None:
        raise UnknownAction(f"there is no action {action_id}")
    return from_row(row)


_DUE = f"""
    SELECT action.id AS action_id, action.step, action.run, action.action, action.session_id AS further, action.key,
           action.status AS reached, action.summary, action.requests, action.attempts, action.error,
           action.requested_at, action.finished_at, {INCIDENT_COLUMNS},
           EXISTS (SELECT FROM webhook WHERE enabled) AS subscribed
    FROM action JOIN incident ON incident.id = action.incident_id
    WHERE action.id = ANY($1) AND action.status = ANY($2) ORDER BY action.requested_at, action.step
"""  # noqa: S608  # column names only


async def due(tx: Tx, action_ids: Sequence[UUID]) -> tuple[list[Action], Incident | None]:
    """Those of the actions that are still to be done, and their incident as it is, for `writing.save` to expect.

    The incident is None when somebody subscribes to webhooks, too: its change is then more than one statement.
    """
    connection = await driver(tx)
    rows = await connection.fetch(_DUE, list(action_ids), sorted(UNFINISHED))
    alone = rows and not rows[0]["subscribed"]
    return [_due(row) for row in rows], incident_from_row(rows[0]) if alone else None


def _due(row: Any) -> Action:
    return Action(
        id=UUID(int=row["action_id"].int),
        incident_id=UUID(int=row["id"].int),
        step=row["step"],
        run=row["run"],
        action=ActionName(row["action"]),
        session_id=row["further"],
        key=row["key"],
        status=ActionStatus(row["reached"]),
        summary=row["summary"],
        requests=tuple(_sent(document) for document in row["requests"]),
        attempts=row["attempts"],
        error=row["error"],
        requested_at=row["requested_at"],
        finished_at=row["finished_at"],
    )


def progress_of(action: Action) -> tuple[object, ...]:
    """What changes of an action with each try: id, status, requests, attempts, error, finished_at."""
    requests = orjson.dumps([_document(sent) for sent in action.requests]).decode()
    return action.id, action.status.value, requests, action.attempts, action.error, action.finished_at


_PUT = """
    UPDATE action SET status = $2, requests = $3, attempts = $4, error = $5, finished_at = $6
    WHERE id = $1 AND status = ANY($7)
"""


async def put(tx: Tx, action: Action, *, only_from: frozenset[ActionStatus] = UNFINISHED) -> bool:
    """Write down how far the action got, unless it ended otherwise in the meantime; False then."""
    connection = await driver(tx)
    done = await connection.execute(_PUT, *progress_of(action), sorted(status.value for status in only_from))
    return done == "UPDATE 1"


async def cancel_unfinished(tx: Tx, incident_id: UUID, step: int, run: int, at: datetime) -> None:
    """Give up what a person has overtaken."""
    await tx.execute(
        action_table.update()
        .where(action_table.c.incident_id == incident_id, action_table.c.step == step, action_table.c.run == run)
        .where(action_table.c.status.in_(sorted(UNFINISHED)))
        .values(status=ActionStatus.CANCELLED, finished_at=at)
    )
