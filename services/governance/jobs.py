"""What the leading replica does by itself, because time passes."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from services.governance.application import acceptances, controls, policies, reviews
from services.governance.settings import GovernanceSettings
from shared.runtime import Runtime


async def offer_shipped_policies(runtime: Runtime) -> None:
    """Drafts of the shipped policies, once for each."""
    async with runtime.db.begin() as tx:
        await policies.offer_shipped(tx, datetime.now(UTC))


async def expire_acceptances(runtime: Runtime) -> None:
    """End what has run out, a bounded number in each transaction."""
    ended = acceptances.EXPIRIES_A_ROUND
    while ended == acceptances.EXPIRIES_A_ROUND:
        async with runtime.db.begin() as tx:
            ended = await acceptances.expire(tx, datetime.now(UTC))


async def degrade_stale_controls(runtime: Runtime) -> None:
    """Degrade controls whose evidence has run out, a bounded number in each transaction."""
    degraded = controls.LAPSES_A_ROUND
    while degraded == controls.LAPSES_A_ROUND:
        async with runtime.db.begin() as tx:
            degraded = await controls.degrade_stale(tx, datetime.now(UTC))


class ReviewSearch:
    """Walks over all assets again and again, a stretch at each call, and owes the reviews that fall due."""

    def __init__(self) -> None:
        self._reached: UUID | None = None

    async def __call__(self, runtime: Runtime) -> None:
        settings: GovernanceSettings = runtime.settings
        async with runtime.db.begin() as tx:
            self._reached = await reviews.owe_asset_reviews(
                tx,
                self._reached,
                limit=settings.review_stretch,
                notice_days=settings.review_notice_days,
                at=datetime.now(UTC),
            )
