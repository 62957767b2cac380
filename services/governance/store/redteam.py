"""Red-team engagements and findings."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services.governance.domain.appetite import Severity
from services.governance.domain.redteam import (
    Engagement,
    EngagementNotFound,
    EngagementStatus,
    Finding,
    FindingNotFound,
    FindingStatus,
    Team,
)
from services.governance.store.schema import asset_table, engagement_table, fields, finding_table, newest_first
from shared.auth import Caller, visible
from shared.database import Tx
from shared.paging import PageRequest

_engagement = engagement_table.c
_finding = finding_table.c


def _engagement_of(row: Any) -> Engagement:
    values = {name: getattr(row, name) for name in Engagement.__slots__}
    values["team"] = Team(row.team)
    values["status"] = EngagementStatus(row.status)
    values["asset_ids"] = tuple(row.asset_ids)
    return Engagement(**values)


async def add_engagement(tx: Tx, engagement: Engagement) -> None:
    await tx.execute(engagement_table.insert().values(fields(engagement)))


async def save_engagement(tx: Tx, engagement: Engagement) -> None:
    stmt = engagement_table.update().where(_engagement.engagement_id == engagement.engagement_id)
    await tx.execute(stmt.values(fields(engagement)))


async def get_engagement(tx: Tx, caller: Caller, engagement_id: UUID, *, lock: bool = False) -> Engagement:
    """An engagement, its row locked if asked for.

    Raises:
        EngagementNotFound: there is none, or it is not this caller's to see.
    """
    stmt = sa.select(engagement_table).where(_engagement.engagement_id == engagement_id)
    stmt = stmt.where(visible(caller, _engagement.owner_team))
    row = (await tx.execute(stmt.with_for_update() if lock else stmt)).first()
    if row is None:
        raise EngagementNotFound(f"there is no engagement {engagement_id}")
    return _engagement_of(row)


async def page_engagements(
    tx: Tx,
    caller: Caller,
    page: PageRequest,
    *,
    status: EngagementStatus | None = None,
    asset_id: UUID | None = None,
) -> list[Engagement]:
    """Engagements, newest first; one more than the page holds."""
    stmt = sa.select(engagement_table).where(visible(caller, _engagement.owner_team))
    if status is not None:
        stmt = stmt.where(_engagement.status == status)
    if asset_id is not None:
        stmt = stmt.where(_engagement.asset_ids.contains([asset_id]))
    return [_engagement_of(row) for row in await tx.execute(newest_first(stmt, _engagement.engagement_id, page))]


# -- findings ----------------------------------------------------------------------------------------------------------

# The asset's present owner, where there is an asset; else the engagement's, which was written down with the finding.
_OWNER = sa.func.coalesce(asset_table.c.owner_team, _finding.owner_team)
_FINDINGS = sa.select(
    *(column for column in finding_table.columns if column.name != "owner_team"), _OWNER.label("owner_team")
).select_from(finding_table.outerjoin(asset_table, asset_table.c.asset_id == _finding.asset_id))


def _finding_of(row: Any) -> Finding:
    values = {name: getattr(row, name) for name in Finding.__slots__}
    values["severity"] = Severity(row.severity)
    values["status"] = FindingStatus(row.status)
    values["owasp"] = tuple(row.owasp)
    values["atlas"] = tuple(row.atlas)
    return Finding(**values)


async def add_finding(tx: Tx, finding: Finding) -> None:
    await tx.execute(finding_table.insert().values(fields(finding)))


async def save_finding(tx: Tx, finding: Finding) -> None:
    stmt = finding_table.update().where(_finding.finding_id == finding.finding_id)
    await tx.execute(stmt.values(fields(finding, without=("owner_team",))))


async def get_finding(tx: Tx, caller: Caller, finding_id: UUID, *, lock: bool = False) -> Finding:
    """A finding, its row locked if asked for.

    Raises:
        FindingNotFound: there is none, or it is not this caller's to see.
    """
    stmt = _FINDINGS.where(_finding.finding_id == finding_id).where(visible(caller, _OWNER))
    row = (await tx.execute(stmt.with_for_update(of=finding_table) if lock else stmt)).first()
    if row is None:
        raise FindingNotFound(f"there is no finding {finding_id}")
    return _finding_of(row)


async def page_findings(
    tx: Tx,
    caller: Caller,
    page: PageRequest,
    today: date,
    *,
    engagement_id: UUID | None = None,
    asset_id: UUID | None = None,
    severity: Severity | None = None,
    status: FindingStatus | None = None,
    overdue: bool | None = None,
) -> list[Finding]:
    """Findings, newest first; one more than the page holds."""
    stmt = _FINDINGS.where(visible(caller, _OWNER))
    exact = {"engagement_id": engagement_id, "asset_id": asset_id, "severity": severity, "status": status}
    for name, value in exact.items():
        if value is not None:
            stmt = stmt.where(_finding[name] == value)
    if overdue is not None:
        owed = _finding.status.in_([FindingStatus.OPEN, FindingStatus.RETEST])
        stmt = stmt.where((owed & (_finding.due_on < today)) == overdue)
    return [_finding_of(row) for row in await tx.execute(newest_first(stmt, _finding.finding_id, page))]


async def accepted_by(tx: Tx, acceptance_ids: Iterable[UUID]) -> list[Finding]:
    """Findings that these acceptances cover, locked."""
    stmt = _FINDINGS.where(_finding.status == FindingStatus.ACCEPTED)
    stmt = stmt.where(_finding.acceptance_id.in_(list(acceptance_ids))).order_by(_finding.finding_id)
    return [_finding_of(row) for row in await tx.execute(stmt.with_for_update(of=finding_table))]
