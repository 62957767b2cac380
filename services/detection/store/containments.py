"""Containments; those in force are in every replica's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.detection.store.tables import TIME, containment_table
from shared.auth import Caller, visible
from shared.database import Tx


@dataclass(frozen=True, slots=True)
class Containment:
    """A block of a session, an actor or an asset, in force until it is lifted.

    Sessions and actors are named by whoever sends traffic, so a team's block holds for its own traffic only: `team`
    None is everybody's, "" what belongs to no team. Of an asset it is None.
    """

    containment_id: UUID
    version: int
    target_kind: str
    target: str
    reason: str
    owner_team: str
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    lifted_at: datetime | None = None
    lifted_by: str | None = None
    team: str | None = None


def _containment(row: Any) -> Containment:
    return Containment(**row._mapping)


async def in_force(tx: Tx) -> list[Containment]:
    query = sa.select(containment_table).where(containment_table.c.lifted_at.is_(None))
    return [_containment(row) for row in await tx.execute(query)]


async def get(tx: Tx, containment_id: UUID, *, lock: bool = False) -> Containment | None:
    query = sa.select(containment_table).filter_by(containment_id=containment_id)
    row = (await tx.execute(query.with_for_update() if lock else query)).first()
    return None if row is None else _containment(row)


async def add(tx: Tx, new: Containment) -> Containment | None:
    """Add it; None when its target is contained already for the same team."""
    values = {name: getattr(new, name) for name in Containment.__slots__}
    stmt = (
        insert(containment_table)
        .values(values)
        .on_conflict_do_nothing(
            index_elements=["target_kind", "target", "team"], index_where=containment_table.c.lifted_at.is_(None)
        )
    )
    row = (await tx.execute(stmt.returning(containment_table))).first()
    return None if row is None else _containment(row)


async def standing(tx: Tx, target_kind: str, target: str, team: str | None) -> Containment | None:
    """The one in force on a target for a team, locked."""
    query = sa.select(containment_table).filter_by(target_kind=target_kind, target=target, team=team, lifted_at=None)
    row = (await tx.execute(query.with_for_update())).first()
    return None if row is None else _containment(row)


async def save(tx: Tx, changed: Containment) -> None:
    values = {name: getattr(changed, name) for name in Containment.__slots__ if name != "containment_id"}
    await tx.execute(containment_table.update().filter_by(containment_id=changed.containment_id).values(values))


async def expired(tx: Tx, now: datetime) -> list[Containment]:
    due = sa.select(containment_table).where(
        containment_table.c.lifted_at.is_(None), containment_table.c.expires_at <= now
    )
    return [_containment(row) for row in await tx.execute(due.limit(500).with_for_update(skip_locked=True))]


async def page(
    tx: Tx, caller: Caller, filters: Mapping[str, Any], in_force: bool | None, after: Sequence[Any] | None, limit: int
) -> list[Containment]:
    """Newest first, one more than `limit` when there are more."""
    table = containment_table
    query = sa.select(table).filter_by(**filters).where(visible(caller, table.c.owner_team))
    if in_force is not None:
        query = query.where(table.c.lifted_at.is_(None) if in_force else table.c.lifted_at.is_not(None))
    if after is not None:
        edge = sa.tuple_(sa.literal(datetime.fromisoformat(after[0]), TIME), sa.literal(UUID(after[1]), sa.Uuid))
        query = query.where(sa.tuple_(table.c.created_at, table.c.containment_id) < edge)
    query = query.order_by(table.c.created_at.desc(), table.c.containment_id.desc()).limit(limit + 1)
    return [_containment(row) for row in await tx.execute(query)]
