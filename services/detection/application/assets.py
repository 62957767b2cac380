"""How assets are watched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from services.detection.application import reach
from services.detection.domain.assets import FailMode, Mode, Profile
from services.detection.domain.similarity import fragments_of
from services.detection.store import assets as store
from services.detection.store.assets import Watched
from shared import audit
from shared.auth import Caller
from shared.database import Tx
from shared.http import check_version


async def watch(
    tx: Tx,
    caller: Caller,
    asset_id: UUID,
    expected: int | None,
    *,
    mode: Mode,
    profile: Profile | None,
    fail_mode: FailMode | None,
    prompts: Sequence[str] | None,
    key: bytes,
    now: datetime,
) -> Watched:
    """Set how an asset is watched.

    Args:
        profile, fail_mode: None keeps what was declared.
        prompts: texts that must not leak, replacing those registered; None keeps them. Only keyed hashes are stored.

    Raises:
        NoSuchAsset, PreconditionFailed
    """
    # Two changes of one version must not both find it: the asset's row is what they queue for.
    await store.lock(tx, asset_id)
    standing = await reach.asset_of(tx, caller, asset_id)
    check_version(standing.version, expected)
    fragments = standing.fragments
    if prompts is not None:
        fragments = tuple(fragment for text in prompts for fragment in fragments_of(text, key))
    watched = replace(
        standing,
        mode=mode,
        profile=profile or standing.profile,
        fail_mode=fail_mode or standing.fail_mode,
        fragments=fragments,
        version=standing.version + 1,
        updated_at=now,
        updated_by=caller.subject,
    )
    await store.put_watch(tx, watched)
    detail = {
        "mode": mode.value, "profile": watched.profile, "fail_mode": watched.fail_mode, "fragments": len(fragments)
    }  # fmt: skip
    await audit.record(
        tx, caller, action="asset.watched", target=str(asset_id), detail=detail, owner_team=watched.asset.owner_team
    )
    return watched
