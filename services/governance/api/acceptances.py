"""/v1/governance/acceptances: decisions to live with a risk, or with a deviation from a policy or control."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import Query
from pydantic import Field, StringConstraints
from starlette.responses import Response

from services.governance.api.fields import MaybeIfMatch, Moment, Note, Reason, await_assets
from services.governance.application import acceptances as application
from services.governance.application.acceptances import Request
from services.governance.domain.acceptances import AcceptanceKind, AcceptanceStatus
from services.governance.store import acceptances as store
from services.governance.store.acceptances import KnownAcceptance
from shared.auth import requires
from shared.contracts.risk import RiskLevel
from shared.http import reply
from shared.models import In, Out, PageOf
from shared.paging import Page
from shared.service import router as new_router
from shared.work import Work

router = new_router("/v1/governance/acceptances", "acceptances")

_Id = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class NewAcceptance(In):
    """What is to be accepted, why, and until when. A risk needs its asset; an exception the policy or control."""

    kind: AcceptanceKind
    asset_id: UUID | None = None
    policy_id: _Id | None = None
    statement_id: _Id | None = Field(default=None, description="A numbered statement of the policy, e.g. AU-4.")
    control_id: _Id | None = None
    justification: Reason
    compensating_measures: list[Reason] = Field(default_factory=list, max_length=50)
    expires_at: Moment = Field(description="Not later than the risk appetite allows for the asset's risk level.")

    def value(self) -> Request:
        return Request(
            kind=self.kind,
            asset_id=self.asset_id,
            policy_id=self.policy_id,
            statement_id=self.statement_id,
            control_id=self.control_id,
            justification=self.justification,
            compensating_measures=tuple(self.compensating_measures),
            expires_at=self.expires_at,
        )


class Approval(In):
    note: Note = ""
    decision_id: UUID | None = Field(
        default=None, description="The board's decision about this acceptance, where the appetite asks for one."
    )


class Refusal(In):
    reason: Reason


class AcceptanceView(Out):
    """An acceptance; scores and levels are the asset's when it was asked for, and when it was accepted."""

    acceptance_id: UUID
    version: int
    kind: AcceptanceKind
    status: AcceptanceStatus
    asset_id: UUID | None
    owner_team: str
    policy_id: str | None
    statement_id: str | None
    control_id: str | None
    justification: str
    compensating_measures: list[str]
    expires_at: datetime
    requested_by: str
    requested_at: datetime
    requested_score: float | None
    requested_level: RiskLevel | None
    accepted_score: float | None
    accepted_level: RiskLevel | None
    decided_by: str | None
    decided_at: datetime | None
    decision_note: str
    decision_id: UUID | None
    ended_by: str | None
    ended_at: datetime | None
    end_reason: str

    @classmethod
    def of(cls, known: KnownAcceptance) -> AcceptanceView:
        own = {name: getattr(known.acceptance, name) for name in known.acceptance.__slots__}
        return cls(**own, owner_team=known.owner_team)


def _reply(known: KnownAcceptance) -> Response:
    return reply(AcceptanceView.of(known), etag=known.acceptance.version)


@router.post("", status_code=201, response_model=AcceptanceView)
@requires("governance:write")
async def request_acceptance(body: NewAcceptance, work: Work) -> Response:
    """Ask for an acceptance. Somebody else decides."""
    await await_assets(work, [body.asset_id] if body.asset_id else [])
    return await work.run(
        lambda tx: application.request(tx, work.caller, body.value(), datetime.now(UTC)),
        lambda known: reply(
            AcceptanceView.of(known),
            status=201,
            etag=known.acceptance.version,
            location=f"/v1/governance/acceptances/{known.acceptance_id}",
        ),
    )


@router.get("", response_model=PageOf[AcceptanceView])
@requires("governance:read")
async def list_acceptances(
    work: Work,
    page: Page,
    kind: Annotated[AcceptanceKind | None, Query()] = None,
    status: Annotated[AcceptanceStatus | None, Query()] = None,
    asset_id: Annotated[UUID | None, Query()] = None,
    requested_by: Annotated[str | None, Query(max_length=300)] = None,
    expires_before: Annotated[Moment | None, Query()] = None,
) -> Response:
    """Acceptances that you may see, newest first."""
    rows = await work.read(
        lambda tx: store.page(
            tx,
            work.caller,
            page,
            kind=kind,
            status=status,
            asset_id=asset_id,
            requested_by=requested_by,
            expires_before=expires_before,
        )
    )
    items, cursor = page.cut(rows, "acceptance_id")
    return reply(PageOf[AcceptanceView](items=[AcceptanceView.of(known) for known in items], next_cursor=cursor))


@router.get("/{acceptance_id}", response_model=AcceptanceView)
@requires("governance:read")
async def get_acceptance(acceptance_id: UUID, work: Work) -> Response:
    """One acceptance."""
    return _reply(await work.read(lambda tx: store.get(tx, work.caller, acceptance_id)))


@router.post("/{acceptance_id}/approve", response_model=AcceptanceView)
@requires("governance:approve")
async def approve_acceptance(acceptance_id: UUID, body: Approval, work: Work, if_match: MaybeIfMatch) -> Response:
    """Accept it, at the risk as it stands now. Who requested it cannot."""
    return await work.run(
        lambda tx: application.approve(
            tx,
            work.caller,
            acceptance_id,
            if_match,
            note=body.note,
            decision_id=body.decision_id,
            at=datetime.now(UTC),
        ),
        _reply,
    )


@router.post("/{acceptance_id}/reject", response_model=AcceptanceView)
@requires("governance:approve")
async def reject_acceptance(acceptance_id: UUID, body: Refusal, work: Work, if_match: MaybeIfMatch) -> Response:
    """Refuse it. Who requested it cannot."""
    return await work.run(
        lambda tx: application.reject(tx, work.caller, acceptance_id, if_match, note=body.reason, at=datetime.now(UTC)),
        _reply,
    )


@router.post("/{acceptance_id}/revoke", response_model=AcceptanceView)
@requires("governance:approve")
async def revoke_acceptance(acceptance_id: UUID, body: Refusal, work: Work, if_match: MaybeIfMatch) -> Response:
    """Take it back before its end. Findings that it covered are open again."""
    return await work.run(
        lambda tx: application.revoke(
            tx, work.caller, acceptance_id, if_match, reason=body.reason, at=datetime.now(UTC)
        ),
        _reply,
    )
