"""What is read and not changed: lists, timelines, evidence, and an incident as it was."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services.incidents.domain.evidence import Record
from services.incidents.domain.incident import Incident, UnknownIncident
from services.incidents.store.actions import Action
from services.incidents.store.actions import from_row as action_from_row
from services.incidents.store.incidents import from_row, from_state, visible
from services.incidents.store.tables import (
    action_table,
    evidence_table,
    incident_table,
    incident_version_table,
    timeline_table,
)
from shared.auth import Caller
from shared.contracts.incidents import IncidentCategory, IncidentSeverity, IncidentStatus
from shared.database import Tx

_LATE_STEP = '$[*] ? (@.overdue_at != null && @.status != "completed" && @.status != "skipped")'


@dataclass(frozen=True, slots=True)
class IncidentFilter:
    """What a list of incidents is narrowed to; from and to bound opened_at, from included, to not."""

    asset_id: UUID | None = None
    category: IncidentCategory | None = None
    severity: IncidentSeverity | None = None
    status: IncidentStatus | None = None
    actor: str | None = None
    assigned_to: str | None = None
    overdue: bool | None = None
    opened_from: datetime | None = None
    opened_to: datetime | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        table = incident_table.c
        found: list[sa.ColumnElement[bool]] = []
        if self.asset_id is not None:
            found.append(table.affected_assets.contains([self.asset_id]))
        for column, value in (
            (table.category, self.category),
            (table.severity, self.severity),
            (table.status, self.status),
            (table.actor, self.actor),
            (table.assigned_to, self.assigned_to),
        ):
            if value is not None:
                found.append(column == str(value))
        if self.overdue is not None:
            late = table.steps.path_exists(_LATE_STEP)
            found.append(late if self.overdue else sa.not_(late))
        if self.opened_from is not None:
            found.append(table.opened_at >= self.opened_from)
        if self.opened_to is not None:
            found.append(table.opened_at < self.opened_to)
        return found


def _newest_first(
    query: sa.Select[Any], moment: Any, key: Any, after: tuple[Any, ...] | None, limit: int
) -> sa.Select[Any]:
    if after is not None:
        place = sa.tuple_(sa.literal(datetime.fromisoformat(after[0])), sa.literal(UUID(after[1])))
        query = query.where(sa.tuple_(moment, key) < place)
    return query.order_by(moment.desc(), key.desc()).limit(limit + 1)


async def incidents(
    tx: Tx, caller: Caller, wanted: IncidentFilter, after: tuple[Any, ...] | None, limit: int
) -> list[Incident]:
    """Newest first, one more than `limit`."""
    table = incident_table.c
    query = sa.select(incident_table).where(visible(caller, table.owner_teams), *wanted.conditions())
    return [
        from_row(row._mapping)
        for row in await tx.execute(_newest_first(query, table.opened_at, table.id, after, limit))
    ]


async def incident(tx: Tx, incident_id: UUID, caller: Caller) -> Incident:
    """Raises: UnknownIncident."""
    query = sa.select(incident_table).where(incident_table.c.id == incident_id)
    row = (await tx.execute(query.where(visible(caller, incident_table.c.owner_teams)))).first()
    if row is None:
        raise UnknownIncident(f"there is no incident {incident_id}")
    return from_row(row._mapping)


async def as_of(tx: Tx, incident_id: UUID, moment: datetime) -> Incident | None:
    """The incident as it was; None before it was opened."""
    versions = incident_version_table.c
    state = await tx.scalar(
        sa.select(versions.state)
        .where(versions.incident_id == incident_id, versions.at <= moment)
        .order_by(versions.version.desc())
        .limit(1)
    )
    return from_state(state) if state is not None else None


async def timeline(
    tx: Tx, incident_id: UUID, after: tuple[Any, ...] | None, limit: int, *, newest_first: bool = False
) -> list[Any]:
    """Oldest first (or the newest first), one more than `limit`."""
    table = timeline_table.c
    query = sa.select(timeline_table).where(table.incident_id == incident_id)
    if after is not None:
        query = query.where(table.id < int(after[0]) if newest_first else table.id > int(after[0]))
    return list(await tx.execute(query.order_by(table.id.desc() if newest_first else table.id).limit(limit + 1)))


async def timeline_until(tx: Tx, incident_id: UUID, version: int) -> list[Any]:
    """Everything that had happened by that version, oldest first."""
    table = timeline_table.c
    query = sa.select(timeline_table).where(table.incident_id == incident_id, table.version <= version)
    return list(await tx.execute(query.order_by(table.id)))


async def evidence(tx: Tx, incident_id: UUID, after: int, limit: int) -> list[Record]:
    """Records after the given sequence number, in order, one more than `limit`."""
    table = evidence_table.c
    query = sa.select(evidence_table).where(table.incident_id == incident_id, table.sequence > after)
    rows = await tx.execute(query.order_by(table.sequence).limit(limit + 1))
    return [Record(**row._mapping) for row in rows]


async def evidence_until(tx: Tx, incident_id: UUID, sequence: int) -> list[Record]:
    """The chain up to and with that sequence number."""
    table = evidence_table.c
    query = sa.select(evidence_table).where(table.incident_id == incident_id, table.sequence <= sequence)
    return [Record(**row._mapping) for row in await tx.execute(query.order_by(table.sequence))]


async def actions(
    tx: Tx,
    caller: Caller,
    *,
    incident_id: UUID | None,
    status: str | None,
    action: str | None,
    after: tuple[Any, ...] | None,
    limit: int,
) -> list[Action]:
    """Newest first, one more than `limit`."""
    table = action_table.c
    query = sa.select(action_table)
    if caller.teams is not None:
        query = query.join(incident_table).where(visible(caller, incident_table.c.owner_teams))
    for column, value in ((table.incident_id, incident_id), (table.status, status), (table.action, action)):
        if value is not None:
            query = query.where(column == value)
    rows = await tx.execute(_newest_first(query, table.requested_at, table.id, after, limit))
    return [action_from_row(row) for row in rows]
