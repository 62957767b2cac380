"""Regression cases: confirmed attacks that a rule was made for and must go on matching."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services.detection.store.tables import regression_case_table
from shared.auth import Caller, visible
from shared.contracts.detection import Direction
from shared.database import Tx


@dataclass(frozen=True, slots=True)
class Case:
    """An attack that was confirmed, masked. One that is released need not be matched any more."""

    case_id: UUID
    rule_id: str
    owner_team: str
    alert_id: UUID | None
    direction: Direction
    text: str
    created_at: datetime
    created_by: str
    released_at: datetime | None = None
    released_by: str | None = None
    released_because: str | None = None


def _case(row: Any) -> Case:
    return Case(**(dict(row._mapping) | {"direction": Direction(row.direction)}))


async def add(tx: Tx, case: Case) -> None:
    values = {name: getattr(case, name) for name in Case.__slots__} | {"direction": case.direction.value}
    await tx.execute(regression_case_table.insert().values(values))


async def of_rule(tx: Tx, rule_id: str, caller: Caller | None = None) -> list[Case]:
    """The cases of a rule, oldest first; with a caller those that it may see."""
    query = sa.select(regression_case_table).filter_by(rule_id=rule_id).order_by(regression_case_table.c.case_id)
    if caller is not None:
        query = query.where(visible(caller, regression_case_table.c.owner_team))
    return [_case(row) for row in await tx.execute(query)]


async def release(tx: Tx, case_ids: Collection[UUID], by: str, because: str, now: datetime) -> None:
    """Let a rule off matching these."""
    await tx.execute(
        regression_case_table.update()
        .where(regression_case_table.c.case_id.in_(case_ids))
        .values(released_at=now, released_by=by, released_because=because)
    )
