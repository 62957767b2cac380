"""Automated actions: what was done at other services, and what came of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import Query
from starlette.responses import Response

from services.incidents.api.views import ActionView
from services.incidents.application import automation
from services.incidents.domain.playbooks import ActionName
from services.incidents.store import actions as store
from services.incidents.store import views
from services.incidents.store.actions import ActionStatus
from shared.auth import requires
from shared.http import reply
from shared.models import PageOf
from shared.paging import Page
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1/actions", "actions")


@router.get("", response_model=PageOf[ActionView])
@requires("incidents:read")
async def list_actions(
    work: Work,
    page: Page,
    incident_id: UUID | None = None,
    status: ActionStatus | None = None,
    action: Annotated[ActionName | None, Query(description="Only of this kind.")] = None,
) -> Response:
    """Automated actions, the newest first."""
    rows = await work.read(
        lambda tx: views.actions(
            tx,
            work.caller,
            incident_id=incident_id,
            status=status,
            action=action,
            after=page.after,
            limit=page.limit,
        )
    )
    items, cursor = page.cut(rows, "requested_at", "id")
    return reply(PageOf[ActionView](items=[ActionView.of(one) for one in items], next_cursor=cursor))


@router.get("/{action_id}", response_model=ActionView)
@requires("incidents:read")
async def get_action(work: Work, action_id: UUID) -> Response:
    """An automated action with its requests and the answers to them."""
    return reply(ActionView.of(await work.read(lambda tx: store.get(tx, action_id, work.caller))))


@router.post("/{action_id}/retry", status_code=202, response_model=ActionView)
@requires("incidents:write")
async def retry_action(work: Work, action_id: UUID) -> Response:
    """Try an action again now. One that failed becomes a new run of its step, with a new action."""
    return await work.run(
        lambda tx: automation.retry(tx, work.caller, action_id, work.runtime.settings.policy, datetime.now(UTC)),
        lambda action: reply(ActionView.of(action), status=202),
    )
