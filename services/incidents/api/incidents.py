"""Incidents, their evidence, timeline and dossier."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import Query
from starlette.responses import Response

from services.incidents.api.views import (
    AddEvidence,
    AmendIncident,
    EvidenceView,
    IncidentSummary,
    IncidentView,
    OpenIncident,
    TimelineView,
)
from services.incidents.application import incidents as application
from services.incidents.domain import dossier, evidence
from services.incidents.domain.dossier import Entry
from services.incidents.domain.incident import Incident
from services.incidents.domain.lifecycle import Piece
from services.incidents.store import assets, views
from services.incidents.store.views import IncidentFilter
from shared.auth import requires
from shared.contracts.incidents import IncidentCategory, IncidentSeverity, IncidentStatus
from shared.database import Tx
from shared.errors import Invalid
from shared.http import IfMatch, reply
from shared.models import Instant, PageOf
from shared.paging import Page
from shared.service import router as make_router
from shared.work import UnitOfWork, Work

router = make_router("/v1/incidents", "incidents")

_LATEST = 100
_EVIDENCE_LIMIT_BYTES = 262_144
_CLOCK_SKEW = timedelta(seconds=30)
# Ten years: intrusions do not stay undiscovered longer, and no model in service is older. What lies further back is a
# mistyped year, or the first moment of a clock that was never set.
_LONGEST_AGO = timedelta(days=3_653)


async def whole(tx: Tx, incident: Incident) -> IncidentView:
    """The incident with what was last added to it."""
    latest = await views.timeline(tx, incident.id, None, _LATEST, newest_first=True)
    chain = await views.evidence(tx, incident.id, max(0, incident.evidence_count - _LATEST), _LATEST)
    return IncidentView.whole(incident, latest[:_LATEST][::-1], chain[:_LATEST])


@router.post("", status_code=201, response_model=IncidentView)
@requires("incidents:write")
async def open_incident(work: Work, body: OpenIncident) -> Response:
    """Open an incident by hand; its playbook starts at once, automated containment included.

    With a session or an actor it is refused (409) while an incident of the same category, asset and session or actor
    is open: the problem names that one.
    """
    at = datetime.now(UTC)
    _check_times(body, at)
    wanted = application.NewIncident(
        **body.model_dump(exclude={"affected_assets"}),
        affected_assets=tuple(dict.fromkeys(body.affected_assets)),
        elsewhere=await _known_to_inventory(work, body.affected_assets),
    )

    async def use_case(tx: Tx) -> IncidentView:
        opened = await application.open_by_hand(
            tx, work.caller, wanted, work.runtime.settings.policy, id=uuid4(), at=datetime.now(UTC)
        )
        return await whole(tx, opened)

    return await work.run(
        use_case,
        lambda view: reply(view, status=201, etag=view.version, location=f"/v1/incidents/{view.incident_id}"),
    )


def _check_times(body: OpenIncident, now: datetime) -> None:
    """Refuse times from which no time to detect can be told: one wrong value spoils the mean of a whole period.

    Raises:
        Invalid: a time is in the future, older than any attack that is still answered, or the detection precedes what
            it detected.
    """
    times = {"/occurred_at": body.occurred_at, "/detected_at": body.detected_at}
    for field, moment in times.items():
        if moment is None:
            continue
        if moment > now + _CLOCK_SKEW:
            raise Invalid("lies in the future", field=field)
        if now - moment > _LONGEST_AGO:
            raise Invalid(f"lies more than {_LONGEST_AGO.days} days in the past", field=field)
    if body.occurred_at and body.detected_at and body.detected_at < body.occurred_at:
        raise Invalid(
            "it was detected before its first evidence",
            errors=[
                {"field": "/occurred_at", "message": "lies after detected_at"},
                {"field": "/detected_at", "message": "lies before occurred_at"},
            ],
        )


async def _known_to_inventory(work: UnitOfWork, asset_ids: Sequence[UUID]) -> dict[UUID, str]:
    """Owners of assets that were registered a moment ago and whose event has not come here yet."""
    if not asset_ids or "inventory" not in work.runtime.settings.service_urls:
        return {}
    known = await work.read(lambda tx: assets.owners(tx, asset_ids))
    unknown = [asset_id for asset_id in dict.fromkeys(asset_ids) if asset_id not in known]
    answers = await asyncio.gather(
        *(
            work.runtime.peers.call("inventory", "GET", f"/v1/assets/{asset_id}", scopes=["inventory:read"])
            for asset_id in unknown
        )
    )
    return {
        asset_id: str(answer.body.get("owner_team", ""))
        for asset_id, answer in zip(unknown, answers, strict=True)
        if answer.ok
    }


@router.get("", response_model=PageOf[IncidentSummary])
@requires("incidents:read")
async def list_incidents(
    work: Work,
    page: Page,
    asset_id: Annotated[UUID | None, Query(description="That this asset is affected by.")] = None,
    category: IncidentCategory | None = None,
    severity: IncidentSeverity | None = None,
    status: IncidentStatus | None = None,
    actor: Annotated[str | None, Query(max_length=512)] = None,
    assigned_to: Annotated[str | None, Query(max_length=512)] = None,
    overdue: Annotated[bool | None, Query(description="With, or without, a step past its time.")] = None,
    opened_from: Annotated[Instant | None, Query(alias="from", description="Opened at or after.")] = None,
    opened_to: Annotated[Instant | None, Query(alias="to", description="Opened before.")] = None,
) -> Response:
    """Incidents, the newest first."""
    wanted = IncidentFilter(
        asset_id=asset_id,
        category=category,
        severity=severity,
        status=status,
        actor=actor,
        assigned_to=assigned_to,
        overdue=overdue,
        opened_from=opened_from,
        opened_to=opened_to,
    )
    rows = await work.read(lambda tx: views.incidents(tx, work.caller, wanted, page.after, page.limit))
    items, cursor = page.cut(rows, "opened_at", "id")
    return reply(PageOf[IncidentSummary](items=[IncidentSummary.of(one) for one in items], next_cursor=cursor))


@router.get("/{incident_id}", response_model=IncidentView)
@requires("incidents:read")
async def get_incident(work: Work, incident_id: UUID) -> Response:
    """An incident with its steps, and what last happened."""

    async def query(tx: Tx) -> IncidentView:
        return await whole(tx, await views.incident(tx, incident_id, work.caller))

    view = await work.read(query)
    return reply(view, etag=view.version)


@router.patch("/{incident_id}", response_model=IncidentView)
@requires("incidents:write")
async def amend_incident(work: Work, incident_id: UUID, body: AmendIncident, version: IfMatch) -> Response:
    """Assign, rename, re-rate or move an incident.

    A status further on is reached through every status between. Steps that should be done by then need a `reason`
    with which they are skipped (409 otherwise, naming them). `resolution` false_positive or duplicate closes from
    anywhere. Going back to investigating reopens: the work from containment on is done again.
    """
    sent = body.model_fields_set
    wanted = application.Amendment(
        **{name: getattr(body, name) for name in sent}, unassign="assigned_to" in sent and body.assigned_to is None
    )

    async def use_case(tx: Tx) -> IncidentView:
        amended = await application.amend(
            tx, work.caller, incident_id, wanted, version, work.runtime.settings.policy, datetime.now(UTC)
        )
        return await whole(tx, amended)

    return await work.run(use_case, lambda view: reply(view, etag=view.version))


@router.get("/{incident_id}/timeline", response_model=PageOf[TimelineView])
@requires("incidents:read")
async def list_timeline(work: Work, page: Page, incident_id: UUID) -> Response:
    """Everything that happened, oldest first."""

    async def query(tx: Tx) -> list[Any]:
        await views.incident(tx, incident_id, work.caller)
        return await views.timeline(tx, incident_id, page.after, page.limit)

    items, cursor = page.cut(await work.read(query), "id")
    return reply(PageOf[TimelineView](items=[TimelineView.model_validate(row) for row in items], next_cursor=cursor))


@router.get("/{incident_id}/evidence", response_model=PageOf[EvidenceView])
@requires("incidents:read")
async def list_evidence(work: Work, page: Page, incident_id: UUID) -> Response:
    """The evidence, in the order in which it was collected."""

    async def query(tx: Tx) -> list[evidence.Record]:
        await views.incident(tx, incident_id, work.caller)
        return await views.evidence(tx, incident_id, int(page.after[0]) if page.after else 0, page.limit)

    items, cursor = page.cut(await work.read(query), "sequence")
    return reply(PageOf[EvidenceView](items=[EvidenceView.of(record) for record in items], next_cursor=cursor))


@router.post("/{incident_id}/evidence", status_code=201, response_model=EvidenceView)
@requires("incidents:write")
async def add_evidence(work: Work, incident_id: UUID, body: AddEvidence) -> Response:
    """Append a piece of evidence; also to a closed incident. Nothing can be changed or taken back."""
    if len(evidence.canonical(body.content).encode()) > _EVIDENCE_LIMIT_BYTES:
        raise Invalid(f"may hold at most {_EVIDENCE_LIMIT_BYTES} bytes; keep the rest elsewhere", field="/content")
    piece = Piece(uuid4(), body.kind, body.title, body.source, body.content)

    async def use_case(tx: Tx) -> EvidenceView:
        _, record = await application.add_evidence(
            tx, work.caller, incident_id, piece, work.runtime.settings.policy, datetime.now(UTC)
        )
        return EvidenceView.of(record)

    return await work.run(
        use_case, lambda view: reply(view, status=201, location=f"/v1/incidents/{incident_id}/evidence")
    )


@router.get("/{incident_id}/dossier", response_model=dict[str, Any])
@requires("incidents:read")
async def get_dossier(
    work: Work,
    incident_id: UUID,
    as_of: Annotated[Instant | None, Query(description="As it was then; as it is now, if left out.")] = None,
) -> Response:
    """Everything about the incident as it was at a time, under a digest.

    To check the digest: take the member `digest` out, write the rest as JSON with keys sorted and no white space, and
    hash it with SHA-256. The same `as_of` gives the same document for ever.
    """
    if as_of is not None and as_of > datetime.now(UTC):
        raise Invalid("the future is not known", field="as_of")

    async def query(tx: Tx) -> dict[str, Any]:
        current = await views.incident(tx, incident_id, work.caller)
        # The last change is as late as one can look and still find the same for ever.
        moment = current.updated_at if as_of is None else as_of
        incident = await views.as_of(tx, incident_id, moment)
        if incident is None:
            raise Invalid(f"the incident was opened at {current.opened_at.isoformat()}", field="as_of")
        entries = [
            Entry(row.at, row.kind, row.summary, row.actor, row.step, row.detail)
            for row in await views.timeline_until(tx, incident_id, incident.version)
        ]
        chain = await views.evidence_until(tx, incident_id, incident.evidence_count)
        return dossier.compose(incident, entries, chain, as_of=moment)

    document = await work.read(query)
    return Response(evidence.canonical(document), media_type="application/json")
