"""/v1/governance/decisions: what the oversight board decided."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated
from uuid import UUID

from fastapi import Query
from pydantic import Field
from starlette.responses import Response

from services.governance.api.fields import Day, Reason
from services.governance.application import acceptances as application
from services.governance.domain.decisions import Decision, Outcome
from services.governance.domain.documents import Line
from services.governance.store import acceptances as store
from shared.auth import requires
from shared.http import reply
from shared.models import In, Out, PageOf
from shared.paging import Page
from shared.service import router as new_router
from shared.work import Work

router = new_router("/v1/governance/decisions", "decisions")

_UNSET = UUID(int=0)


class NewDecision(In):
    """A decision as the board made it. It is recorded once and never changed; a later one may supersede it."""

    title: Line
    outcome: Outcome
    rationale: Reason
    conditions: list[Reason] = Field(default_factory=list, max_length=50)
    participants: list[Line] = Field(default_factory=list, max_length=100)
    decided_on: Day | None = Field(default=None, description="Today unless told.")
    asset_id: UUID | None = None
    acceptance_id: UUID | None = None
    policy_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    supersedes: UUID | None = None

    def value(self, at: datetime) -> Decision:
        return Decision(
            decision_id=_UNSET,
            title=self.title,
            outcome=self.outcome,
            rationale=self.rationale,
            conditions=tuple(self.conditions),
            participants=tuple(self.participants),
            decided_on=self.decided_on or at.date(),
            asset_id=self.asset_id,
            acceptance_id=self.acceptance_id,
            policy_id=self.policy_id,
            supersedes=self.supersedes,
            recorded_by="",
            recorded_at=at,
        )


class DecisionView(Out):
    decision_id: UUID
    title: str
    outcome: Outcome
    rationale: str
    conditions: list[str]
    participants: list[str]
    decided_on: date
    asset_id: UUID | None
    acceptance_id: UUID | None
    policy_id: str | None
    supersedes: UUID | None
    recorded_by: str
    recorded_at: datetime


@router.post("", status_code=201, response_model=DecisionView)
@requires("governance:approve")
async def record_decision(body: NewDecision, work: Work) -> Response:
    """Write down what the board decided."""
    at = datetime.now(UTC)
    return await work.run(
        lambda tx: application.record_decision(tx, work.caller, body.value(at), at),
        lambda decision: reply(
            DecisionView.model_validate(decision),
            status=201,
            location=f"/v1/governance/decisions/{decision.decision_id}",
        ),
    )


@router.get("", response_model=PageOf[DecisionView])
@requires("governance:read")
async def list_decisions(
    work: Work,
    page: Page,
    outcome: Annotated[Outcome | None, Query()] = None,
    asset_id: Annotated[UUID | None, Query()] = None,
    acceptance_id: Annotated[UUID | None, Query()] = None,
    policy_id: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """Decisions, newest first. A caller bound to teams sees those about its teams' assets."""
    rows = await work.read(
        lambda tx: store.page_decisions(
            tx,
            work.caller,
            page,
            outcome=outcome,
            asset_id=asset_id,
            acceptance_id=acceptance_id,
            policy_id=policy_id,
        )
    )
    items, cursor = page.cut(rows, "decision_id")
    views = [DecisionView.model_validate(decision) for decision in items]
    return reply(PageOf[DecisionView](items=views, next_cursor=cursor))


@router.get("/{decision_id}", response_model=DecisionView)
@requires("governance:read")
async def get_decision(decision_id: UUID, work: Work) -> Response:
    """One decision."""
    decision = await work.read(lambda tx: store.get_decision(tx, work.caller, decision_id))
    return reply(DecisionView.model_validate(decision))
