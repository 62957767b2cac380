"""How a change of an incident is written: as one statement, for each would cost a round trip, and containment waits."""

# ruff: noqa: S608  # The statement is put together of column names and numbers of parameters only.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from itertools import count

import orjson

from services.incidents.domain.evidence import Record
from services.incidents.domain.incident import Change, Happening
from services.incidents.store.actions import OWED, OWED_TYPES
from services.incidents.store.incidents import FIELDS, row_of
from shared.database import Tx, driver

_RECORD_FIELDS = tuple(field.name for field in fields(Record))
_COLUMNS = (*FIELDS, "next_due_at")
_TOLD = ("text", "text", "text", "integer", "jsonb")
_ANNOUNCED = ("uuid", "text", "text", "bigint", "bytea")
_SEALED = ("uuid", "uuid", "integer", *("text",) * 5, "timestamptz", *("text",) * 3)
_DONE = ("uuid", "text", "jsonb", "integer", "text", "timestamptz")


@cache
def _statement(*, new: bool, alone: bool, events: bool, evidence: bool, owed: bool, done: bool) -> str:
    """Everything that a change writes; what it has nothing of is left out, for triggers fire without rows, too."""
    places = count(1)

    def place() -> str:
        return f"${next(places)}"

    def rows(*types: str) -> str:
        return "unnest(" + ", ".join(f"{place()}::{kind}[]" for kind in types) + ") WITH ORDINALITY"

    columns = {name: place() for name in _COLUMNS}
    if new:
        changed = f"INSERT INTO incident ({', '.join(columns)}) VALUES ({', '.join(columns.values())})"
    else:
        values = ", ".join(f"{name} = {value}" for name, value in columns.items() if name != "id")
        changed = f"UPDATE incident SET {values} WHERE id = {columns['id']}"
    same = ", ".join(columns[name] for name in ("id", "version", "updated_at"))
    parts = [
        f"INSERT INTO incident_version (incident_id, version, at, state) SELECT {same}, {place()} FROM changed",
        f"""INSERT INTO timeline (incident_id, version, at, kind, summary, actor, step, detail)
            SELECT {same}, line.kind, line.summary, line.actor, line.step, line.detail
            FROM changed, {rows(*_TOLD)} AS line (kind, summary, actor, step, detail, place) ORDER BY line.place""",
        f"""INSERT INTO audit_entry (at, actor, actor_kind, action, target, owner_team, detail, trace_id)
            SELECT {", ".join(place() for _ in range(8))} FROM changed""",
    ]
    if events:
        parts.append(f"""
            INSERT INTO outbox (event_id, type, aggregate_id, version, payload)
            SELECT event.event_id, event.type, event.aggregate_id, event.version, event.payload
            FROM changed, {rows(*_ANNOUNCED)} AS event (event_id, type, aggregate_id, version, payload, place)
            ORDER BY event.place""")
    if evidence:
        names = ", ".join(_RECORD_FIELDS)
        parts.append(f"""
            INSERT INTO evidence ({names}) SELECT {names}
            FROM changed, {rows(*_SEALED)} AS piece ({names}, place)""")
    if owed:
        names = ", ".join(OWED)
        parts.append(f"""
            INSERT INTO action ({names}) SELECT {names}
            FROM changed, {rows(*OWED_TYPES)} AS action ({names}, place) ON CONFLICT (key) DO NOTHING""")
    if done:
        parts.append(f"""
            UPDATE action SET status = tried.status, requests = tried.requests, attempts = tried.attempts,
                error = tried.error, finished_at = tried.finished_at
            FROM changed, {rows(*_DONE)} AS tried (id, status, requests, attempts, error, finished_at, place)
            WHERE action.id = tried.id""")
    if alone:
        changed += f" AND version = {place()} AND NOT EXISTS (SELECT FROM webhook WHERE enabled)"
    written = ", ".join(f"part_{number} AS ({part})" for number, part in enumerate(parts))
    return f"WITH changed AS ({changed} RETURNING 1), {written} SELECT count(*) FROM changed"


def _told(happenings: Sequence[Happening]) -> list[list[object]]:
    details = [dict(happening.detail) for happening in happenings]
    return [
        [happening.kind for happening in happenings],
        [happening.summary for happening in happenings],
        [str(detail.pop("by", "")) for detail in details],
        [happening.step for happening in happenings],
        [orjson.dumps(detail, default=str).decode() for detail in details],
    ]


async def save(
    tx: Tx,
    change: Change,
    records: Sequence[Record],
    audit_entry: Sequence[object],
    events: Sequence[Sequence[object]],
    *,
    new: bool = False,
    owed: Sequence[Sequence[object]] = (),
    done: Sequence[Sequence[object]] = (),
    expected: int | None = None,
) -> bool:
    """Write the incident, its state as a version of its own, timeline, audit, new evidence and what is announced.

    Args:
        audit_entry: what `audit.row_of` gave for the change.
        events: what `outbox.row_of` gave for each event.
        owed: actions that it starts, as `actions.owed` gives them.
        done: actions that led to it, as `actions.progress_of` gives them.
        expected: write only if the incident still has this version and nobody subscribes to webhooks. Then `tx` need
            hold no lock, nor be a transaction at all.

    Returns:
        Whether it was written.
    """
    row, state = row_of(change.incident)
    statement = _statement(
        new=new,
        alone=expected is not None,
        events=bool(events),
        evidence=bool(records),
        owed=bool(owed),
        done=bool(done),
    )
    values: list[object] = [*(row[name] for name in _COLUMNS), state, *_told(change.happenings), *audit_entry]
    for listed in (events, [[getattr(record, name) for name in _RECORD_FIELDS] for record in records], owed, done):
        if listed:
            values += [list(column) for column in zip(*listed, strict=True)]
    connection = await driver(tx)
    return bool(await connection.fetchval(statement, *values, *(() if expected is None else (expected,))))
