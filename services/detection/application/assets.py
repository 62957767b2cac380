"""How assets are watched."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.detection.domain.assets import Mode, NoSuchAsset
from services.detection.domain.similarity import fragments_of
from services.detection.store import assets as store
from shared import audit
from shared.auth import Caller
from shared.database import Tx
from shared.http import check_version


async def watch(
    tx: Tx,
    caller: Caller,
    asset_id: UUID,
    expected: int | None,
    mode: Mode,
    prompts: Sequence[str] | None,
    key: bytes,
    now: datetime,
) -> tuple[int, Mode, int]:
    """Set how an asset is watched; its version, mode and number of prompt fragments.

    Args:
        prompts: texts that must not leak, replacing those registered; None keeps them. Only keyed hashes are stored.

    Raises:
        NoSuchAsset, PreconditionFailed
    """
    # Two changes of one version must not both find it: the asset's row is what they queue for.
    await store.lock(tx, asset_id)
    watched = await store.watched(tx, asset_id)
    if watched is None or not caller.sees(watched.asset.owner_team):
        raise NoSuchAsset(f"there is no asset {asset_id}")
    check_version(watched.version, expected)
    fragments = watched.fragments
    if prompts is not None:
        fragments = tuple(fragment for text in prompts for fragment in fragments_of(text, key))
    version = watched.version + 1
    await store.put_watch(tx, asset_id, version, mode, fragments, now, caller.subject)
    await audit.record(
        tx,
        caller,
        action="asset.watched",
        target=str(asset_id),
        detail={"mode": mode.value, "fragments": len(fragments)},
        owner_team=watched.asset.owner_team,
    )
    return version, mode, len(fragments)
