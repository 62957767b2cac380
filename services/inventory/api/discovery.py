"""/v1/discovery: look for assets where they live, now or again and again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import uuid_utils.compat as uuid_utils
from pydantic import Field, WithJsonSchema
from starlette.responses import Response

from services.inventory.api.models import Label
from services.inventory.application.discovery import request_run
from services.inventory.application.schedules import add_schedule, change_schedule, remove_schedule
from services.inventory.connectors import CONNECTORS, options_of
from services.inventory.domain.discovery import Counts, RunStatus, Source
from services.inventory.store import discovery as store
from services.inventory.store import schedules as schedules_store
from services.inventory.store.discovery import Run, ScopeRead
from services.inventory.store.schedules import Schedule
from shared.auth import demand_organization, requires
from shared.database import Tx
from shared.http import reply
from shared.models import In, Out, PageOf
from shared.paging import Page
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1", "discovery")

_AVAILABLE = WithJsonSchema({"type": "string", "enum": sorted(CONNECTORS)})
_OPTIONS = WithJsonSchema({"anyOf": [connector.options.model_json_schema() for connector in CONNECTORS.values()]})


class SourceView(Out):
    """A place where assets can be looked for."""

    source: Source
    title: str
    looks_for: str
    permissions: list[str] = Field(description="What the service's credential must be allowed to read.")
    options: dict[str, Any] = Field(description="JSON Schema of what a run must and may say.")


class SourceList(Out):
    items: list[SourceView]


class NewRun(In):
    """Where to look; `GET /v1/discovery/sources` tells the options of each source. Credentials are the service's own,
    never a request's."""

    source: Annotated[Source, _AVAILABLE]
    options: Annotated[dict[str, Any], _OPTIONS]
    owner_team: Label = Field(default="", description="Who owns what is found; empty leaves it to be declared.")


class CountsView(Out):
    seen: int
    new: int
    changed: int = Field(description="Entries that say something else than before, or made a known asset another.")
    missing: int = Field(description="No longer shown by a scope that was read to its end, for the first time.")
    gone: int = Field(description="Missing for longer than the grace period; nothing is retired by this.")
    merged: int = Field(description="Entries that are an asset which was registered otherwise.")


class ProblemView(Out):
    where: str
    message: str


class ScopeView(Out):
    """One listing, folder or repository, as the last run that read it left it."""

    scope: str
    source: Source
    complete: bool
    entries: int = Field(description="When it was last read to its end.")
    seconds: float
    read_at: datetime | None = Field(description="When it was last read to its end.")
    stale_since: datetime | None = Field(description="Since when it cannot be read to its end; what is known stays.")
    reason: str

    @classmethod
    def of(cls, scope: ScopeRead) -> ScopeView:
        return cls.model_validate(scope)


class RunView(Out):
    """A discovery run: partial when some call or entry failed, failed when nothing could be read."""

    run_id: UUID
    source: Source
    options: dict[str, Any]
    owner_team: str
    status: RunStatus
    counts: CountsView
    problems: list[ProblemView]
    requested_by: str
    requested_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, run: Run) -> RunView:
        return cls.model_validate(run)


class RunProgress(RunView):
    """A run with the scopes that it has read so far."""

    scopes: list[ScopeView]


class NewSchedule(NewRun):
    """A run that comes round by itself, the first time at once."""

    every_seconds: int = Field(ge=60, le=31_536_000)


class ScheduleChange(In):
    every_seconds: int | None = Field(default=None, ge=60, le=31_536_000)
    enabled: bool | None = None


class ScheduleView(Out):
    schedule_id: UUID
    source: Source
    options: dict[str, Any]
    owner_team: str
    every_seconds: int
    enabled: bool
    next_at: datetime
    last_run_id: UUID | None
    created_by: str
    created_at: datetime

    @classmethod
    def of(cls, schedule: Schedule) -> ScheduleView:
        return cls.model_validate(schedule)


@router.get("/discovery/sources", response_model=SourceList)
@requires("inventory:read")
async def list_sources(work: Work) -> Response:
    """Where assets can be looked for, what that finds, and what it needs."""
    return reply(
        SourceList(
            items=[
                SourceView(
                    source=connector.source,
                    title=connector.title,
                    looks_for=connector.looks_for,
                    permissions=list(connector.permissions),
                    options=connector.options.model_json_schema(),
                )
                for connector in CONNECTORS.values()
            ]
        )
    )


@router.post("/discovery/runs", status_code=202, response_model=RunView)
@requires("inventory:write")
async def start_run(body: NewRun, work: Work) -> Response:
    """Look for assets; the run goes on by itself, ask for it by its id."""
    demand_organization(work.caller, "discovery")
    run = Run(
        run_id=uuid_utils.uuid7(),
        source=body.source,
        options=options_of(body.source, body.options, work.runtime.settings).model_dump(mode="json"),
        owner_team=body.owner_team,
        status=RunStatus.QUEUED,
        counts=Counts(),
        problems=(),
        requested_by=work.caller.subject,
        requested_at=datetime.now(UTC),
        finished_at=None,
    )
    return await work.run(
        lambda tx: request_run(tx, work.caller, run),
        lambda _: reply(RunView.of(run), status=202, location=f"/v1/discovery/runs/{run.run_id}"),
    )


