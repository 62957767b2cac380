"""Discovery runs: asked for, and what they bring home taken in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import uuid_utils.compat as uuid_utils

from services.inventory.application.assets import amend_asset
from services.inventory.application.imports import register_assets
from services.inventory.domain.asset import Asset, register
from services.inventory.domain.discovery import Findings, Found, Problem, RunStatus, refreshed
from services.inventory.store import assets as assets_store
from services.inventory.store import discovery as store
from services.inventory.store.discovery import Run
from shared import audit, tasks
from shared.auth import Caller
from shared.contracts.inventory import Lifecycle
from shared.database import Tx
from shared.errors import DomainError

TASK = "discovery.run"


async def request_run(tx: Tx, caller: Caller, run: Run) -> None:
    """Record the run and owe its doing."""
    await store.add_run(tx, run)
    await tasks.add(tx, kind=TASK, key=str(run.run_id), payload={})
    await audit.record(
        tx,
        caller,
        action="discovery.requested",
        target=str(run.run_id),
        detail={"source": run.source.value, "options": dict(run.options)},
        owner_team=run.owner_team,
    )


async def take_in(tx: Tx, run: Run, found: Sequence[tuple[str, Found]], at: datetime) -> Run:
    """Make assets of findings: new ones registered, known ones renewed; the run with its counts so far.

    What an earlier try of the same run took in is skipped, so that a run that was interrupted counts nothing twice.
    """
    caller = Caller(run.requested_by, "service")
    seen = await store.sighted(tx, run.source, [item.locator for _, item in found])
    fresh = [(scope, item) for scope, item in found if seen.get(item.locator, (None, None))[1] != run.run_id]
    known = await assets_store.get_many(tx, caller, {asset_id for asset_id, _ in seen.values()})
    living = {item.asset.asset_id: item.asset for item in known if item.asset.lifecycle is not Lifecycle.RETIRED}
    counts, problems = replace(run.counts), list(run.problems)
    counts.seen += len(fresh)

    sightings: list[tuple[str, str, UUID]] = []
    unknown: list[tuple[str, Found, Asset]] = []
    for scope, item in fresh:
        asset_id = seen[item.locator][0] if item.locator in seen else None
        if asset_id in living:
            sightings.append((item.locator, scope, asset_id))
            if refreshed(living[asset_id], item):
                counts.changed += await _renew(tx, caller, asset_id, item, problems, at)
            continue
        declared = {**item.declared, "owner_team": run.owner_team}
        unknown.append((scope, item, register(uuid_utils.uuid7(), declared, by=run.requested_by, at=at)))
    await assets_store.touch(tx, [asset_id for _, _, asset_id in sightings], at)
    results = await register_assets(tx, caller, [asset for _, _, asset in unknown], at)
    for (scope, item, _), result in zip(unknown, results, strict=True):
        if isinstance(result, DomainError):
            problems.append(Problem(item.locator[:300], result.detail))
            continue
        asset_id, created = result
        sightings.append((item.locator, scope, asset_id))
        if created:
            counts.new += 1
        else:
            counts.merged += 1
            counts.changed += await _renew(tx, caller, asset_id, item, problems, at)
    await store.sight(tx, run.source, run.run_id, sightings)
    run = replace(run, counts=counts, problems=problems)
    await store.update_run(tx, run.run_id, status=RunStatus.RUNNING, counts=counts, problems=problems, finished_at=None)
    return run


async def _renew(tx: Tx, caller: Caller, asset_id: UUID, found: Found, problems: list[Problem], at: datetime) -> int:
    """1 when the finding changed something of the asset as it is now, else 0."""
    current = await assets_store.get(tx, caller, asset_id, lock=True)
    changes = refreshed(current.asset, found)
    if not changes:
        return 0
    try:
        async with tx.begin_nested():
            await amend_asset(tx, caller, asset_id, None, changes, at)
    except DomainError as refusal:
        problems.append(Problem(found.locator[:300], refusal.detail))
        return 0
    return 1


async def finish_run(tx: Tx, run: Run, findings: Findings, at: datetime) -> Run:
    """Close the run: what its complete scopes no longer show is gone."""
    counts = replace(run.counts)
    if findings.complete:
        counts.gone = await store.mark_gone(tx, run.source, run.run_id, findings.complete)
    problems = [*run.problems, *findings.problems]
    status = findings.status
    if status is RunStatus.SUCCEEDED and problems:
        status = RunStatus.PARTIAL
    await store.update_run(tx, run.run_id, status=status, counts=counts, problems=problems, finished_at=at)
    return replace(run, status=status, counts=counts, problems=problems, finished_at=at)
