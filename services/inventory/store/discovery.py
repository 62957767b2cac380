"""Discovery runs, and how they left each scope that they read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.inventory.domain.discovery import Counts, Problem, RunNotFound, RunStatus, Source
from services.inventory.store.schema import (
    run_table,
    scope_table,
)
from shared.auth import Caller
from shared.database import Tx

# -- runs -------------------------------------------------------------------------------------------------------------


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


@dataclass(frozen=True, slots=True)
class ScopeRead:
    """How the last run left one listing, folder or repository.

    Attributes:
        entries: what it held when it was last read to its end.
        stale_since: since when it cannot be read to its end; None when the last reading was complete.
    """

    scope: str
    source: Source
    run_id: UUID
    complete: bool
    entries: int
    seconds: float
    read_at: datetime | None
    stale_since: datetime | None
    reason: str


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


# -- scopes -----------------------------------------------------------------------------------------------------------


def _scope(row: Any) -> ScopeRead:
    return ScopeRead(
        scope=row.scope,
        source=Source(row.source),
        run_id=row.run_id,
        complete=row.complete,
        entries=row.entries,
        seconds=row.seconds,
        read_at=row.read_at,
        stale_since=row.stale_since,
        reason=row.reason,
    )


async def scopes_of_run(tx: Tx, run_id: UUID, limit: int = 1_000) -> list[ScopeRead]:
    """Scopes that this run was the last to read, by name."""
    stmt = sa.select(scope_table).where(scope_table.c.run_id == run_id).order_by(scope_table.c.scope).limit(limit)
    return [_scope(row) for row in await tx.execute(stmt)]


async def stale_scopes(
    tx: Tx, caller: Caller, *, after: tuple[datetime, str, str] | None, limit: int
) -> list[ScopeRead]:
    """Scopes whose last reading did not reach their end, the longest stale first."""
    if not caller.organization_wide:
        return []
    order = (scope_table.c.stale_since, scope_table.c.source, scope_table.c.scope)
    stmt = sa.select(scope_table).where(scope_table.c.stale_since.is_not(None))
    if after is not None:
        stmt = stmt.where(sa.tuple_(*order) > sa.tuple_(*after))
    return [_scope(row) for row in await tx.execute(stmt.order_by(*order).limit(limit))]


async def put_scope(
    tx: Tx, source: Source, scope: str, run_id: UUID, *, entries: int | None, seconds: float, reason: str, at: datetime
) -> None:
    """Note how a scope was left: `entries` when it was read to its end, None when it was not."""
    complete = entries is not None
    values: dict[str, Any] = {
        "source": source,
        "scope": scope,
        "run_id": run_id,
        "complete": complete,
        "entries": entries or 0,
        "seconds": seconds,
        "read_at": at if complete else None,
        "stale_since": None if complete else at,
        "reason": reason,
    }
    stmt = insert(scope_table).values(values)
    renewed: dict[str, Any] = {name: stmt.excluded[name] for name in ("run_id", "complete", "seconds", "reason")}
    if complete:
        renewed |= {name: stmt.excluded[name] for name in ("entries", "read_at", "stale_since")}
    else:
        renewed["stale_since"] = sa.func.coalesce(scope_table.c.stale_since, stmt.excluded.stale_since)
    await tx.execute(stmt.on_conflict_do_update(index_elements=["source", "scope"], set_=renewed))
