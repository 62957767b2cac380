"""Incidents, their timeline, versions and evidence; the keys that open ones hold; the alerts they are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa

from services.incidents.domain.incident import (
    Incident,
    Resolution,
    Step,
    StepStatus,
    UnknownIncident,
)
from services.incidents.domain.playbooks import ActionName
from services.incidents.store.tables import alert_table, incident_table, join_key_table
from shared.auth import Caller
from shared.contracts.detection import AlertSnapshot, Severity
from shared.contracts.incidents import IncidentCategory, IncidentSeverity, IncidentStatus, Phase
from shared.database import Tx, driver

FIELDS = tuple(field.name for field in fields(Incident))
_STEP_FIELDS = tuple(field.name for field in fields(Step))
_STEP_TIMES = ("due_at", "started_at", "settled_at", "overdue_at")


def visible(caller: Caller, owner_teams: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """SQL condition: rows that at least one of the caller's teams owns."""
    if caller.teams is None:
        return sa.true()
    return owner_teams.overlap(sorted(caller.teams))  # type: ignore[no-any-return]  # of ARRAY columns


def sees(caller: Caller, owner_teams: Iterable[str]) -> bool:
    """The same of one row."""
    return caller.teams is None or not caller.teams.isdisjoint(owner_teams)


# -- an incident as row and as document ------------------------------------------------------------------------------


def _step_document(step: Step) -> dict[str, Any]:
    # Not dataclasses.asdict, which copies every value deeply and took a tenth of the time of opening an incident.
    return {name: getattr(step, name) for name in _STEP_FIELDS}


def _step(document: Mapping[Any, Any]) -> Step:
    values = dict(document)
    for name in _STEP_TIMES:
        values[name] = datetime.fromisoformat(values[name]) if values[name] else None
    values["phase"] = Phase(values["phase"])
    values["status"] = StepStatus(values["status"])
    if values["automation_script"] is not None:
        values["automation_script"] = ActionName(values["automation_script"])
    if values["escalate_to_severity"] is not None:
        values["escalate_to_severity"] = IncidentSeverity(values["escalate_to_severity"])
    return Step(**values)


def next_due_at(incident: Incident) -> datetime | None:
    """When the next step passes its time, if one can."""
    if incident.status is IncidentStatus.CLOSED:
        return None
    running = (step.due_at for step in incident.steps if not step.settled and step.overdue_at is None and step.due_at)
    return min(running, default=None)


def row_of(incident: Incident) -> tuple[dict[str, Any], str]:
    """The columns of an incident, and the whole of it as JSON text for its version."""
    row = {name: getattr(incident, name) for name in FIELDS}
    documents = [_step_document(step) for step in incident.steps]
    state = orjson.dumps(row | {"steps": documents}).decode()
    row["steps"] = orjson.dumps(documents).decode()
    row["reports"] = orjson.dumps(incident.reports).decode()
    row["next_due_at"] = next_due_at(incident)
    return row, state


def from_row(row: Any) -> Incident:
    """An incident from its row, as SQLAlchemy maps it or as asyncpg gives it."""
    values = {name: row[name] for name in FIELDS}
    for name in ("steps", "reports"):
        if isinstance(values[name], str):
            values[name] = orjson.loads(values[name])
    # asyncpg's own UUID, a subclass, is what comes; orjson knows only the standard library's.
    values["id"] = UUID(int=values["id"].int)
    for name in ("affected_assets", "alert_ids"):
        values[name] = [UUID(int=one.int) for one in values[name]]
    return _incident(values)


def _incident(values: dict[str, Any]) -> Incident:
    values["category"] = IncidentCategory(values["category"])
    values["severity"] = IncidentSeverity(values["severity"])
    values["status"] = IncidentStatus(values["status"])
    values["current_phase"] = Phase(values["current_phase"])
    if values["alert_severity"] is not None:
        values["alert_severity"] = Severity(values["alert_severity"])
    if values["resolution"] is not None:
        values["resolution"] = Resolution(values["resolution"])
    for name in ("affected_assets", "owner_teams", "sessions", "alert_ids"):
        values[name] = tuple(values[name])
    # Versions of before this was kept have none.
    values["reports"] = tuple((session, subject) for session, subject in values.get("reports") or ())
    values["steps"] = tuple(_step(document) for document in values["steps"])
    return Incident(**values)


_TIMES = (
    "occurred_at",
    "detected_at",
    "opened_at",
    "last_alert_at",
    "updated_at",
    "contained_at",
    "resolved_at",
    "closed_at",
)


