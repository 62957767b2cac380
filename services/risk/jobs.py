"""What the leading replica does by itself: finish scoring the portfolio again, and look at what time has changed.

Each page is a transaction of its own under the journal's lock, so events are assessed in between and a killed process
goes on where it stopped.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

from services.risk import application
from services.risk.store import due, models
from shared.runtime import Runtime


async def rescore_portfolio(runtime: Runtime) -> None:
    """Score page after page with the model in force, until every asset is."""
    while True:
        async with runtime.db.read() as tx:
            progress = (await models.current(tx)).rescore
        if progress is None or progress.status != models.RUNNING:
            return
        async with runtime.db.begin() as tx:
            page = {"id": str(uuid4()), "limit": application.ASSETS_A_PAGE}
            await _journal(runtime)(tx, application.RESCORE_PAGE, page)


async def look_at_stale_reviews(runtime: Runtime) -> None:
    """Assess assets whose last review has become old; each is looked at once, whatever comes of it."""
    today = datetime.now(UTC).date()
    after: UUID | None = None
    while True:
        async with runtime.db.begin() as tx:
            page = await due.grown_stale(tx, on=today, after=after, limit=application.ASSETS_A_PAGE)
            if page:
                payload = application.looking_again(application.GROWN_STALE, page)
                await _journal(runtime)(tx, application.LOOK_AGAIN, payload)
        if len(page) < application.ASSETS_A_PAGE:
            return
        after = page[-1]


async def look_at_active_assets(runtime: Runtime) -> None:
    """Let activity fade, and count anew what depends on assets that something happens to."""
    after: UUID | None = None
    while True:
        async with runtime.db.read() as tx:
            page = await due.active(tx, after=after, limit=application.ASSETS_A_PAGE)
            moving = await application.has_moved(tx, page, datetime.now(UTC))
        if moving:
            async with runtime.db.begin() as tx:
                payload = application.looking_again(application.DECAYED, moving)
                await _journal(runtime)(tx, application.LOOK_AGAIN, payload)
        if len(page) < application.ASSETS_A_PAGE:
            return
        after = page[-1]


def _journal(runtime: Runtime) -> application.Journal:
    consumers = runtime.consumers
    assert consumers is not None, "risk is made of what it hears"
    return consumers.execute
