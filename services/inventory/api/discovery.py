"""/v1/discovery: look for assets where they live."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import uuid_utils.compat as uuid_utils
from pydantic import Field, WithJsonSchema
from starlette.responses import Response

from services.inventory.api.models import Label
from services.inventory.application.discovery import request_run
from services.inventory.connectors import OPTION_SCHEMAS, options_of
from services.inventory.domain.discovery import AVAILABLE, Counts, RunStatus, Source
from services.inventory.store import discovery as store
from services.inventory.store.discovery import Run
from shared.auth import demand_organization, requires
from shared.http import reply
from shared.models import In, Out, PageOf
from shared.paging import Page
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1/discovery/runs", "discovery")


class NewRun(In):
    """Where to look.

    Options by source: aws_bedrock {region, endpoint_url?}; azure_openai {subscription_id, endpoint_url?};
    filesystem {paths[]}, absolute and below a configured root. Credentials are the service's own, never a request's.
    """

    source: Annotated[Source, WithJsonSchema({"type": "string", "enum": sorted(AVAILABLE)})]
    options: Annotated[dict[str, Any], WithJsonSchema({"anyOf": OPTION_SCHEMAS})]
    owner_team: Label = Field(default="", description="Who owns what is found; empty leaves it to be declared.")


class CountsView(Out):
    seen: int
    new: int
    changed: int = Field(description="Known assets of which something that was inferred before is different now.")
    gone: int = Field(description="Seen by an earlier run and no longer there; they are not retired by this.")
    merged: int = Field(description="Entries that are an asset which was registered otherwise.")


class ProblemView(Out):
    where: str
    message: str


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


@router.post("", status_code=202, response_model=RunView)
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


@router.get("", response_model=PageOf[RunView])
@requires("inventory:read")
async def list_runs(work: Work, page: Page) -> Response:
    """Discovery runs, newest first."""
    before = UUID(page.after[0]) if page.after else None
    found = await work.read(lambda tx: store.runs(tx, work.caller, before=before, limit=page.limit + 1))
    items, cursor = page.cut(found, "run_id")
    return reply(PageOf[RunView](items=[RunView.of(run) for run in items], next_cursor=cursor))


@router.get("/{run_id:uuid}", response_model=RunView)
@requires("inventory:read")
async def read_run(run_id: UUID, work: Work) -> Response:
    """One discovery run."""
    return reply(RunView.of(await work.read(lambda tx: store.get_run(tx, work.caller, run_id))))
