"""/v1/governance/red-team: engagements and findings."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated
from uuid import UUID

from fastapi import Query
from pydantic import Field
from starlette.responses import Response

from services.governance.api.fields import Day, Label, Note, await_assets, ids_of
from services.governance.application import redteam as application
from services.governance.application.redteam import NewEngagement, NewFinding
from services.governance.domain.appetite import Severity
from services.governance.domain.documents import Line
from services.governance.domain.redteam import Engagement, EngagementStatus, Finding, FindingStatus, Team
from services.governance.store import redteam as store
from shared.auth import requires
from shared.http import IfMatch, reply
from shared.models import In, Out, PageOf
from shared.paging import Page
from shared.service import router as new_router
from shared.work import Work

router = new_router("/v1/governance/red-team", "red team")

_OWASP = ids_of("owasp_llm_2026", "owasp_llm_2025", "owasp_agentic_2026")
_ATLAS = ids_of("mitre_atlas")


class EngagementIn(In):
    """An engagement to plan, or one that has started or is over, with its days."""

    title: Line
    objectives: Note = ""
    rules: Note = Field(default="", description="What is allowed, what is not, whom to call, when to stop.")
    team: Team = Team.INTERNAL
    lead: Label = ""
    asset_ids: list[UUID] = Field(default_factory=list, max_length=500)
    owner_team: Label | None = Field(
        default=None, description="The team it concerns; unless told, the one that owns all of its assets."
    )
    status: EngagementStatus = EngagementStatus.PLANNED
    planned_for: Day | None = None
    started_on: Day | None = None
    completed_on: Day | None = None
    summary: Note = ""

    def value(self) -> NewEngagement:
        return NewEngagement(
            title=self.title,
            objectives=self.objectives,
            rules=self.rules,
            team=self.team,
            lead=self.lead,
            asset_ids=tuple(self.asset_ids),
            owner_team=self.owner_team,
            status=self.status,
            planned_for=self.planned_for,
            started_on=self.started_on,
            completed_on=self.completed_on,
            summary=self.summary,
        )


class EngagementChange(In):
    """What to change; null and absent leave as it is. `status` starts, completes or cancels it."""

    title: Line | None = None
    objectives: Note | None = None
    rules: Note | None = None
    team: Team | None = None
    lead: Label | None = None
    asset_ids: list[UUID] | None = Field(default=None, max_length=500)
    status: EngagementStatus | None = None
    planned_for: Day | None = None
    summary: Note | None = None


class EngagementView(Out):
    engagement_id: UUID
    version: int
    title: str
    objectives: str
    rules: str
    team: Team
    lead: str
    asset_ids: list[UUID]
    owner_team: str
    status: EngagementStatus
    planned_for: date | None
    started_on: date | None
    completed_on: date | None
    summary: str
    created_by: str
    created_at: datetime
    updated_at: datetime


class FindingIn(In):
    """A weakness that an engagement found."""

    engagement_id: UUID
    asset_id: UUID | None = None
    title: Line
    description: Note = Field(default="", description="With the steps that show it.")
    severity: Severity
    owasp: list[Line] = Field(default_factory=list, max_length=50, json_schema_extra=_OWASP)
    atlas: list[Line] = Field(default_factory=list, max_length=50, json_schema_extra=_ATLAS)
    due_on: Day | None = Field(default=None, description="Unless told, as the risk appetite says for the severity.")
    owner: Label = Field(default="", description="Who fixes it.")

    def value(self) -> NewFinding:
        return NewFinding(
            engagement_id=self.engagement_id,
            asset_id=self.asset_id,
            title=self.title,
            description=self.description,
            severity=self.severity,
            owasp=tuple(self.owasp),
            atlas=tuple(self.atlas),
            due_on=self.due_on,
            owner=self.owner,
        )


class FindingChange(In):
    """What to change; null and absent leave as it is."""

    title: Line | None = None
    description: Note | None = None
    severity: Severity | None = None
    owasp: list[Line] | None = Field(default=None, max_length=50)
    atlas: list[Line] | None = Field(default=None, max_length=50)
    due_on: Day | None = None
    owner: Label | None = None
    remediation: Note | None = Field(default=None, description="What was done; needed for status remediated.")
    status: FindingStatus | None = None
    acceptance_id: UUID | None = Field(default=None, description="The acceptance in force, for status accepted.")


class FindingView(Out):
    finding_id: UUID
    version: int
    engagement_id: UUID
    asset_id: UUID | None
    owner_team: str
    title: str
    description: str
    severity: Severity
    status: FindingStatus
    owasp: list[str]
    atlas: list[str]
    due_on: date
    overdue: bool
    owner: str
    remediation: str
    acceptance_id: UUID | None
    found_by: str
    found_at: datetime
    updated_at: datetime
    remediated_at: datetime | None

    @classmethod
    def of(cls, finding: Finding) -> FindingView:
        own = {name: getattr(finding, name) for name in finding.__slots__}
        return cls(**own, overdue=finding.overdue(datetime.now(UTC).date()))


def _engagement_reply(engagement: Engagement) -> Response:
    return reply(EngagementView.model_validate(engagement), etag=engagement.version)


def _finding_reply(finding: Finding) -> Response:
    return reply(FindingView.of(finding), etag=finding.version)


@router.post("/engagements", status_code=201, response_model=EngagementView)
@requires("governance:write")
async def plan_engagement(body: EngagementIn, work: Work) -> Response:
    """Plan an engagement, or record one that has started or is over."""
    await await_assets(work, set(body.asset_ids))
    return await work.run(
        lambda tx: application.plan_engagement(tx, work.caller, body.value(), datetime.now(UTC)),
        lambda engagement: reply(
            EngagementView.model_validate(engagement),
            status=201,
            etag=engagement.version,
            location=f"/v1/governance/red-team/engagements/{engagement.engagement_id}",
        ),
    )


@router.get("/engagements", response_model=PageOf[EngagementView])
@requires("governance:read")
async def list_engagements(
    work: Work,
    page: Page,
    status: Annotated[EngagementStatus | None, Query()] = None,
    asset_id: Annotated[UUID | None, Query()] = None,
) -> Response:
    """Engagements, newest first. A caller bound to teams sees those of its teams."""
    rows = await work.read(lambda tx: store.page_engagements(tx, work.caller, page, status=status, asset_id=asset_id))
    items, cursor = page.cut(rows, "engagement_id")
    views = [EngagementView.model_validate(engagement) for engagement in items]
    return reply(PageOf[EngagementView](items=views, next_cursor=cursor))


@router.get("/engagements/{engagement_id}", response_model=EngagementView)
@requires("governance:read")
async def get_engagement(engagement_id: UUID, work: Work) -> Response:
    """One engagement."""
    return _engagement_reply(await work.read(lambda tx: store.get_engagement(tx, work.caller, engagement_id)))


@router.patch("/engagements/{engagement_id}", response_model=EngagementView)
@requires("governance:write")
async def change_engagement(engagement_id: UUID, body: EngagementChange, work: Work, if_match: IfMatch) -> Response:
    """Change an engagement; start, complete or cancel it."""
    await await_assets(work, set(body.asset_ids or ()))
    wanted = body.model_dump(exclude_none=True)
    return await work.run(
        lambda tx: application.change_engagement(tx, work.caller, engagement_id, if_match, wanted, datetime.now(UTC)),
        _engagement_reply,
    )


@router.post("/findings", status_code=201, response_model=FindingView)
@requires("governance:write")
async def record_finding(body: FindingIn, work: Work) -> Response:
    """Record what an engagement that has started found."""
    await await_assets(work, [body.asset_id] if body.asset_id else [])
    return await work.run(
        lambda tx: application.record_finding(tx, work.caller, body.value(), datetime.now(UTC)),
        lambda finding: reply(
            FindingView.of(finding),
            status=201,
            etag=finding.version,
            location=f"/v1/governance/red-team/findings/{finding.finding_id}",
        ),
    )


@router.get("/findings", response_model=PageOf[FindingView])
@requires("governance:read")
async def list_findings(
    work: Work,
    page: Page,
    engagement_id: Annotated[UUID | None, Query()] = None,
    asset_id: Annotated[UUID | None, Query()] = None,
    severity: Annotated[Severity | None, Query()] = None,
    status: Annotated[FindingStatus | None, Query()] = None,
    overdue: Annotated[bool | None, Query(description="Open or in retest, and past its day.")] = None,
) -> Response:
    """Findings that you may see, newest first."""
    today = datetime.now(UTC).date()
    rows = await work.read(
        lambda tx: store.page_findings(
            tx,
            work.caller,
            page,
            today,
            engagement_id=engagement_id,
            asset_id=asset_id,
            severity=severity,
            status=status,
            overdue=overdue,
        )
    )
    items, cursor = page.cut(rows, "finding_id")
    return reply(PageOf[FindingView](items=[FindingView.of(finding) for finding in items], next_cursor=cursor))


@router.get("/findings/{finding_id}", response_model=FindingView)
@requires("governance:read")
async def get_finding(finding_id: UUID, work: Work) -> Response:
    """One finding."""
    return _finding_reply(await work.read(lambda tx: store.get_finding(tx, work.caller, finding_id)))


@router.patch("/findings/{finding_id}", response_model=FindingView)
@requires("governance:write")
async def change_finding(finding_id: UUID, body: FindingChange, work: Work, if_match: IfMatch) -> Response:
    """Change a finding: claim a fix (retest), confirm it (remediated), accept it, open it again."""
    wanted = body.model_dump(exclude_none=True)
    return await work.run(
        lambda tx: application.change_finding(tx, work.caller, finding_id, if_match, wanted, datetime.now(UTC)),
        _finding_reply,
    )
