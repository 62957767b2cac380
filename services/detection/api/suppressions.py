"""`/v1/alerts/suppressions`: findings that somebody answers for are no matter, for a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import Query
from pydantic import Field
from starlette.responses import Response

from services.detection.application import suppressions as application
from services.detection.application.suppressions import NoSuchSuppression, Wanted
from services.detection.domain.suppressions import Suppression
from services.detection.store import suppressions as store
from shared.auth import requires
from shared.contracts.detection import FindingKind
from shared.contracts.incidents import IncidentCategory
from shared.http import reply
from shared.models import In, Instant, Out, PageOf
from shared.paging import Page
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1/alerts/suppressions", "suppressions")

Name = Annotated[str, Field(min_length=1, max_length=300)]


class Owner(In):
    """Who answers for a suppression."""

    team: str = Field(max_length=200, description='The team; `""` for the organisation itself.')
    subject: Name | None = Field(default=None, description="The person; left out, whoever asks.")


class NewSuppression(In):
    """Findings for which every field that is given holds. Name at least one of rule_id, kind and category."""

    rule_id: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    kind: FindingKind | None = None
    category: IncidentCategory | None = None
    asset_id: UUID | None = Field(
        default=None, description="Of this asset only, while its team stays the same. Critical findings need it."
    )
    session_id: Name | None = None
    actor: Name | None = None
    digest: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = Field(
        default=None, description="In this very text: the `digest` of an alert."
    )
    pattern: Annotated[str, Field(min_length=3, max_length=1_000)] | None = Field(
        default=None,
        description="Words that are no matter, in RE2 syntax, case ignored. A finding is suppressed when it is gone "
        "once they are blanked out.",
    )
    team: Annotated[str, Field(max_length=200)] | None = Field(
        default=None,
        description="In whose traffic; left out, everybody's for organisation-wide callers, and that of the caller's "
        "own team for others.",
    )
    owner: Owner
    reason: Annotated[str, Field(min_length=3, max_length=2_000)]
    expires_at: Instant


class SuppressionView(Out):
    suppression_id: UUID
    version: int
    rule_id: str | None
    kind: FindingKind | None
    category: IncidentCategory | None
    asset_id: UUID | None
    session_id: str | None
    actor: str | None
    digest: str | None
    pattern: str | None
    team: str | None
    owner_team: str
    owner: str
    reason: str
    created_at: datetime
    created_by: str
    expires_at: datetime
    ended_at: datetime | None
    ended_by: str | None
    hits: int = Field(description="Findings that it held for, all replicas together; a second behind.")
    last_hit_at: datetime | None

    @classmethod
    def of(cls, one: Suppression) -> SuppressionView:
        return cls.model_validate({name: getattr(one, name) for name in cls.model_fields})


@router.get("", response_model=PageOf[SuppressionView])
@requires("detection:read")
async def list_suppressions(
    page: Page,
    work: Work,
    rule_id: Annotated[str | None, Query(max_length=100)] = None,
    kind: Annotated[FindingKind | None, Query()] = None,
    category: Annotated[IncidentCategory | None, Query()] = None,
    asset_id: Annotated[UUID | None, Query()] = None,
    owner_team: Annotated[str | None, Query(max_length=200)] = None,
    in_force: Annotated[bool | None, Query()] = None,
) -> Response:
    """List suppressions, newest first."""
    wanted = {
        "rule_id": rule_id,
        "kind": kind and kind.value,
        "category": category and category.value,
        "asset_id": asset_id,
        "owner_team": owner_team,
    }
    filters = {name: value for name, value in wanted.items() if value is not None}
    rows = await work.read(lambda tx: store.page(tx, work.caller, filters, in_force, page.after, page.limit))
    shown = [SuppressionView.of(one) for one in rows[: page.limit]]
    cursor = page.cursor(shown[-1].created_at.isoformat(), shown[-1].suppression_id) if len(rows) > page.limit else None
    return reply(PageOf[SuppressionView](items=shown, next_cursor=cursor))


@router.post("", status_code=201, response_model=SuppressionView)
@requires("detection:write")
async def suppress(body: NewSuppression, work: Work) -> Response:
    """Suppress findings until a time; it holds everywhere within a second.

    They stay in inspections, marked, and are counted; they decide nothing and raise no alert. Callers who are bound to
    teams suppress findings in the traffic of these only. A critical rule is suppressed for a named asset only.
    """
    now = datetime.now(UTC)
    longest = timedelta(days=work.runtime.settings.suppression_days)
    given = body.model_dump(exclude={"owner"})
    wanted = Wanted(**given, owner_team=body.owner.team, owner=body.owner.subject or work.caller.subject)
    return await work.run(
        lambda tx: application.suppress(tx, work.caller, wanted, longest, now),
        lambda one: reply(
            SuppressionView.of(one),
            status=201,
            etag=one.version,
            location=f"/v1/alerts/suppressions/{one.suppression_id}",
        ),
    )


@router.get("/{suppression_id}", response_model=SuppressionView)
@requires("detection:read")
async def get_suppression(suppression_id: UUID, work: Work) -> Response:
    """One suppression."""
    one = await work.read(lambda tx: store.get(tx, work.caller, suppression_id))
    if one is None:
        raise NoSuchSuppression(f"there is no suppression {suppression_id}")
    return reply(SuppressionView.of(one), etag=one.version)


@router.delete("/{suppression_id}", response_model=SuppressionView)
@requires("detection:write")
async def end_suppression(suppression_id: UUID, work: Work) -> Response:
    """End a suppression before its time; it stays on record."""
    now = datetime.now(UTC)
    return await work.run(
        lambda tx: application.end(tx, work.caller, suppression_id, now),
        lambda one: reply(SuppressionView.of(one), etag=one.version),
    )
