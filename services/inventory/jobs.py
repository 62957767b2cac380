"""Side effects that are owed: discovery runs, and telling of whom a denied digest reaches."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from services.inventory.application import artifacts, scores
from services.inventory.application.discovery import TASK, finish_run, take_in
from services.inventory.connectors import discover
from services.inventory.domain.discovery import Findings, RunStatus
from services.inventory.store import artifacts as artifact_store
from services.inventory.store import discovery as store
from services.inventory.store.discovery import Run
from shared.auth import Caller
from shared.errors import DomainError
from shared.runtime import Runtime
from shared.tasks import Task, Tasks

tasks = Tasks()

_SERVICE = Caller("inventory", "service")
_A_TRANSACTION = 200


async def _load(task: Task, runtime: Runtime) -> Run:
    async with runtime.db.read() as tx:
        return await store.get_run(tx, _SERVICE, UUID(task.key))


async def _give_up(task: Task, runtime: Runtime) -> None:
    findings = Findings()
    findings.fail("run", "it was interrupted too often")
    run = await _load(task, runtime)
    async with runtime.db.begin() as tx:
        await finish_run(tx, run, findings, datetime.now(UTC))


# The run has a limit of its own, from the settings; taking in a large estate comes on top.
@tasks.on(TASK, workers=2, max_attempts=3, limit_seconds=86_400, on_dead=_give_up)
async def run_discovery(task: Task, runtime: Runtime) -> dict[str, Any] | None:
    """Look, take in what is found a few hundred at a time, and close the run."""
    run = await _load(task, runtime)
    if run.finished_at is not None:
        return None
    async with runtime.db.begin() as tx:
        await store.update_run(
            tx, run.run_id, status=RunStatus.RUNNING, counts=run.counts, problems=run.problems, finished_at=None
        )
    findings = Findings()
    try:
        async with asyncio.timeout(runtime.settings.discovery_timeout_seconds):
            findings = await discover(run.source, dict(run.options), runtime.settings)
    except TimeoutError:
        findings.fail("run", f"took longer than {runtime.settings.discovery_timeout_seconds:g} s")
    except DomainError as refusal:
        findings.fail("options", refusal.detail)
    for start in range(0, len(findings.found), _A_TRANSACTION):
        async with runtime.db.begin() as tx:
            run = await take_in(tx, run, findings.found[start : start + _A_TRANSACTION], datetime.now(UTC))
    async with runtime.db.begin() as tx:
        run = await finish_run(tx, run, findings, datetime.now(UTC))
    return {"status": run.status.value}


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
