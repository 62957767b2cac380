"""`/v1/telemetry`: how the traffic of an asset is watched."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field
from starlette.responses import Response

from services.detection.api.inspections import Memory
from services.detection.application import assets as application
from services.detection.domain.assets import Mode, NoSuchAsset
from services.detection.store import assets as store
from shared.auth import requires
from shared.http import IfMatch, reply
from shared.models import In, Out
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1/telemetry", "telemetry")


class Watch(In):
    mode: Mode = Field(description="observe: verdicts and alerts only; enforce: decisions redact and block.")
    prompts: Annotated[list[Annotated[str, Field(max_length=65_536)]], Field(max_length=50)] | None = Field(
        default=None, description="Texts that must not leak, such as the system prompt; only keyed hashes are kept."
    )


class WatchView(Out):
    asset_id: UUID
    mode: Mode
    prompt_fragments: int
    version: int


@router.get("/assets/{asset_id}", response_model=WatchView)
@requires("detection:read")
async def get_watch(asset_id: UUID, work: Work) -> Response:
    """How an asset is watched; without any setting it is enforced."""
    watched = await work.read(lambda tx: store.watched(tx, asset_id))
    if watched is None or not work.caller.sees(watched.asset.owner_team):
        raise NoSuchAsset(f"there is no asset {asset_id}")
    view = WatchView(
        asset_id=asset_id, mode=watched.mode, prompt_fragments=len(watched.fragments), version=watched.version
    )
    return reply(view, etag=watched.version)


@router.put("/assets/{asset_id}", response_model=WatchView)
@requires("detection:write")
async def put_watch(asset_id: UUID, body: Watch, if_match: IfMatch, work: Work, memory: Memory) -> Response:
    """Set how an asset is watched."""
    now = datetime.now(UTC)
    return await work.run(
        lambda tx: application.watch(tx, work.caller, asset_id, if_match, body.mode, body.prompts, memory.key, now),
        lambda done: reply(
            WatchView(asset_id=asset_id, version=done[0], mode=done[1], prompt_fragments=done[2]), etag=done[0]
        ),
    )
