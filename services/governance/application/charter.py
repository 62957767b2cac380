"""The charter: RACI matrix and risk appetite. Each change is a new version; until the first, the shipped one holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from services.governance.domain.appetite import Appetite
from services.governance.domain.raci import Raci
from services.governance.shipped import library
from services.governance.store import policies as store
from services.governance.store.policies import CharterEntry
from shared import audit, outbox
from shared.auth import demand_organization
from shared.contracts.governance import AppetiteChanged, RiskCeiling
from shared.database import Tx
from shared.http import check_version
from shared.tokens import Caller

D = TypeVar("D")

RACI, APPETITE = "raci", "appetite"


@dataclass(frozen=True, slots=True)
class InForce(Generic[D]):
    """A charter document with its version; who changed it and when are None for the shipped one."""

    document: D
    version: int
    changed_by: str | None = None
    changed_at: datetime | None = None


async def raci(tx: Tx) -> InForce[Raci]:
    entry = await store.charter(tx, RACI)
    if entry is None:
        return InForce(library().raci, 1)
    return InForce(Raci.model_validate(entry.body), entry.version, entry.changed_by, entry.changed_at)


async def appetite(tx: Tx) -> InForce[Appetite]:
    entry = await store.charter(tx, APPETITE)
    if entry is None:
        return InForce(library().appetite, 1)
    return InForce(Appetite.model_validate(entry.body), entry.version, entry.changed_by, entry.changed_at)


async def change_raci(tx: Tx, caller: Caller, matrix: Raci, expected: int | None, at: datetime) -> InForce[Raci]:
    """Put another RACI matrix in force.

    Raises:
        Invalid: it does not say who answers for something.
        PreconditionFailed: `expected` is not in force any more.
        Forbidden: the caller is bound to teams.
    """
    demand_organization(caller, "the RACI matrix")
    matrix.check()
    version = await _replace(tx, caller, RACI, matrix, (await raci(tx)).version, expected, at)
    return InForce(matrix, version, caller.subject, at)


async def change_appetite(
    tx: Tx, caller: Caller, wanted: Appetite, expected: int | None, at: datetime
) -> InForce[Appetite]:
    """Put another risk appetite in force. Acceptances in force stay as they were decided.

    Raises:
        Invalid: it leaves a case undecided.
        PreconditionFailed: `expected` is not in force any more.
        Forbidden: the caller is bound to teams.
    """
    demand_organization(caller, "the risk appetite")
    wanted.check()
    version = await _replace(tx, caller, APPETITE, wanted, (await appetite(tx)).version, expected, at)
    ceilings = tuple(
        RiskCeiling(data_classification=classification, deployment_env=environment, max_residual_score=score)
        for classification, by_environment in wanted.ceilings.items()
        for environment, score in by_environment.items()
    )
    event = AppetiteChanged(version=version, occurred_at=at, changed_by=caller.subject, ceilings=ceilings)
    await outbox.add(tx, event)
    return InForce(wanted, version, caller.subject, at)


async def _replace(
    tx: Tx, caller: Caller, name: str, document: Raci | Appetite, current: int, expected: int | None, at: datetime
) -> int:
    check_version(current, expected)
    body = document.model_dump(mode="json")
    await store.add_charter(tx, name, CharterEntry(current + 1, body, caller.subject, at))
    await audit.record(tx, caller, action=f"{name}.changed", target=name, detail={"version": current + 1})
    return current + 1
