"""Schedules of discovery: made, changed, ended, and followed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import uuid_utils.compat as uuid_utils

from services.inventory.application.discovery import request_run
from services.inventory.domain.discovery import Counts, RunStatus
from services.inventory.store import discovery as runs
from services.inventory.store import schedules as store
from services.inventory.store.discovery import Run
from services.inventory.store.schedules import Schedule
from shared import audit
from shared.auth import Caller
from shared.database import Tx


async def add_schedule(tx: Tx, caller: Caller, schedule: Schedule) -> None:
    """Let a run come round; the first at once."""
    await store.add(tx, schedule)
    await _noted(tx, caller, "discovery.scheduled", schedule, {"every_seconds": schedule.every_seconds})


async def change_schedule(
    tx: Tx, caller: Caller, schedule_id: UUID, values: Mapping[str, Any], at: datetime
) -> Schedule:
    """Set every_seconds or enabled. Raises ScheduleNotFound."""
    schedule = await store.get(tx, caller, schedule_id, lock=True)
    changed = {name: value for name, value in values.items() if getattr(schedule, name) != value}
    if not changed:
        return schedule
    if "every_seconds" in changed:
        changed["next_at"] = min(schedule.next_at, at + timedelta(seconds=changed["every_seconds"]))
    await store.update(tx, schedule_id, **changed)
    after = replace(schedule, **changed)
    await _noted(tx, caller, "discovery.schedule_changed", after, dict(values))
    return after


async def remove_schedule(tx: Tx, caller: Caller, schedule_id: UUID) -> None:
    """End it; runs that it asked for stay. Raises ScheduleNotFound."""
    schedule = await store.get(tx, caller, schedule_id, lock=True)
    await store.remove(tx, schedule_id)
    await _noted(tx, caller, "discovery.schedule_removed", schedule, {})


async def start_due(tx: Tx, at: datetime) -> int:
    """Ask for the runs whose time has come; how many. One whose last run still goes on is skipped this time."""
    started = 0
    for schedule in await store.due(tx, at):
        following = {"next_at": at + timedelta(seconds=schedule.every_seconds)}
        caller = Caller(schedule.created_by, "service")
        if schedule.last_run_id is not None:
            last = await runs.get_run(tx, caller, schedule.last_run_id)
            if last.finished_at is None:
                await store.update(tx, schedule.schedule_id, **following)
                continue
        run = Run(
            run_id=uuid_utils.uuid7(),
            source=schedule.source,
            options=schedule.options,
            owner_team=schedule.owner_team,
            status=RunStatus.QUEUED,
            counts=Counts(),
            problems=(),
            requested_by=schedule.created_by,
            requested_at=at,
            finished_at=None,
        )
        await request_run(tx, caller, run)
        await store.update(tx, schedule.schedule_id, last_run_id=run.run_id, **following)
        started += 1
    return started


async def _noted(tx: Tx, caller: Caller, action: str, schedule: Schedule, detail: dict[str, Any]) -> None:
    await audit.record(
        tx,
        caller,
        action=action,
        target=str(schedule.schedule_id),
        detail={"source": schedule.source.value, **detail},
        owner_team=schedule.owner_team,
    )
