"""Side effects that are owed and work that time brings: discovery runs, their schedules, and telling of whom a denied
digest reaches."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from services.inventory.application import artifacts, scores
from services.inventory.application.discovery import TASK, Intake
from services.inventory.application.schedules import start_due
from services.inventory.connectors import discover
from services.inventory.connectors.harvest import Harvest
from services.inventory.domain.discovery import Problem
from services.inventory.store import artifacts as artifact_store
from services.inventory.store import discovery as store
from services.inventory.store.discovery import Run
from shared.auth import Caller
from shared.errors import DomainError
from shared.runtime import Runtime
from shared.tasks import Task, Tasks

tasks = Tasks()

_SERVICE = Caller("inventory", "service")


async def _load(task: Task, runtime: Runtime) -> Run:
    async with runtime.db.read() as tx:
        return await store.get_run(tx, _SERVICE, UUID(task.key))


def _intake(runtime: Runtime, run: Run) -> Intake:
    return Intake(runtime.db, run, timedelta(seconds=runtime.settings.discovery_grace_seconds))


async def _give_up(task: Task, runtime: Runtime) -> None:
    run = await _load(task, runtime)
    await _intake(runtime, run).finish([Problem("run", "it was interrupted too often")], 0, complete=False)


# The run has a limit of its own, from the settings; taking in a large estate comes on top.
@tasks.on(TASK, workers=2, max_attempts=3, limit_seconds=86_400, on_dead=_give_up)
async def run_discovery(task: Task, runtime: Runtime) -> dict[str, Any] | None:
    """Look, taking in what is found as it comes, and close the run. A run that was interrupted goes on with the scopes
    that it had not read to their end."""
    run = await _load(task, runtime)
    if run.finished_at is not None:
        return None
    async with runtime.db.read() as tx:
        before = [scope for scope in await store.scopes_of_run(tx, run.run_id, limit=100_000) if scope.complete]
    intake = _intake(runtime, run)
    harvest = Harvest(
        intake,
        entries_limit=runtime.settings.discovery_entries_limit,
        read=[scope.scope for scope in before],
    )
    intake.resume({scope.scope: scope.entries for scope in before})
    try:
        async with asyncio.timeout(runtime.settings.discovery_timeout_seconds):
            await discover(run.source, dict(run.options), runtime.settings, harvest)
    except TimeoutError:
        harvest.fail("run", f"took longer than {runtime.settings.discovery_timeout_seconds:g} s")
    except DomainError as refusal:
        harvest.fail("options", refusal.detail)
    run = await intake.finish(harvest.problems, harvest.problems_untold, complete=bool(harvest.completed))
    return {"status": run.status.value}


async def start_scheduled_runs(runtime: Runtime) -> None:
    """Ask for the runs whose time has come."""
    async with runtime.db.begin() as tx:
        await start_due(tx, datetime.now(UTC))


# A thousand assets take a transaction of some 200 ms; the limit is far above what a million would take.
@tasks.on(artifacts.FOLLOW, workers=1, limit_seconds=3_600)
async def follow_denied_digest(task: Task, runtime: Runtime) -> dict[str, Any] | None:
    """Announce every asset that a denial reaches and that was not announced yet, some at a time."""
    more = True
    while more:
        at = datetime.now(UTC)
        async with runtime.db.begin() as tx:
            denial = await artifact_store.get(tx, task.payload["algorithm"], task.payload["digest"])
            if denial is None or not denial.denies(at):
                return {"outcome": "no longer denied"}
            more = await artifacts.follow(tx, denial, at, artifacts.A_TRANSACTION)
    return None


async def end_expired_digests(runtime: Runtime) -> None:
    async with runtime.db.begin() as tx:
        await artifacts.end_expired(tx, datetime.now(UTC))


_JUDGED_AT_A_TIME = 250


async def judge_boms(runtime: Runtime) -> None:
    """Some at a time, so that an import of a million is not slowed down by what nobody waits for."""
    async with runtime.db.begin() as tx:
        await scores.judge_some(tx, timedelta(seconds=30), _JUDGED_AT_A_TIME)


async def judge_late_boms(runtime: Runtime) -> None:
    """What a transaction that took unusually long has changed: one that takes in a large bill of materials."""
    async with runtime.db.begin() as tx:
        await scores.judge_some(tx, timedelta(minutes=30), _JUDGED_AT_A_TIME)
