"""`/v1/telemetry`: how the traffic of an asset is watched."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import Query
from pydantic import Field
from starlette.responses import Response

from services.detection.api.inspections import Memory
from services.detection.application import assets as application
from services.detection.application import reach
from services.detection.domain.assets import FailMode, Handling, Mode, Profile
from services.detection.domain.verdict import THRESHOLDS
from services.detection.store import assets as store
from services.detection.store.assets import Watched
from shared.auth import requires
from shared.http import IfMatch, reply
from shared.models import In, Out, PageOf
from shared.paging import Page
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1/telemetry", "telemetry")


class Watch(In):
    mode: Mode = Field(description="observe: verdicts and alerts only; enforce: decisions redact and block.")
    profile: Profile | None = Field(
        default=None, description="How readily findings become verdicts; left out, what was declared stays."
    )
    fail_mode: FailMode | None = Field(
        default=None,
        description="What becomes of an interaction that could not be looked at in full: open lets it pass, closed "
        "blocks it where the mode is enforce. Left out, what was declared stays.",
    )
    prompts: Annotated[list[Annotated[str, Field(max_length=65_536)]], Field(max_length=50)] | None = Field(
        default=None, description="Texts that must not leak, such as the system prompt; only keyed hashes are kept."
    )


class WatchView(Out):
    """How an asset is watched; what is not `declared` is the installation's default."""

    asset_id: UUID
    name: str
    owner_team: str
    mode: Mode
    profile: Profile
    flag_at: float = Field(description="The score from which on this profile flags.")
    block_at: float = Field(description="The score from which on it blocks.")
    fail_mode: FailMode
    declared: list[str] = Field(description="Which of mode, profile and fail_mode somebody declared for this asset.")
    prompt_fragments: int
    version: int
    updated_at: datetime | None = None
    updated_by: str | None = None

    @classmethod
    def of(cls, watched: Watched, default: Handling) -> WatchView:
        handling = watched.handling(default)
        declared = {
            "mode": watched.version > 0,
            "profile": watched.profile is not None,
            "fail_mode": watched.fail_mode is not None,
        }
        thresholds = THRESHOLDS[handling.profile]
        return cls(
            asset_id=watched.asset.asset_id,
            name=watched.asset.name,
            owner_team=watched.asset.owner_team,
            mode=handling.mode,
            profile=handling.profile,
            flag_at=thresholds.flag_at,
            block_at=thresholds.block_at,
            fail_mode=handling.fail_mode,
            declared=[name for name, is_declared in declared.items() if is_declared],
            prompt_fragments=len(watched.fragments),
            version=watched.version,
            updated_at=watched.updated_at,
            updated_by=watched.updated_by,
        )


@router.get("/assets", response_model=PageOf[WatchView])
@requires("detection:read")
async def list_watches(
    page: Page,
    work: Work,
    memory: Memory,
    mode: Annotated[Mode | None, Query()] = None,
    profile: Annotated[Profile | None, Query()] = None,
    fail_mode: Annotated[FailMode | None, Query()] = None,
) -> Response:
    """How every asset is watched, by id: what it observes or enforces, and what it does when detection fails."""
    wanted = {
        "mode": (mode, Mode.ENFORCE),
        "profile": (profile, memory.handling.profile),
        "fail_mode": (fail_mode, memory.handling.fail_mode),
    }
    filters = {name: (one.value, default.value) for name, (one, default) in wanted.items() if one is not None}
    after = UUID(page.after[0]) if page.after is not None else None
    rows = await work.read(lambda tx: store.page(tx, work.caller, filters, after, page.limit))
    shown = [WatchView.of(one, memory.handling) for one in rows[: page.limit]]
    cursor = page.cursor(shown[-1].asset_id) if len(rows) > page.limit else None
    return reply(PageOf[WatchView](items=shown, next_cursor=cursor))


@router.get("/assets/{asset_id}", response_model=WatchView)
@requires("detection:read")
async def get_watch(asset_id: UUID, work: Work, memory: Memory) -> Response:
    """How an asset is watched; without any setting it is enforced, and the rest is the installation's default."""
    watched = await work.read(lambda tx: reach.asset_of(tx, work.caller, asset_id))
    return reply(WatchView.of(watched, memory.handling), etag=watched.version)


@router.put("/assets/{asset_id}", response_model=WatchView)
@requires("detection:write")
async def put_watch(asset_id: UUID, body: Watch, if_match: IfMatch, work: Work, memory: Memory) -> Response:
    """Set how an asset is watched."""
    now = datetime.now(UTC)
    return await work.run(
        lambda tx: application.watch(
            tx,
            work.caller,
            asset_id,
            if_match,
            mode=body.mode,
            profile=body.profile,
            fail_mode=body.fail_mode,
            prompts=body.prompts,
            key=memory.key,
            now=now,
        ),
        lambda watched: reply(WatchView.of(watched, memory.handling), etag=watched.version),
    )
