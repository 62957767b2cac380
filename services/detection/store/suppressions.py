"""Suppressions; those in force are in every replica's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services.detection.domain.suppressions import Suppression
from services.detection.store.tables import TIME, suppression_table
from shared.auth import Caller, visible
from shared.contracts.detection import FindingKind
from shared.contracts.incidents import IncidentCategory
from shared.database import Tx, driver


def _suppression(row: Any) -> Suppression:
    fields = dict(row._mapping)
    fields["kind"] = FindingKind(row.kind) if row.kind else None
    fields["category"] = IncidentCategory(row.category) if row.category else None
    return Suppression(**fields)


async def in_force(tx: Tx) -> list[Suppression]:
    query = sa.select(suppression_table).where(suppression_table.c.ended_at.is_(None))
    # Oldest first, so that of two that hold for a finding every replica names the same.
    return [_suppression(row) for row in await tx.execute(query.order_by(suppression_table.c.suppression_id))]


async def get(tx: Tx, caller: Caller, suppression_id: UUID, *, lock: bool = False) -> Suppression | None:
    """A suppression that the caller may see: its owner's, or one that holds for everybody."""
    query = sa.select(suppression_table).filter_by(suppression_id=suppression_id).where(_seen_by(caller))
    row = (await tx.execute(query.with_for_update() if lock else query)).first()
    return None if row is None else _suppression(row)


def _seen_by(caller: Caller) -> sa.ColumnElement[bool]:
    table = suppression_table.c
    # One for everybody's traffic hides findings of each team's: they may all know of it, but not for one foreign asset.
    everybodys = sa.and_(table.team.is_(None), table.asset_id.is_(None))
    return sa.or_(everybodys, visible(caller, table.owner_team), visible(caller, table.team))


def _values(one: Suppression) -> dict[str, Any]:
    values = {name: getattr(one, name) for name in Suppression.__slots__ if name not in ("hits", "last_hit_at")}
    return values | {"kind": one.kind and one.kind.value, "category": one.category and one.category.value}


async def add(tx: Tx, one: Suppression) -> None:
    await tx.execute(suppression_table.insert().values(_values(one)))


async def save(tx: Tx, one: Suppression) -> None:
    await tx.execute(suppression_table.update().filter_by(suppression_id=one.suppression_id).values(_values(one)))


async def expired(tx: Tx, now: datetime) -> list[Suppression]:
    due = sa.select(suppression_table).where(
        suppression_table.c.ended_at.is_(None), suppression_table.c.expires_at <= now
    )
    return [_suppression(row) for row in await tx.execute(due.limit(500).with_for_update(skip_locked=True))]


async def count_hits(tx: Tx, hits: Mapping[UUID, int]) -> None:
    """Add what a replica counted; locks rows in one order."""
    statement = """
        UPDATE suppression SET hits = suppression.hits + hit.number, last_hit_at = now()
        FROM (
            SELECT suppression_id, given.number
            FROM unnest($1::uuid[], $2::bigint[]) AS given (suppression_id, number)
            JOIN suppression AS locked USING (suppression_id) ORDER BY suppression_id FOR UPDATE OF locked
        ) AS hit
        WHERE suppression.suppression_id = hit.suppression_id
    """
    listed = sorted(hits.items())
    await (await driver(tx)).execute(statement, [one for one, _ in listed], [number for _, number in listed])


async def page(
    tx: Tx, caller: Caller, filters: Mapping[str, Any], in_force: bool | None, after: Sequence[Any] | None, limit: int
) -> list[Suppression]:
    """Newest first, one more than `limit` when there are more."""
    table = suppression_table
    query = sa.select(table).filter_by(**filters).where(_seen_by(caller))
    if in_force is not None:
        query = query.where(table.c.ended_at.is_(None) if in_force else table.c.ended_at.is_not(None))
    if after is not None:
        edge = sa.tuple_(sa.literal(datetime.fromisoformat(after[0]), TIME), sa.literal(UUID(after[1]), sa.Uuid))
        query = query.where(sa.tuple_(table.c.created_at, table.c.suppression_id) < edge)
    query = query.order_by(table.c.created_at.desc(), table.c.suppression_id.desc()).limit(limit + 1)
    return [_suppression(row) for row in await tx.execute(query)]
