"""Acceptances and the board's decisions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services.governance.domain.acceptances import Acceptance, AcceptanceKind, AcceptanceNotFound, AcceptanceStatus
from services.governance.domain.decisions import Decision, DecisionNotFound, Outcome
from services.governance.store.schema import acceptance_table, asset_table, decision_table, fields, newest_first
from shared.auth import Caller, visible
from shared.contracts.risk import RiskLevel
from shared.database import Tx
from shared.paging import PageRequest

_acceptance = acceptance_table.c
_decision = decision_table.c
_OPEN = _acceptance.status.in_([AcceptanceStatus.REQUESTED, AcceptanceStatus.APPROVED])


@dataclass(frozen=True, slots=True)
class KnownAcceptance:
    """An acceptance with whose asset it concerns; empty when it concerns none."""

    acceptance: Acceptance
    owner_team: str

    @property
    def acceptance_id(self) -> UUID:
        return self.acceptance.acceptance_id


_OWNER = sa.func.coalesce(asset_table.c.owner_team, "")
_KNOWN = sa.select(acceptance_table, _OWNER.label("owner_team")).select_from(
    acceptance_table.outerjoin(asset_table, asset_table.c.asset_id == _acceptance.asset_id)
)


def _known(row: Any) -> KnownAcceptance:
    values = {name: getattr(row, name) for name in Acceptance.__slots__}
    values["kind"] = AcceptanceKind(row.kind)
    values["status"] = AcceptanceStatus(row.status)
    values["compensating_measures"] = tuple(row.compensating_measures)
    for name in ("requested_level", "accepted_level"):
        values[name] = None if values[name] is None else RiskLevel(values[name])
    return KnownAcceptance(Acceptance(**values), row.owner_team)


async def add(tx: Tx, acceptance: Acceptance) -> None:
    await tx.execute(acceptance_table.insert().values(fields(acceptance)))


async def save(tx: Tx, acceptance: Acceptance) -> None:
    stmt = acceptance_table.update().where(_acceptance.acceptance_id == acceptance.acceptance_id)
    await tx.execute(stmt.values(fields(acceptance)))


async def get(tx: Tx, caller: Caller, acceptance_id: UUID, *, lock: bool = False) -> KnownAcceptance:
    """An acceptance, its row locked if asked for.

    Raises:
        AcceptanceNotFound: there is none, or it is not this caller's to see.
    """
    stmt = _KNOWN.where(_acceptance.acceptance_id == acceptance_id).where(visible(caller, _OWNER))
    row = (await tx.execute(stmt.with_for_update(of=acceptance_table) if lock else stmt)).first()
    if row is None:
        raise AcceptanceNotFound(f"there is no acceptance {acceptance_id}")
    return _known(row)


async def page(
    tx: Tx,
    caller: Caller,
    page: PageRequest,
    *,
    kind: AcceptanceKind | None = None,
    status: AcceptanceStatus | None = None,
    asset_id: UUID | None = None,
    requested_by: str | None = None,
    expires_before: datetime | None = None,
) -> list[KnownAcceptance]:
    """Acceptances, newest first; one more than the page holds."""
    stmt = _KNOWN.where(visible(caller, _OWNER))
    exact = {"kind": kind, "status": status, "asset_id": asset_id, "requested_by": requested_by}
    for name, value in exact.items():
        if value is not None:
            stmt = stmt.where(_acceptance[name] == value)
    if expires_before is not None:
        stmt = stmt.where(_acceptance.expires_at < expires_before)
    return [_known(row) for row in await tx.execute(newest_first(stmt, _acceptance.acceptance_id, page))]


async def over(tx: Tx, now: datetime, limit: int) -> list[KnownAcceptance]:
    """Open acceptances whose time is over, locked."""
    stmt = _KNOWN.where(_OPEN).where(_acceptance.expires_at <= now).order_by(_acceptance.expires_at).limit(limit)
    return [_known(row) for row in await tx.execute(stmt.with_for_update(of=acceptance_table, skip_locked=True))]


async def approved_on(tx: Tx, asset_ids: Iterable[UUID]) -> list[KnownAcceptance]:
    """Acceptances in force for these assets, locked."""
    stmt = _KNOWN.where(_acceptance.status == AcceptanceStatus.APPROVED)
    stmt = stmt.where(_acceptance.asset_id.in_(list(asset_ids))).order_by(_acceptance.acceptance_id)
    return [_known(row) for row in await tx.execute(stmt.with_for_update(of=acceptance_table))]


# -- decisions ---------------------------------------------------------------------------------------------------------

_DECISION_OWNER = sa.func.coalesce(asset_table.c.owner_team, "")
_DECISIONS = sa.select(decision_table).select_from(
    decision_table.outerjoin(asset_table, asset_table.c.asset_id == _decision.asset_id)
)


def _decision_of(row: Any) -> Decision:
    values = {name: getattr(row, name) for name in Decision.__slots__}
    values["outcome"] = Outcome(row.outcome)
    values["conditions"] = tuple(row.conditions)
    values["participants"] = tuple(row.participants)
    return Decision(**values)


async def add_decision(tx: Tx, decision: Decision) -> None:
    await tx.execute(decision_table.insert().values(fields(decision)))


async def get_decision(tx: Tx, caller: Caller, decision_id: UUID) -> Decision:
    """A decision.

    Raises:
        DecisionNotFound: there is none, or it is not this caller's to see.
    """
    stmt = _DECISIONS.where(_decision.decision_id == decision_id).where(visible(caller, _DECISION_OWNER))
    row = (await tx.execute(stmt)).first()
    if row is None:
        raise DecisionNotFound(f"there is no decision {decision_id}")
    return _decision_of(row)


async def page_decisions(
    tx: Tx,
    caller: Caller,
    page: PageRequest,
    *,
    outcome: Outcome | None = None,
    asset_id: UUID | None = None,
    acceptance_id: UUID | None = None,
    policy_id: str | None = None,
) -> list[Decision]:
    """Decisions, newest first; one more than the page holds."""
    stmt = _DECISIONS.where(visible(caller, _DECISION_OWNER))
    exact = {"outcome": outcome, "asset_id": asset_id, "acceptance_id": acceptance_id, "policy_id": policy_id}
    for name, value in exact.items():
        if value is not None:
            stmt = stmt.where(_decision[name] == value)
    return [_decision_of(row) for row in await tx.execute(newest_first(stmt, _decision.decision_id, page))]
