"""Discovery runs that come round by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services.inventory.domain.discovery import ScheduleNotFound, Source
from services.inventory.store.schema import schedule_table
from shared.auth import Caller
from shared.database import Tx

_schedule = schedule_table.c


@dataclass(frozen=True, slots=True)
class Schedule:
    """A run to be asked for every `every_seconds`, next at `next_at`."""

    schedule_id: UUID
    source: Source
    options: Mapping[str, Any]
    owner_team: str
    every_seconds: int
    enabled: bool
    next_at: datetime
    last_run_id: UUID | None
    created_by: str
    created_at: datetime


def _of(row: Any) -> Schedule:
    return Schedule(**{**row._mapping, "source": Source(row.source)})


async def add(tx: Tx, schedule: Schedule) -> None:
    values = {name: getattr(schedule, name) for name in schedule.__slots__}
    await tx.execute(schedule_table.insert().values(values | {"options": dict(schedule.options)}))


async def get(tx: Tx, caller: Caller, schedule_id: UUID, *, lock: bool = False) -> Schedule:
    """Raises ScheduleNotFound: there is none, or the caller is bound to teams."""
    stmt = sa.select(schedule_table).where(_schedule.schedule_id == schedule_id)
    row = (await tx.execute(stmt.with_for_update() if lock else stmt)).first()
    if row is None or not caller.organization_wide:
        raise ScheduleNotFound(f"there is no discovery schedule {schedule_id}")
    return _of(row)


async def page(tx: Tx, caller: Caller, *, after: UUID | None, limit: int) -> list[Schedule]:
    """Schedules in the order in which they were made."""
    if not caller.organization_wide:
        return []
    stmt = sa.select(schedule_table).order_by(_schedule.schedule_id).limit(limit)
    if after is not None:
        stmt = stmt.where(_schedule.schedule_id > after)
    return [_of(row) for row in await tx.execute(stmt)]


async def due(tx: Tx, at: datetime, limit: int = 20) -> list[Schedule]:
    """Enabled schedules whose time has come, their rows locked."""
    stmt = sa.select(schedule_table).where(_schedule.enabled, _schedule.next_at <= at)
    rows = await tx.execute(stmt.order_by(_schedule.next_at).limit(limit).with_for_update(skip_locked=True))
    return [_of(row) for row in rows]


async def update(tx: Tx, schedule_id: UUID, **values: Any) -> None:
    await tx.execute(schedule_table.update().where(_schedule.schedule_id == schedule_id).values(values))


async def remove(tx: Tx, schedule_id: UUID) -> None:
    await tx.execute(schedule_table.delete().where(_schedule.schedule_id == schedule_id))