def from_state(state: Mapping[Any, Any]) -> Incident:
    """The incident as one of its versions has it."""
    values = dict(state)
    for name in _TIMES:
        values[name] = datetime.fromisoformat(values[name]) if values[name] else None
    values["id"] = UUID(values["id"])
    values["affected_assets"] = [UUID(asset) for asset in values["affected_assets"]]
    values["alert_ids"] = [UUID(alert) for alert in values["alert_ids"]]
    return _incident(values)


# -- reading for a change --------------------------------------------------------------------------------------------


# The statements that opening an incident and writing down an action wait for go to asyncpg at once: SQLAlchemy costs
# about a third of a millisecond more for each.
COLUMNS = ", ".join(f"incident.{name}" for name in FIELDS)
_LOCK = f"SELECT {', '.join(FIELDS)} FROM incident WHERE id = $1 FOR UPDATE"  # noqa: S608  # column names only
_LOCK_ALL = f"SELECT {', '.join(FIELDS)} FROM incident WHERE id = ANY($1) ORDER BY id FOR UPDATE"  # noqa: S608


async def lock(tx: Tx, incident_id: UUID, caller: Caller | None = None) -> Incident:
    """The incident, with its row locked until `tx` ends.

    Raises:
        UnknownIncident: there is none, or none that the caller may see.
    """
    connection = await driver(tx)
    row = await connection.fetchrow(_LOCK, incident_id)
    if row is None or not (caller is None or sees(caller, row["owner_teams"])):
        raise UnknownIncident(f"there is no incident {incident_id}")
    return from_row(row)


async def lock_all(tx: Tx, incident_ids: Iterable[UUID]) -> dict[UUID, Incident]:
    """Several incidents, locked in the order of their ids, so that two transactions never wait for each other."""
    wanted = list(set(incident_ids))
    if not wanted:
        return {}
    connection = await driver(tx)
    return {row["id"]: from_row(row) for row in await connection.fetch(_LOCK_ALL, wanted)}


