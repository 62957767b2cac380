"""Red-team engagements and findings."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from services.governance.application import charter
from services.governance.application.actors import GOVERNANCE, new_id
from services.governance.application.fields import named
from services.governance.domain.acceptances import AcceptanceStatus
from services.governance.domain.appetite import Severity
from services.governance.domain.documents import DoesNotFit, demand_near
from services.governance.domain.redteam import (
    AcceptanceInForce,
    Engagement,
    EngagementStatus,
    Finding,
    FindingStatus,
    NotUnderWay,
    Team,
)
from services.governance.shipped import library
from services.governance.store import acceptances, assets
from services.governance.store import redteam as store
from shared import audit, outbox
from shared.auth import demand_organization
from shared.database import Tx
from shared.errors import Forbidden, Invalid
from shared.http import check_version
from shared.tokens import Caller

_OWASP = ("owasp_llm_2026", "owasp_llm_2025", "owasp_agentic_2026")


@dataclass(frozen=True, slots=True)
class NewEngagement:
    """An engagement as it is planned, or recorded afterwards with its days."""

    title: str
    objectives: str
    rules: str
    team: Team
    lead: str
    asset_ids: tuple[UUID, ...]
    owner_team: str | None
    status: EngagementStatus
    planned_for: date | None
    started_on: date | None
    completed_on: date | None
    summary: str


async def plan_engagement(tx: Tx, caller: Caller, new: NewEngagement, at: datetime) -> Engagement:
    """Plan an engagement, or record one that has started or is over.

    It belongs to `owner_team`; where that is not said, to the team that owns all of its assets, or to nobody's team.

    Raises:
        AssetNotFound: an asset does not exist, or is not the caller's to see.
        Invalid: its days contradict its status or each other.
        DoesNotFit: a day lies in the future.
        Forbidden: it would belong to a team that is not the caller's.
    """
    started_on, completed_on = _days(new, at.date())
    for index, asset_id in enumerate(new.asset_ids):
        with named(f"/asset_ids/{index}"):
            await assets.get(tx, caller, asset_id)
    owner_team = new.owner_team
    if owner_team is None:
        owners = set((await assets.teams(tx, new.asset_ids)).values())
        owner_team = owners.pop() if len(owners) == 1 else ""
    if not owner_team:
        demand_organization(caller, "an engagement of no single team")
    elif not caller.sees(owner_team):
        raise Forbidden(f"{owner_team!r} is not a team of yours")
    engagement = Engagement(
        engagement_id=new_id(),
        version=1,
        title=new.title,
        objectives=new.objectives,
        rules=new.rules,
        team=new.team,
        lead=new.lead,
        asset_ids=tuple(dict.fromkeys(new.asset_ids)),
        owner_team=owner_team,
        status=new.status,
        planned_for=new.planned_for,
        started_on=started_on,
        completed_on=completed_on,
        summary=new.summary,
        created_by=caller.subject,
        created_at=at,
        updated_at=at,
    )
    await store.add_engagement(tx, engagement)
    await _announce_engagement(tx, caller, engagement)
    return engagement


def _days(new: NewEngagement, today: date) -> tuple[date | None, date | None]:
    """When it started and ended; what is not said of a status that needs it is today."""
    started = new.status in (EngagementStatus.IN_PROGRESS, EngagementStatus.COMPLETED)
    completed = new.status is EngagementStatus.COMPLETED
    if new.status is EngagementStatus.CANCELLED:
        raise Invalid("a new engagement cannot be cancelled", field="/status")
    if new.started_on is not None and not started:
        raise Invalid(f"an engagement that is {new.status} has not started", field="/started_on")
    if new.completed_on is not None and not completed:
        raise Invalid(f"an engagement that is {new.status} is not completed", field="/completed_on")
    started_on = (new.started_on or new.completed_on or today) if started else None
    completed_on = (new.completed_on or today) if completed else None
    for name, day in (("planned_for", new.planned_for), ("started_on", started_on), ("completed_on", completed_on)):
        if day is not None:
            demand_near(day, today, f"/{name}")
            if name != "planned_for" and day > today:
                raise DoesNotFit("it lies in the future", field=f"/{name}")
    if started_on is not None and completed_on is not None and completed_on < started_on:
        raise Invalid("it ended before it started", field="/completed_on")
    return started_on, completed_on


async def change_engagement(
    tx: Tx, caller: Caller, engagement_id: UUID, expected: int | None, wanted: dict[str, Any], at: datetime
) -> Engagement:
    """Change fields of an engagement; `status` moves it.

    Raises:
        EngagementNotFound: there is none, or none that the caller may see.
        PreconditionFailed: it was changed in the meantime.
        IllegalStep: it cannot go to that status.
        AssetNotFound: an asset does not exist, or is not the caller's to see.
    """
    engagement = await store.get_engagement(tx, caller, engagement_id, lock=True)
    check_version(engagement.version, expected)
    if not wanted:
        return engagement
    fields = sorted(wanted)
    status = wanted.pop("status", None)
    if "asset_ids" in wanted:
        for index, asset_id in enumerate(wanted["asset_ids"]):
            with named(f"/asset_ids/{index}"):
                await assets.get(tx, caller, asset_id)
        wanted["asset_ids"] = tuple(dict.fromkeys(wanted["asset_ids"]))
    if "planned_for" in wanted:
        demand_near(wanted["planned_for"], at.date(), "/planned_for")
    changed = replace(engagement, **wanted, version=engagement.version + 1, updated_at=at)
    if status is not None:
        changed = changed.moved(status, at.date())
    await store.save_engagement(tx, changed)
    await _announce_engagement(tx, caller, changed, changed=fields)
    return changed


async def _announce_engagement(tx: Tx, caller: Caller, engagement: Engagement, changed: Collection[str] = ()) -> None:
    await outbox.add(tx, engagement.event())
    await audit.record(
        tx,
        caller,
        action="engagement.changed" if changed else "engagement.planned",
        target=str(engagement.engagement_id),
        detail={"status": engagement.status, "changed": list(changed)},
        owner_team=engagement.owner_team,
    )


# -- findings ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewFinding:
    """A weakness as it is reported; without `due_on` the risk appetite says by when it is to be fixed."""

    engagement_id: UUID
    asset_id: UUID | None
    title: str
    description: str
    severity: Severity
    owasp: tuple[str, ...]
    atlas: tuple[str, ...]
    due_on: date | None
    owner: str


async def record_finding(tx: Tx, caller: Caller, new: NewFinding, at: datetime) -> Finding:
    """Write down what an engagement found.

    Raises:
        EngagementNotFound: there is none, or none that the caller may see.
        NotUnderWay: the engagement has not started, or was cancelled.
        AssetNotFound: there is no such asset, or none that the caller may see.
        Invalid: it names OWASP or ATLAS ids that do not exist.
        DoesNotFit: its day has passed.
    """
    with named("/engagement_id"):
        engagement = await store.get_engagement(tx, caller, new.engagement_id, lock=True)
    if engagement.status not in (EngagementStatus.IN_PROGRESS, EngagementStatus.COMPLETED):
        raise NotUnderWay(f"the engagement is {engagement.status}", current_status=engagement.status)
    library().check_ids(new.owasp, _OWASP, "/owasp")
    library().check_ids(new.atlas, ["mitre_atlas"], "/atlas")
    owner_team = engagement.owner_team
    if new.asset_id is not None:
        with named("/asset_id"):
            owner_team = (await assets.get(tx, caller, new.asset_id)).owner_team
    days = (await charter.appetite(tx)).document.finding_days[new.severity]
    due_on = new.due_on or at.date() + timedelta(days=days)
    demand_near(due_on, at.date(), "/due_on")
    if due_on < at.date():
        raise DoesNotFit("the day has passed", field="/due_on")
    finding = Finding(
        finding_id=new_id(),
        version=1,
        engagement_id=engagement.engagement_id,
        asset_id=new.asset_id,
        owner_team=owner_team,
        title=new.title,
        description=new.description,
        severity=new.severity,
        status=FindingStatus.OPEN,
        owasp=new.owasp,
        atlas=new.atlas,
        due_on=due_on,
        owner=new.owner,
        remediation="",
        acceptance_id=None,
        found_by=caller.subject,
        found_at=at,
        updated_at=at,
        remediated_at=None,
    )
    await store.add_finding(tx, finding)
    await _announce_finding(tx, caller, "finding.recorded", finding)
    return finding


async def change_finding(
    tx: Tx, caller: Caller, finding_id: UUID, expected: int | None, wanted: dict[str, Any], at: datetime
) -> Finding:
    """Change fields of a finding; `status` moves it, `acceptance_id` says by what it is accepted.

    Raises:
        FindingNotFound: there is none, or none that the caller may see.
        PreconditionFailed: it was changed in the meantime.
        IllegalStep, NotAccepted, DoesNotFit: see `Finding.moved`.
    """
    finding = await store.get_finding(tx, caller, finding_id, lock=True)
    check_version(finding.version, expected)
    if not wanted:
        return finding
    status = wanted.pop("status", None)
    acceptance_id = wanted.pop("acceptance_id", None)
    if acceptance_id is not None and status is not FindingStatus.ACCEPTED:
        raise Invalid("an acceptance goes with the status accepted", field="/acceptance_id")
    library().check_ids(wanted.get("owasp", ()), _OWASP, "/owasp")
    library().check_ids(wanted.get("atlas", ()), ["mitre_atlas"], "/atlas")
    if "due_on" in wanted:
        demand_near(wanted["due_on"], at.date(), "/due_on")
    changed = replace(finding, **wanted, version=finding.version + 1, updated_at=at)
    if status is not None:
        in_force = await _in_force(tx, caller, acceptance_id) if acceptance_id is not None else None
        changed = changed.moved(status, at, in_force)
    await store.save_finding(tx, changed)
    await _announce_finding(tx, caller, f"finding.{changed.status}" if status else "finding.changed", changed)
    return changed


async def _in_force(tx: Tx, caller: Caller, acceptance_id: UUID) -> AcceptanceInForce | None:
    with named("/acceptance_id"):
        # Locked, so that it cannot end between this look and our commit.
        acceptance = (await acceptances.get(tx, caller, acceptance_id, lock=True)).acceptance
    if acceptance.status is not AcceptanceStatus.APPROVED:
        return None
    return AcceptanceInForce(acceptance.acceptance_id, acceptance.asset_id)


async def reopen_accepted(tx: Tx, acceptance_ids: Collection[UUID], at: datetime) -> None:
    """Acceptances ended: the findings that they covered are open again."""
    if not acceptance_ids:
        return
    for finding in await store.accepted_by(tx, acceptance_ids):
        reopened = replace(finding, version=finding.version + 1, updated_at=at).moved(FindingStatus.OPEN, at)
        await store.save_finding(tx, reopened)
        await _announce_finding(tx, GOVERNANCE, "finding.reopened", reopened)


async def _announce_finding(tx: Tx, caller: Caller, action: str, finding: Finding) -> None:
    await outbox.add(tx, finding.event())
    await audit.record(
        tx,
        caller,
        action=action,
        target=str(finding.finding_id),
        detail={"severity": finding.severity, "status": finding.status, "due_on": str(finding.due_on)},
        owner_team=finding.owner_team,
    )
