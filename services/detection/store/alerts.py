"""Alerts, folded as they are written; their changes are numbered, for the stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from services.detection.store.tables import TIME, alert_change, alert_table
from shared.auth import Caller, visible
from shared.contracts.detection import AlertSnapshot, Severity
from shared.database import Tx, driver

_LOCK = "SELECT pg_advisory_xact_lock(hashtext('alerts'))"
_COLUMNS = tuple(name for name in AlertSnapshot.model_fields if name not in ("version", "disposition"))
_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects carry no annotations
_TYPES = {column.name: column.type.compile(dialect=_DIALECT) for column in alert_table.columns}
_GRAVITY = f"array_position('{{{','.join(Severity)}}}'::text[], %s.severity)"
_FOLD = f"""
    INSERT INTO alert ({", ".join(_COLUMNS)}, version, change, fold_key, folding, status, comment)
    SELECT {", ".join(_COLUMNS)}, 1, nextval('alert_change'), fold_key, true, 'open', ''
    FROM jsonb_to_recordset($1::text::jsonb)
        AS new ({", ".join(f"{name} {_TYPES[name]}" for name in (*_COLUMNS, "fold_key"))})
    ORDER BY fold_key
    ON CONFLICT (fold_key) WHERE folding DO UPDATE SET
        count = alert.count + excluded.count,
        version = alert.version + 1,
        change = nextval('alert_change'),
        last_seen = greatest(alert.last_seen, excluded.last_seen),
        severity =
            CASE WHEN {_GRAVITY % "excluded"} > {_GRAVITY % "alert"} THEN excluded.severity ELSE alert.severity END,
        score = greatest(alert.score, excluded.score)
    WHERE alert.last_seen >= $2
    RETURNING {", ".join(f"alert.{name}" for name in (*_COLUMNS, "version", "disposition", "fold_key"))},
        (SELECT before.severity FROM alert AS before WHERE before.alert_id = alert.alert_id) AS severity_before
"""  # noqa: S608  # column names and types of our own table
_UNFOLD = "UPDATE alert SET folding = false WHERE fold_key = ANY($1::text[]) AND folding AND last_seen < $2"


async def lock(tx: Tx) -> None:
    """Let no other transaction change alerts until this one ends.

    So changes become visible in the order of their numbers, and a reader of the stream misses none.
    """
    await (await driver(tx)).execute(_LOCK)


async def fold(tx: Tx, new: Mapping[str, AlertSnapshot], folds_after: datetime) -> dict[str, Any]:
    """Raise each alert, or count it in the one it is identical to; the rows by fold key. Take `lock` first.

    An alert is as grave as the gravest that it took in; `severity_before` is what it was, None of a new one.

    Args:
        new: by fold key; `count` is how often it was seen.
        folds_after: an alert last seen before this no longer takes in new findings.
    """
    connection = await driver(tx)
    found: dict[str, Any] = {}
    missing = dict(new)
    for _ in range(2):
        rows = [alert.model_dump(mode="json") | {"fold_key": key} for key, alert in missing.items()]
        for row in await connection.fetch(_FOLD, orjson.dumps(rows).decode(), folds_after):
            found[row["fold_key"]] = _Row(row)
            del missing[row["fold_key"]]
        if not missing:
            break
        # What is left stands in an alert of long ago, which makes room for a new one.
        await connection.execute(_UNFOLD, list(missing), folds_after)
    return found


class _Row:
    """A row of asyncpg's with its columns as attributes, as SQLAlchemy's have them."""

    def __init__(self, record: Any) -> None:
        self.__dict__.update(record.items())


def snapshot(row: Any) -> AlertSnapshot:
    return AlertSnapshot.model_validate({name: getattr(row, name) for name in AlertSnapshot.model_fields})


async def get(tx: Tx, caller: Caller, alert_id: UUID, *, lock: bool = False) -> Any | None:
    """The row of an alert that the caller may see."""
    query = sa.select(alert_table).filter_by(alert_id=alert_id).where(visible(caller, alert_table.c.owner_team))
    return (await tx.execute(query.with_for_update() if lock else query)).first()


async def dispose(tx: Tx, alert_id: UUID, disposition: str | None, by: str, comment: str, widely: bool) -> Any:
    """Record what a person found; a disposed alert takes in no more findings.

    Args:
        widely: whether an organisation-wide caller says so.
    """
    return (
        await tx.execute(
            alert_table.update()
            .filter_by(alert_id=alert_id)
            .values(
                disposition=disposition,
                disposed_by=by,
                judged_widely=widely,
                comment=comment,
                status="open" if disposition is None else "disposed",
                folding=False,
                version=alert_table.c.version + 1,
                change=alert_change.next_value(),
            )
            .returning(alert_table)
        )
    ).one()


async def page(
    tx: Tx,
    caller: Caller,
    filters: Mapping[str, Any],
    since: datetime | None,
    until: datetime | None,
    after: Sequence[Any] | None,
    limit: int,
) -> list[Any]:
    """Newest first by first_seen, one more than `limit` when there are more."""
    table = alert_table
    query = sa.select(table).filter_by(**filters).where(visible(caller, table.c.owner_team))
    if since is not None:
        query = query.where(table.c.last_seen >= since)
    if until is not None:
        query = query.where(table.c.first_seen < until)
    if after is not None:
        edge = sa.tuple_(sa.literal(datetime.fromisoformat(after[0]), TIME), sa.literal(UUID(after[1]), sa.Uuid))
        query = query.where(sa.tuple_(table.c.first_seen, table.c.alert_id) < edge)
    query = query.order_by(table.c.first_seen.desc(), table.c.alert_id.desc()).limit(limit + 1)
    return list((await tx.execute(query)).all())


async def newest_change(tx: Tx) -> int:
    return int(await tx.scalar(sa.select(sa.func.coalesce(sa.func.max(alert_table.c.change), 0))) or 0)


async def changed(tx: Tx, caller: Caller, after: int, limit: int = 500) -> list[Any]:
    """Alerts in the order in which they changed, after a change."""
    query = sa.select(alert_table).where(alert_table.c.change > after, visible(caller, alert_table.c.owner_team))
    return list((await tx.execute(query.order_by(alert_table.c.change).limit(limit))).all())
