"""Discovery runs, and where each asset was last seen."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert

from services.inventory.domain.discovery import Counts, Problem, RunNotFound, RunStatus, Source
from services.inventory.store.schema import run_table, sighting_table
from shared.auth import Caller
from shared.database import Tx


@dataclass(frozen=True, slots=True)
class Run:
    """One discovery run, asked for or done."""

    run_id: UUID
    source: Source
    options: Mapping[str, Any]
    owner_team: str
    status: RunStatus
    counts: Counts
    problems: Sequence[Problem]
    requested_by: str
    requested_at: datetime
    finished_at: datetime | None


def _run(row: Any) -> Run:
    return Run(
        run_id=row.run_id,
        source=Source(row.source),
        options=row.options,
        owner_team=row.owner_team,
        status=RunStatus(row.status),
        counts=Counts(**row.counts),
        problems=[Problem(**problem) for problem in row.problems],
        requested_by=row.requested_by,
        requested_at=row.requested_at,
        finished_at=row.finished_at,
    )


async def add_run(tx: Tx, run: Run) -> None:
    await tx.execute(
        run_table.insert().values(
            run_id=run.run_id,
            source=run.source,
            options=dict(run.options),
            owner_team=run.owner_team,
            status=run.status,
            counts=asdict(run.counts),
            problems=[],
            requested_by=run.requested_by,
            requested_at=run.requested_at,
        )
    )


async def get_run(tx: Tx, caller: Caller, run_id: UUID) -> Run:
    """A run; runs show the whole estate, so only callers for the whole organisation see them.

    Raises:
        RunNotFound: there is none, or the caller is bound to teams.
    """
    row = (await tx.execute(sa.select(run_table).where(run_table.c.run_id == run_id))).first()
    if row is None or not caller.organization_wide:
        raise RunNotFound(f"there is no discovery run {run_id}")
    return _run(row)


async def runs(tx: Tx, caller: Caller, *, before: UUID | None, limit: int) -> list[Run]:
    """Runs, newest first."""
    if not caller.organization_wide:
        return []
    stmt = sa.select(run_table).order_by(run_table.c.run_id.desc()).limit(limit)
    if before is not None:
        stmt = stmt.where(run_table.c.run_id < before)
    return [_run(row) for row in await tx.execute(stmt)]


async def update_run(
    tx: Tx,
    run_id: UUID,
    *,
    status: RunStatus,
    counts: Counts,
    problems: Sequence[Problem],
    finished_at: datetime | None,
) -> None:
    await tx.execute(
        run_table.update()
        .where(run_table.c.run_id == run_id)
        .values(
            status=status,
            counts=asdict(counts),
            problems=[asdict(problem) for problem in problems],
            finished_at=finished_at,
        )
    )


async def sighted(tx: Tx, source: Source, locators: Collection[str]) -> dict[str, tuple[UUID, UUID]]:
    """Locator -> the asset that it was and the run that saw it last, of those locators that were seen before."""
    stmt = sa.select(sighting_table.c.locator, sighting_table.c.asset_id, sighting_table.c.run_id).where(
        sighting_table.c.source == source,
        sighting_table.c.locator == sa.any_(sa.literal(list(locators), ARRAY(sa.Text))),
    )
    return {row.locator: (row.asset_id, row.run_id) for row in await tx.execute(stmt)}


async def sight(tx: Tx, source: Source, run_id: UUID, sightings: Collection[tuple[str, str, UUID]]) -> None:
    """Note (locator, scope, asset) of what a run saw."""
    if not sightings:
        return
    rows = [
        {"source": source, "locator": locator, "scope": scope, "asset_id": asset_id, "run_id": run_id, "gone": False}
        for locator, scope, asset_id in sightings
    ]
    stmt = insert(sighting_table)
    changed = {name: stmt.excluded[name] for name in ("scope", "asset_id", "run_id", "gone")}
    await tx.execute(stmt.on_conflict_do_update(index_elements=["source", "locator"], set_=changed), rows)


async def mark_gone(tx: Tx, source: Source, run_id: UUID, scopes: Collection[str]) -> int:
    """Mark what lies in those completely read scopes and this run did not see; how many there are now."""
    in_scopes = sighting_table.c.scope == sa.any_(sa.literal(list(scopes), ARRAY(sa.Text)))
    unseen = (sighting_table.c.source == source, in_scopes, sighting_table.c.run_id != run_id)
    marked = await tx.execute(
        sighting_table.update().where(*unseen, sighting_table.c.gone.is_(sa.false())).values(gone=True)
    )
    return int(marked.rowcount)
