"""Reviews that are owed."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.governance.domain.reviews import (
    NOTICE_DAYS,
    Review,
    ReviewKind,
    ReviewNotFound,
    ReviewStatus,
    Timing,
)
from services.governance.store.schema import asset_table, fields, review_table
from shared.auth import Caller, visible
from shared.database import Tx
from shared.paging import PageRequest

_review = review_table.c
_DUE = _review.status == ReviewStatus.DUE


@dataclass(frozen=True, slots=True)
class KnownReview:
    """A review with whose asset it concerns; empty when it concerns none."""

    review: Review
    owner_team: str

    @property
    def due_on(self) -> date:
        return self.review.due_on

    @property
    def review_id(self) -> UUID:
        return self.review.review_id


_OWNER = sa.func.coalesce(asset_table.c.owner_team, "")
_KNOWN = sa.select(review_table, _OWNER.label("owner_team")).select_from(
    review_table.outerjoin(asset_table, asset_table.c.asset_id == _review.asset_id)
)


def _known(row: Any) -> KnownReview:
    values = {name: getattr(row, name) for name in Review.__slots__}
    values["kind"] = ReviewKind(row.kind)
    values["status"] = ReviewStatus(row.status)
    return KnownReview(Review(**values), row.owner_team)


async def add(tx: Tx, reviews: Iterable[Review]) -> set[UUID]:
    """Store new reviews; gives the ids of those stored. What is already due for the same target is left out."""
    rows = [fields(review) for review in reviews]
    if not rows:
        return set()
    stmt = insert(review_table).on_conflict_do_nothing(
        index_elements=["kind", "target"], index_where=sa.text("status = 'due'")
    )
    return set(await tx.scalars(stmt.returning(_review.review_id), rows))


async def save(tx: Tx, review: Review) -> None:
    await tx.execute(review_table.update().where(_review.review_id == review.review_id).values(fields(review)))


async def get(tx: Tx, caller: Caller, review_id: UUID, *, lock: bool = False) -> KnownReview:
    """A review, its row locked if asked for.

    Raises:
        ReviewNotFound: there is none, or it is not this caller's to see.
    """
    stmt = _KNOWN.where(_review.review_id == review_id).where(visible(caller, _OWNER))
    row = (await tx.execute(stmt.with_for_update(of=review_table) if lock else stmt)).first()
    if row is None:
        raise ReviewNotFound(f"there is no review {review_id}")
    return _known(row)


async def due_for(tx: Tx, kind: ReviewKind, targets: Collection[str]) -> list[KnownReview]:
    """Reviews of this kind that are due for these targets, locked."""
    stmt = _KNOWN.where(_DUE).where(_review.kind == kind).where(_review.target.in_(list(targets)))
    stmt = stmt.order_by(_review.review_id).with_for_update(of=review_table)
    return [_known(row) for row in await tx.execute(stmt)]


async def due_on_assets(tx: Tx, asset_ids: Collection[UUID]) -> list[KnownReview]:
    """Reviews of any kind that are due on these assets, locked."""
    stmt = _KNOWN.where(_DUE).where(_review.asset_id.in_(list(asset_ids)))
    stmt = stmt.order_by(_review.review_id).with_for_update(of=review_table)
    return [_known(row) for row in await tx.execute(stmt)]


async def owed(tx: Tx, kind: ReviewKind, targets: Collection[str]) -> set[str]:
    """Those of the targets for which a review of this kind is due."""
    stmt = sa.select(_review.target).where(_DUE).where(_review.kind == kind).where(_review.target.in_(list(targets)))
    return set(await tx.scalars(stmt))


async def page(
    tx: Tx,
    caller: Caller,
    page: PageRequest,
    today: date,
    *,
    kind: ReviewKind | None = None,
    status: ReviewStatus | None = None,
    timing: Timing | None = None,
    asset_id: UUID | None = None,
    target: str | None = None,
) -> list[KnownReview]:
    """Reviews by the day they are due, the longest overdue first; one more than the page holds."""
    stmt = _KNOWN.where(visible(caller, _OWNER))
    exact = {"kind": kind, "status": status, "asset_id": asset_id, "target": target}
    for name, value in exact.items():
        if value is not None:
            stmt = stmt.where(_review[name] == value)
    if timing is not None:
        noticed = today + timedelta(days=NOTICE_DAYS)
        days = {
            Timing.OVERDUE: _review.due_on < today,
            Timing.DUE: _review.due_on.between(today, noticed),
            Timing.UPCOMING: _review.due_on > noticed,
        }
        stmt = stmt.where(_DUE).where(days[timing])
    if page.after is not None:
        after = sa.tuple_(sa.literal(date.fromisoformat(page.after[0])), sa.literal(UUID(page.after[1]), sa.Uuid))
        stmt = stmt.where(sa.tuple_(_review.due_on, _review.review_id) > after)
    stmt = stmt.order_by(_review.due_on, _review.review_id).limit(page.limit + 1)
    return [_known(row) for row in await tx.execute(stmt)]
