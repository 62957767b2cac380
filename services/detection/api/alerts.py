"""`/v1/alerts`: what is worth a person, as a list, as OCSF, and as it happens."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from fastapi import Header, Query
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from services.detection.application import alerts as application
from services.detection.application.alerts import NoSuchAlert
from services.detection.application.live import Live
from services.detection.application.promotion import Limits
from services.detection.domain import ocsf
from services.detection.store import alerts as store
from shared.auth import Caller, requires
from shared.contracts.detection import AlertSnapshot, Disposition, FindingKind, Severity
from shared.contracts.incidents import IncidentCategory
from shared.database import is_outage
from shared.errors import Invalid
from shared.http import IfMatch, reply
from shared.models import In, Instant, Out, PageOf
from shared.paging import Page
from shared.runtime import Runtime, stop_when
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1/alerts", "alerts")

HEARTBEAT_SECONDS = 10.0

Status = Literal["open", "disposed"]

BY_ID = "/{alert_id:uuid}"
"""Only ids: a name such as `suppressions` is another resource, whose methods are its own."""


class AlertView(AlertSnapshot, Out):
    """An alert as it stands."""

    status: Status
    disposed_by: str | None = None
    comment: str = ""

    @classmethod
    def of(cls, row: Any) -> AlertView:
        return cls.model_validate({name: getattr(row, name) for name in cls.model_fields})


class Judgement(In):
    """What a person found an alert to be; null opens it again."""

    disposition: Disposition | None
    comment: str = Field(default="", max_length=4_000)


class OcsfPage(Out):
    """OCSF 1.8 Detection Findings (class 2004)."""

    items: list[dict[str, Any]]
    next_cursor: str | None = None


@router.get("", response_model=PageOf[AlertView] | OcsfPage)
@requires("detection:read")
async def list_alerts(
    page: Page,
    work: Work,
    asset_id: Annotated[UUID | None, Query()] = None,
    category: Annotated[IncidentCategory | None, Query()] = None,
    severity: Annotated[Severity | None, Query()] = None,
    status: Annotated[Status | None, Query()] = None,
    actor: Annotated[str | None, Query(max_length=300)] = None,
    session_id: Annotated[str | None, Query(max_length=300)] = None,
    rule_id: Annotated[str | None, Query(max_length=100)] = None,
    kind: Annotated[FindingKind | None, Query()] = None,
    since: Annotated[Instant | None, Query(alias="from", description="Last seen at or after.")] = None,
    until: Annotated[Instant | None, Query(alias="to", description="First seen before.")] = None,
    format: Annotated[Literal["colonnade", "ocsf"], Query()] = "colonnade",
) -> Response:
    """List alerts, newest first."""
    if since is not None and until is not None and since > until:
        raise Invalid("`from` is after `to`", field="from")
    wanted = {
        "asset_id": asset_id,
        "category": category and category.value,
        "severity": severity and severity.value,
        "status": status,
        "actor": actor,
        "session_id": session_id,
        "rule_id": rule_id,
        "kind": kind and kind.value,
    }
    filters = {name: value for name, value in wanted.items() if value is not None}
    rows = await work.read(lambda tx: store.page(tx, work.caller, filters, since, until, page.after, page.limit))
    shown = rows[: page.limit]
    cursor = page.cursor(shown[-1].first_seen.isoformat(), shown[-1].alert_id) if len(rows) > page.limit else None
    if format == "ocsf":
        findings = [_ocsf(row) for row in shown]
        return reply(OcsfPage(items=findings, next_cursor=cursor))
    return reply(PageOf[AlertView](items=[AlertView.of(row) for row in shown], next_cursor=cursor))


@router.get(
    "/stream",
    response_class=StreamingResponse,
    responses={200: {"description": "Server-sent events `alert`.", "content": {"text/event-stream": {}}}},
)
@requires("detection:read")
async def stream_alerts(
    work: Work,
    last_event_id: Annotated[str | None, Header(description="Go on after this event.", max_length=18)] = None,
    format: Annotated[Literal["colonnade", "ocsf"], Query()] = "colonnade",
) -> Response:
    """Alerts as they are raised and change, until the client goes away. Resumes after Last-Event-ID."""
    if last_event_id is not None and not (last_event_id.isascii() and last_event_id.isdigit()):
        raise Invalid("this is no id of an event of ours", field="Last-Event-ID")
    after = int(last_event_id) if last_event_id is not None else await work.read(store.newest_change)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    events = _events(work.runtime, work.caller, after, _ocsf if format == "ocsf" else _plain)
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


def _plain(row: Any) -> dict[str, Any]:
    return AlertView.of(row).model_dump(mode="json")


def _ocsf(row: Any) -> dict[str, Any]:
    return ocsf.detection_finding(store.snapshot(row), row.status, row.comment)


async def _events(
    runtime: Runtime, caller: Caller, after: int, written: Callable[[Any], dict[str, Any]] = _plain
) -> AsyncIterator[bytes]:
    memory: Live = runtime.resources["live"]
    yield b"retry: 1000\n\n"
    told_at = time.monotonic()
    while not runtime.stopping.is_set():
        try:
            async with runtime.db.read() as tx:
                newest = await store.newest_change(tx)
                rows = await store.changed(tx, caller, after) if newest > after else []
        except Exception as error:
            if not is_outage(error):
                raise
            # The client stays connected and misses nothing: the next look starts where this one would have.
            newest, rows = after, []
        for row in rows:
            after = row.change
            data = orjson.dumps(written(row))
            yield b"id: %d\nevent: alert\ndata: %s\n\n" % (after, data)
        if rows:
            told_at = time.monotonic()
            continue
        # What others' alerts did need not be looked through again, here or by who comes back after this id.
        after = max(after, newest)
        if time.monotonic() - told_at >= HEARTBEAT_SECONDS:
            told_at = time.monotonic()
            # An id without data is remembered by the client, and is no event to it.
            yield b"id: %d\n: alive\n\n" % after
        if await stop_when(runtime.stopping, memory.alert_changed()):
            return


@router.get(BY_ID, response_model=AlertView)
@requires("detection:read")
async def get_alert(alert_id: UUID, work: Work) -> Response:
    """One alert."""
    row = await work.read(lambda tx: store.get(tx, work.caller, alert_id))
    if row is None:
        raise NoSuchAlert(f"there is no alert {alert_id}")
    return reply(AlertView.of(row), etag=row.version)


@router.patch(BY_ID, response_model=AlertView)
@requires("incidents:write")
async def judge_alert(alert_id: UUID, body: Judgement, if_match: IfMatch, work: Work) -> Response:
    """Say what an alert was. False positives stop weighing on the asset's risk, and put a noisy rule back in shadow."""
    limits = Limits.of(work.runtime.settings)
    return await work.run(
        lambda tx: application.dispose(tx, work.caller, alert_id, if_match, body.disposition, body.comment, limits),
        lambda row: reply(AlertView.of(row), etag=row.version),
    )
