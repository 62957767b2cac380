"""What people do with the steps of an incident."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import Path
from starlette.responses import Response

from services.incidents.api.incidents import whole
from services.incidents.api.views import ApproveStep, CompleteStep, IncidentView, RetryStep, SkipStep
from services.incidents.application import incidents as application
from services.incidents.domain.incident import Incident
from shared.auth import requires
from shared.database import Tx
from shared.http import reply
from shared.service import router as make_router
from shared.work import UnitOfWork, Work

router = make_router("/v1/incidents/{incident_id}/steps", "incidents")

Number = Annotated[int, Path(ge=1, le=100, description="step_number")]


async def _changed(work: UnitOfWork, use_case: Callable[[Tx], Awaitable[Incident]]) -> Response:
    async def change(tx: Tx) -> IncidentView:
        return await whole(tx, await use_case(tx))

    return await work.run(change, lambda view: reply(view, etag=view.version))


@router.post("/{number}/complete", response_model=IncidentView)
@requires("incidents:write")
async def complete_step(work: Work, incident_id: UUID, number: Number, body: CompleteStep | None = None) -> Response:
    """Say that a step is done; an automated one may be done by hand."""
    note = body.note if body is not None else ""
    policy = work.runtime.settings.policy
    return await _changed(
        work,
        lambda tx: application.complete_step(tx, work.caller, incident_id, number, note, policy, datetime.now(UTC)),
    )


@router.post("/{number}/skip", response_model=IncidentView)
@requires("incidents:write")
async def skip_step(work: Work, incident_id: UUID, number: Number, body: SkipStep) -> Response:
    """Say that a step is not done, and why."""
    policy = work.runtime.settings.policy
    return await _changed(
        work,
        lambda tx: application.skip_step(tx, work.caller, incident_id, number, body.reason, policy, datetime.now(UTC)),
    )


@router.post("/{number}/approve", response_model=IncidentView)
@requires("incidents:write")
async def approve_step(work: Work, incident_id: UUID, number: Number, body: ApproveStep | None = None) -> Response:
    """Let an automated step run. Neither who asked for it nor who wrote the playbook may (403)."""
    policy = work.runtime.settings.policy
    note = body.note if body is not None else ""
    return await _changed(
        work,
        lambda tx: application.approve_step(tx, work.caller, incident_id, number, note, policy, datetime.now(UTC)),
    )


@router.post("/{number}/retry", response_model=IncidentView)
@requires("incidents:write")
async def retry_step(work: Work, incident_id: UUID, number: Number, body: RetryStep | None = None) -> Response:
    """Set a failed or skipped step in motion again; an automated one also when it was completed."""
    policy = work.runtime.settings.policy
    reason = body.reason if body is not None else None
    return await _changed(
        work,
        lambda tx: application.retry_step(tx, work.caller, incident_id, number, reason, policy, datetime.now(UTC)),
    )
