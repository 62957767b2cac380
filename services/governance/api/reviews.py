"""/v1/governance/reviews: reviews of assets, policies and evidence that are owed, and those that were."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated
from uuid import UUID

from fastapi import Query
from pydantic import Field, StringConstraints
from starlette.responses import Response

from services.governance.api.fields import Day, MaybeIfMatch, Note, Reason, await_assets
from services.governance.application import reviews as application
from services.governance.domain.reviews import ReviewKind, ReviewStatus, Timing
from services.governance.store import reviews as store
from services.governance.store.reviews import KnownReview
from shared.auth import requires
from shared.http import IfMatch, reply
from shared.models import In, Out, PageOf
from shared.paging import Page
from shared.service import router as new_router
from shared.work import Work

router = new_router("/v1/governance/reviews", "reviews")


class NewReview(In):
    """A review to owe beyond those that are owed by themselves, or earlier."""

    kind: ReviewKind
    target: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        description="Id of the asset, policy or control deployment."
    )
    due_on: Day
    note: Note = ""


class ReviewChange(In):
    """What to change; null and absent leave as it is."""

    due_on: Day | None = None
    note: Note | None = None


class Completion(In):
    outcome: Reason = Field(description="What the review found.")


class ReviewView(Out):
    """A review. `timing` says how it stands today, and is null once it is completed or cancelled."""

    review_id: UUID
    version: int
    kind: ReviewKind
    target: str
    asset_id: UUID | None
    owner_team: str
    status: ReviewStatus
    timing: Timing | None
    due_on: date
    note: str
    created_at: datetime
    updated_at: datetime
    completed_by: str | None
    completed_at: datetime | None
    outcome: str

    @classmethod
    def of(cls, known: KnownReview) -> ReviewView:
        own = {name: getattr(known.review, name) for name in known.review.__slots__}
        return cls(**own, owner_team=known.owner_team, timing=known.review.timing(datetime.now(UTC).date()))


def _reply(known: KnownReview) -> Response:
    return reply(ReviewView.of(known), etag=known.review.version)


def _as_id(text: str) -> list[UUID]:
    try:
        return [UUID(text)]
    except ValueError:
        return []


@router.get("", response_model=PageOf[ReviewView])
@requires("governance:read")
async def list_reviews(
    work: Work,
    page: Page,
    kind: Annotated[ReviewKind | None, Query()] = None,
    status: Annotated[ReviewStatus | None, Query()] = None,
    timing: Annotated[Timing | None, Query(description="How it stands today.")] = None,
    asset_id: Annotated[UUID | None, Query()] = None,
    target: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """Reviews that you may see by the day they are due, the longest overdue first."""
    today = datetime.now(UTC).date()
    rows = await work.read(
        lambda tx: store.page(
            tx,
            work.caller,
            page,
            today,
            kind=kind,
            status=status,
            timing=timing,
            asset_id=asset_id,
            target=target,
        )
    )
    items, cursor = page.cut(rows, "due_on", "review_id")
    return reply(PageOf[ReviewView](items=[ReviewView.of(known) for known in items], next_cursor=cursor))


@router.post("", status_code=201, response_model=ReviewView)
@requires("governance:write")
async def schedule_review(body: NewReview, work: Work) -> Response:
    """Owe a review that would not be owed by itself, or not yet."""
    if body.kind is ReviewKind.ASSET_SECURITY:
        await await_assets(work, _as_id(body.target))
    return await work.run(
        lambda tx: application.schedule(
            tx, work.caller, body.kind, body.target, body.due_on, body.note, datetime.now(UTC)
        ),
        lambda known: reply(
            ReviewView.of(known),
            status=201,
            etag=known.review.version,
            location=f"/v1/governance/reviews/{known.review_id}",
        ),
    )


@router.get("/{review_id}", response_model=ReviewView)
@requires("governance:read")
async def get_review(review_id: UUID, work: Work) -> Response:
    """One review."""
    return _reply(await work.read(lambda tx: store.get(tx, work.caller, review_id)))


@router.patch("/{review_id}", response_model=ReviewView)
@requires("governance:write")
async def change_review(review_id: UUID, body: ReviewChange, work: Work, if_match: IfMatch) -> Response:
    """Give a review that is due another day or note."""
    return await work.run(
        lambda tx: application.reschedule(
            tx, work.caller, review_id, if_match, body.due_on, body.note, datetime.now(UTC)
        ),
        _reply,
    )


@router.post("/{review_id}/complete", response_model=ReviewView)
@requires("governance:approve")
async def complete_review(review_id: UUID, body: Completion, work: Work, if_match: MaybeIfMatch) -> Response:
    """Complete the review of a policy, which stays in force. Reviews of assets and evidence are completed by doing."""
    return await work.run(
        lambda tx: application.complete(tx, work.caller, review_id, if_match, body.outcome, datetime.now(UTC)),
        _reply,
    )
