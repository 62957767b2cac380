"""`/v1/containments`: blocks of sessions, actors and assets, enforced at inspection."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Query
from pydantic import Field, ValidationInfo, field_validator
from starlette.responses import Response

from services.detection.application import containments as application
from services.detection.application.containments import NoSuchContainment
from services.detection.store import containments as store
from services.detection.store.containments import Containment
from shared.auth import requires
from shared.http import reply
from shared.models import In, Instant, Out, PageOf
from shared.paging import Page
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1/containments", "containments")

TargetKind = Literal["session", "actor", "asset"]


class NewContainment(In):
    target_kind: TargetKind
    target: Annotated[str, Field(min_length=1, max_length=300)]
    reason: Annotated[str, Field(min_length=1, max_length=2_000)]
    expires_at: Instant | None = Field(default=None, description="None holds until it is lifted.")
    team: Annotated[str, Field(max_length=200)] | None = Field(
        default=None,
        description="In whose traffic a session or actor is blocked. Absent is everybody's, or that of the caller's "
        "only team; empty is what belongs to no team.",
    )

    @field_validator("target")
    @classmethod
    def _an_asset_is_an_id(cls, target: str, given: ValidationInfo) -> str:
        if given.data.get("target_kind") != "asset":
            return target
        try:
            return str(UUID(target))
        except ValueError as error:
            raise ValueError("an asset is named by its asset_id") from error

    @field_validator("expires_at")
    @classmethod
    def _still_to_come(cls, expires_at: datetime | None) -> datetime | None:
        if expires_at is not None and expires_at <= datetime.now(UTC):
            raise ValueError("this is in the past")
        return expires_at

    @field_validator("team")
    @classmethod
    def _an_asset_is_blocked_for_everybody(cls, team: str | None, given: ValidationInfo) -> str | None:
        if team is not None and given.data.get("target_kind") == "asset":
            raise ValueError("an asset is blocked for everybody")
        return team


class ContainmentView(Out):
    containment_id: UUID
    version: int
    target_kind: TargetKind
    target: str
    reason: str
    owner_team: str
    team: str | None = Field(
        description="Whose traffic it holds for; null is everybody's, empty what belongs to no team."
    )
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    lifted_at: datetime | None
    lifted_by: str | None
    in_force: bool

    @classmethod
    def of(cls, one: Containment) -> ContainmentView:
        values = {name: getattr(one, name) for name in Containment.__slots__}
        return cls(
            **values, in_force=one.lifted_at is None and (one.expires_at is None or datetime.now(UTC) < one.expires_at)
        )


@router.post(
    "",
    status_code=201,
    response_model=ContainmentView,
    responses={200: {"model": ContainmentView, "description": "It is blocked already."}},
)
@requires("detection:respond")
async def contain(body: NewContainment, work: Work) -> Response:
    """Block a session, an actor or an asset; in force within a second.

    Sessions and actors are called what their senders call them, so a caller who is bound to teams blocks them in the
    traffic of one of these teams: that of its assets, and without an asset that of callers who are bound to this team
    alone. A target that is blocked already is answered with 200 and stays blocked until the later of both times.
    """
    now = datetime.now(UTC)
    return await work.run(
        lambda tx: application.contain(
            tx, work.caller, body.target_kind, body.target, body.team, body.reason, body.expires_at, now
        ),
        lambda made: reply(
            ContainmentView.of(made[0]),
            status=201 if made[1] else 200,
            location=f"/v1/containments/{made[0].containment_id}",
        ),
    )


@router.get("", response_model=PageOf[ContainmentView])
@requires("detection:read")
async def list_containments(
    page: Page,
    work: Work,
    target_kind: Annotated[TargetKind | None, Query()] = None,
    target: Annotated[str | None, Query(max_length=300)] = None,
    in_force: Annotated[bool | None, Query()] = None,
) -> Response:
    """List containments, newest first."""
    filters = {name: value for name, value in (("target_kind", target_kind), ("target", target)) if value is not None}
    rows = await work.read(lambda tx: store.page(tx, work.caller, filters, in_force, page.after, page.limit))
    shown = rows[: page.limit]
    cursor = page.cursor(shown[-1].created_at.isoformat(), shown[-1].containment_id) if len(rows) > page.limit else None
    return reply(PageOf[ContainmentView](items=[ContainmentView.of(one) for one in shown], next_cursor=cursor))


@router.get("/{containment_id}", response_model=ContainmentView)
@requires("detection:read")
async def get_containment(containment_id: UUID, work: Work) -> Response:
    """One containment."""
    one = await work.read(lambda tx: store.get(tx, containment_id))
    if one is None or not work.caller.sees(one.owner_team):
        raise NoSuchContainment(f"there is no containment {containment_id}")
    return reply(ContainmentView.of(one))


@router.delete("/{containment_id}", response_model=ContainmentView)
@requires("detection:respond")
async def lift_containment(containment_id: UUID, work: Work) -> Response:
    """End a containment."""
    now = datetime.now(UTC)
    return await work.run(
        lambda tx: application.lift(tx, work.caller, containment_id, now), lambda one: reply(ContainmentView.of(one))
    )