async def lock_due(tx: Tx, at: datetime, limit: int) -> list[Incident]:
    """Incidents with a step whose time is over, locked; those that others work on are left for the next time."""
    query = (
        sa.select(incident_table)
        .where(incident_table.c.next_due_at <= at)
        .order_by(incident_table.c.next_due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [from_row(row._mapping) for row in await tx.execute(query)]


async def lock_unended_of_assets(tx: Tx, asset_ids: Sequence[UUID]) -> list[Incident]:
    """Incidents that are not closed and affect one of the assets, locked."""
    query = (
        sa.select(incident_table)
        .where(incident_table.c.affected_assets.overlap(list(asset_ids)))
        .where(incident_table.c.status != IncidentStatus.CLOSED)
        .order_by(incident_table.c.id)
        .with_for_update()
    )
    return [from_row(row._mapping) for row in await tx.execute(query)]


# -- keys of open incidents ------------------------------------------------------------------------------------------


async def holders(tx: Tx, keys: Iterable[str]) -> dict[str, UUID]:
    """Key -> the open incident that holds it."""
    connection = await driver(tx)
    rows = await connection.fetch("SELECT key, incident_id FROM join_key WHERE held AND key = ANY($1)", list(set(keys)))
    return {row["key"]: row["incident_id"] for row in rows}


_CLAIM = """
    INSERT INTO join_key (incident_id, key) SELECT * FROM unnest($1::uuid[], $2::text[]) ORDER BY 2
    ON CONFLICT DO NOTHING RETURNING key
"""


async def claim(tx: Tx, claims: Mapping[str, UUID]) -> set[str]:
    """Let incidents hold keys; gives those that were free.

    Waits for another transaction that is claiming the same key: if that commits, the key is not free. Keys are taken
    in order, so that two transactions never wait for each other.
    """
    if not claims:
        return set()
    connection = await driver(tx)
    rows = await connection.fetch(_CLAIM, list(claims.values()), list(claims))
    return {row["key"] for row in rows}


async def hand_over(tx: Tx, incident_id: UUID, to: UUID) -> None:
    """Give the keys of an incident that is not opened after all to the one that was opened instead."""
    await tx.execute(join_key_table.update().filter_by(incident_id=incident_id).values(incident_id=to))


async def release(tx: Tx, incident_ids: Iterable[UUID]) -> None:
    """Let go of the keys of incidents that ended, or whose window passed."""
    held = join_key_table.update().where(join_key_table.c.held, join_key_table.c.incident_id.in_(list(incident_ids)))
    await tx.execute(held.values(held=False))


async def hold_again(tx: Tx, incident_id: UUID) -> UUID | None:
    """Take back the keys of a reopened incident; the incident that holds one of them by now, if one does."""
    own = sa.select(join_key_table.c.key).where(join_key_table.c.incident_id == incident_id)
    other = await tx.scalar(
        sa.select(join_key_table.c.incident_id)
        .where(join_key_table.c.held, join_key_table.c.key.in_(own), join_key_table.c.incident_id != incident_id)
        .limit(1)
    )
    if other is None:
        await tx.execute(join_key_table.update().filter_by(incident_id=incident_id).values(held=True))
    return other


# -- alerts ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KnownAlert:
    """How far an alert is known, and the incident that it belongs to, if any."""

    version: int
    count: int
    incident_id: UUID | None


_KNOWN = """
    SELECT alert_id, version, count, NULL AS key, incident_id FROM alert WHERE alert_id = ANY($1)
    UNION ALL SELECT NULL, NULL, NULL, key, incident_id FROM join_key WHERE held AND key = ANY($2)
"""


async def known(
    tx: Tx, alert_ids: Iterable[UUID], keys: Iterable[str]
) -> tuple[dict[UUID, KnownAlert], dict[str, UUID]]:
    """What is known of these alerts, and which open incidents hold which of the keys."""
    connection = await driver(tx)
    alerts, holding = dict[UUID, KnownAlert](), dict[str, UUID]()
    for row in await connection.fetch(_KNOWN, list(alert_ids), list(keys)):
        if row["key"] is None:
            alerts[row["alert_id"]] = KnownAlert(row["version"], row["count"], row["incident_id"])
        else:
            holding[row["key"]] = row["incident_id"]
    return alerts, holding


async def waiting_alerts(tx: Tx, keys: Iterable[str], since: datetime) -> list[tuple[tuple[str, ...], AlertSnapshot]]:
    """Alerts of these keys that were seen since then and belong to no incident, with their keys."""
    query = (
        sa.select(alert_table.c["keys"].label("keys_held"), alert_table.c.snapshot)
        .where(alert_table.c.incident_id.is_(None), alert_table.c.last_seen >= since)
        .where(alert_table.c["keys"].overlap(sorted(set(keys))))
        .order_by(alert_table.c.last_seen, alert_table.c.alert_id)
        .limit(1_000)
    )
    return [(tuple(row.keys_held), AlertSnapshot.model_validate(row.snapshot)) for row in await tx.execute(query)]


_PUT_ALERTS = """
    INSERT INTO alert (alert_id, version, incident_id, keys, severity, count, disposition, last_seen, snapshot)
    SELECT put.alert_id, put.version, put.incident_id, string_to_array(put.keys, ' '), put.severity, put.count,
           put.disposition, put.last_seen, put.snapshot
    FROM unnest($1::uuid[], $2::integer[], $3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::text[],
                $8::timestamptz[], $9::jsonb[])
        AS put (alert_id, version, incident_id, keys, severity, count, disposition, last_seen, snapshot)
    ON CONFLICT (alert_id) DO UPDATE SET
        version = excluded.version, incident_id = coalesce(excluded.incident_id, alert.incident_id),
        keys = excluded.keys, severity = excluded.severity, count = excluded.count,
        disposition = excluded.disposition, last_seen = excluded.last_seen, snapshot = excluded.snapshot
    WHERE excluded.version >= alert.version
"""


async def put_alerts(tx: Tx, alerts: Sequence[tuple[AlertSnapshot, tuple[str, ...], UUID | None]]) -> None:
    """Keep alerts with their keys and the incident they belong to (None while none)."""
    if not alerts:
        return
    rows = [
        (
            alert.alert_id,
            alert.version,
            incident_id,
            " ".join(keys),
            alert.severity.value,
            alert.count,
            alert.disposition.value if alert.disposition else None,
            alert.last_seen,
            alert.model_dump_json(),
        )
        for alert, keys, incident_id in alerts
    ]
    connection = await driver(tx)
    await connection.execute(_PUT_ALERTS, *(list(column) for column in zip(*rows, strict=True)))


async def first_alert(tx: Tx, incident: Incident) -> AlertSnapshot | None:
    """The alert that opened the incident, None when a person did."""
    if not incident.alert_ids:
        return None
    query = sa.select(alert_table.c.snapshot).where(alert_table.c.alert_id == incident.alert_ids[0])
    snapshot = await tx.scalar(query)
    return AlertSnapshot.model_validate(snapshot) if snapshot is not None else None