@router.get("/discovery/runs", response_model=PageOf[RunView])
@requires("inventory:read")
async def list_runs(work: Work, page: Page) -> Response:
    """Discovery runs, newest first."""
    before = UUID(page.after[0]) if page.after else None
    found = await work.read(lambda tx: store.runs(tx, work.caller, before=before, limit=page.limit + 1))
    items, cursor = page.cut(found, "run_id")
    return reply(PageOf[RunView](items=[RunView.of(run) for run in items], next_cursor=cursor))


@router.get("/discovery/runs/{run_id:uuid}", response_model=RunProgress)
@requires("inventory:read")
async def read_run(run_id: UUID, work: Work) -> Response:
    """One discovery run, with what it has done so far."""

    async def read(tx: Tx) -> RunProgress:
        run = await store.get_run(tx, work.caller, run_id)
        scopes = [ScopeView.of(scope) for scope in await store.scopes_of_run(tx, run_id)]
        return RunProgress(**RunView.of(run).__dict__, scopes=scopes)

    return reply(await work.read(read))


@router.get("/discovery/stale-scopes", response_model=PageOf[ScopeView])
@requires("inventory:read")
async def list_stale_scopes(work: Work, page: Page) -> Response:
    """Listings, folders and repositories that could not be read to their end last time, the longest stale first."""
    start = (datetime.fromisoformat(page.after[0]), *page.after[1:]) if page.after else None
    found = await work.read(lambda tx: store.stale_scopes(tx, work.caller, after=start, limit=page.limit + 1))
    items, cursor = page.cut(found, "stale_since", "source", "scope")
    return reply(PageOf[ScopeView](items=[ScopeView.of(scope) for scope in items], next_cursor=cursor))


@router.post("/discovery/schedules", status_code=201, response_model=ScheduleView)
@requires("inventory:write")
async def create_schedule(body: NewSchedule, work: Work) -> Response:
    """Look again and again; a run that still goes on when the next is due is not joined by another."""
    demand_organization(work.caller, "discovery")
    now = datetime.now(UTC)
    schedule = Schedule(
        schedule_id=uuid_utils.uuid7(),
        source=body.source,
        options=options_of(body.source, body.options, work.runtime.settings).model_dump(mode="json"),
        owner_team=body.owner_team,
        every_seconds=body.every_seconds,
        enabled=True,
        next_at=now,
        last_run_id=None,
        created_by=work.caller.subject,
        created_at=now,
    )
    return await work.run(
        lambda tx: add_schedule(tx, work.caller, schedule),
        lambda _: reply(
            ScheduleView.of(schedule), status=201, location=f"/v1/discovery/schedules/{schedule.schedule_id}"
        ),
    )


@router.get("/discovery/schedules", response_model=PageOf[ScheduleView])
@requires("inventory:read")
async def list_schedules(work: Work, page: Page) -> Response:
    """Schedules in the order in which they were made."""
    after = UUID(page.after[0]) if page.after else None
    found = await work.read(lambda tx: schedules_store.page(tx, work.caller, after=after, limit=page.limit + 1))
    items, cursor = page.cut(found, "schedule_id")
    return reply(PageOf[ScheduleView](items=[ScheduleView.of(item) for item in items], next_cursor=cursor))


@router.get("/discovery/schedules/{schedule_id:uuid}", response_model=ScheduleView)
@requires("inventory:read")
async def read_schedule(schedule_id: UUID, work: Work) -> Response:
    """One schedule."""
    return reply(ScheduleView.of(await work.read(lambda tx: schedules_store.get(tx, work.caller, schedule_id))))


@router.patch("/discovery/schedules/{schedule_id:uuid}", response_model=ScheduleView)
@requires("inventory:write")
async def amend_schedule(schedule_id: UUID, body: ScheduleChange, work: Work) -> Response:
    """Change how often it comes round, or stop it for a while."""
    demand_organization(work.caller, "discovery")
    values = {name: value for name, value in body.__dict__.items() if value is not None}
    return await work.run(
        lambda tx: change_schedule(tx, work.caller, schedule_id, values, datetime.now(UTC)),
        lambda schedule: reply(ScheduleView.of(schedule)),
    )


@router.delete("/discovery/schedules/{schedule_id:uuid}", status_code=204)
@requires("inventory:write")
async def delete_schedule(schedule_id: UUID, work: Work) -> Response:
    """End a schedule; the runs that it asked for stay."""
    demand_organization(work.caller, "discovery")
    return await work.run(lambda tx: remove_schedule(tx, work.caller, schedule_id), lambda _: Response(status_code=204))
